"""What fresh probes read about the cell line off codes z_I, on promoters they were not taught with.

One probe for the monitor of a running training and for the verdict on R91. Elements, not pairs, are split: a promoter's
pairs have codes alike, and where a promoter is used by few lines a probe taught with some of its pairs would know the
line of the others by the promoter, though the codes hold nothing of the line.
Cost: two linear probes and two small networks; a second for some thousand pairs.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from evaluation.intervals import draw_clusters, interval

Floats = NDArray[np.float64]
Lines = NDArray[np.integer[Any]]
Chosen = NDArray[np.bool_]


@dataclass(frozen=True)
class Reading:
    """What was read off n codes, each judged by a probe that saw none of its promoter."""

    told: Floats
    """(n,) log q(line|code) - log p(line) in nats."""
    hit: Chosen
    """(n,) whether the code speaks for its own line more than for every other, whatever the lines' shares."""
    line: Lines
    """(n,)."""

    @property
    def nats(self) -> float:
        """Up to chance a lower bound of I(code; line)."""
        return float(self.told.mean())

    @property
    def above_chance(self) -> float:
        """Mean over the C lines of the share of hits, minus 1/C: 0 where codes hold nothing, 1 - 1/C at most."""
        lines = np.unique(self.line)
        return float(np.mean([self.hit[self.line == own].mean() for own in lines])) - 1 / len(lines)


def read_line(codes: Floats, line: Lines, cluster: Lines, seed: int = 0) -> Reading:
    """Read the line (n,) off codes (n, d): half of the clusters (n,) teach probes that the other half judges, and back.

    Too few pairs to teach a probe with tell nothing.
    """
    names, member = np.unique(cluster, return_inverse=True)
    part = np.random.default_rng(seed).permutation(len(names))[member] % 8
    told, hit = np.zeros(len(codes)), np.zeros(len(codes), dtype=bool)
    for half in (part < 4, part >= 4):
        held = half & (part % 4 == 0)
        told[~half], hit[~half] = _judged(codes, line, half & ~held, held, ~half, seed)
    return Reading(told, hit, line)


def line_information(codes: Floats, line: Lines, cluster: Lines, seed: int = 0) -> tuple[float, float, float]:
    """Nats that `read_line` finds about the line (n,) in codes (n, d), with a 95% interval over clusters (n,).

    What knowing the lines' shares would cost minus the probe's cross-entropy is, up to chance, a lower bound of
    I(code; line).
    """
    found = read_line(codes, line, cluster, seed)
    draws = draw_clusters(cluster, seed=seed)
    ones = np.ones(len(found.told))
    sums, sizes = (np.bincount(draws.codes, weights=weight) @ draws.counts for weight in (found.told, ones))
    low, high = interval(sums / np.maximum(sizes, 1), draws)
    return found.nats, low, high


def _judged(codes: Floats, line: Lines, fit: Chosen, held: Chosen, test: Chosen, seed: int) -> tuple[Floats, Chosen]:
    """`told` and `hit` (tested,) of pairs `test` (n,) bool; q is learnt on `fit` and tempered on `held`.

    A linear probe and a network compete on `held`, where q is also mixed with p as far as that helps, because a probe
    that is sure of itself hides what it knows.
    """
    lines = np.unique(line)
    place = np.searchsorted(lines, line)
    if len(np.unique(line[fit])) < 2 or not held.any():
        return np.zeros(test.sum()), place[test] == 0
    scale = StandardScaler().fit(codes[fit])
    prior = np.log((np.bincount(place[fit], minlength=len(lines)) + 1.0) / (fit.sum() + len(lines)))

    def ratios(probe: Any, chosen: Chosen, share: float) -> Floats:
        log_q = np.repeat(prior[None], chosen.sum(), axis=0)
        seen = np.searchsorted(lines, probe.classes_)
        chances = np.log(np.clip(probe.predict_proba(scale.transform(codes[chosen])), 1e-12, None))
        log_q[:, seen] = share * chances + (1 - share) * prior[seen]
        found: Floats = log_q - logsumexp(log_q, axis=1, keepdims=True) - prior
        return found

    def gained(probe: Any, chosen: Chosen, share: float) -> Floats:
        found: Floats = ratios(probe, chosen, share)[np.arange(chosen.sum()), place[chosen]]
        return found

    best: tuple[float, Any, float] = (-math.inf, None, 0.0)
    for probe in _probes(line[fit], seed):
        with warnings.catch_warnings():
            # A probe cut off early is a weaker probe, not a failure.
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit(scale.transform(codes[fit]), line[fit])
        least = minimize_scalar(
            lambda share, probe=probe: -gained(probe, held, share).mean(), bounds=(0, 1), method="bounded"
        )
        best = max(best, (-float(least.fun), probe, float(least.x)), key=lambda one: one[0])
    found = ratios(best[1], test, best[2])
    return found[np.arange(len(found)), place[test]], found.argmax(axis=1) == place[test]


def _probes(line: Lines, seed: int) -> list[Any]:
    """A linear probe and a network, fit to be taught with pairs of lines (fit,)."""
    _, counts = np.unique(line, return_counts=True)
    # A tenth is set aside to stop the network by, in which every line needs a place.
    early = counts.min() > 1 and len(line) // 10 >= len(counts)
    network = MLPClassifier((32,), alpha=1e-2, max_iter=200, early_stopping=early, random_state=seed)
    return [LogisticRegression(C=0.01, max_iter=200), network]
