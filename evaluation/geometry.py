"""The shape of what was learnt: hull membership, bimodality, and agreement with a planted truth (algorithms.md 10).

Each test says when it cannot say anything: with as many dimensions as lines a new point is outside the hull whatever it
is, a handful of gates cannot show two modes, and canonical correlations of few lines are high by chance, so they stand
beside the value that shuffled lines give. Everything is numpy, deterministic, and costs milliseconds for tens of lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import diptest
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.stats import kurtosis, skew

Floats = NDArray[np.float64]

SUM_WEIGHT = 1e3
"""Weight of the row that makes mixture weights sum to one, relative to the spread of the vertices."""
INSIDE = 1e-6
"""A distance below this share of the vertices' spread is none."""
LEAST_GATES = 48
"""Fewest values in which a dip test finds two well-separated modes reliably."""
BIMODAL = 5 / 9
"""Bimodality coefficient of the uniform distribution."""


@dataclass(frozen=True)
class HullTest:
    """Where U points lie relative to the convex hull of C training points."""

    testable: bool
    """Whether membership can say anything; false where the points have as many dimensions as the hull."""
    reason: str
    """Why not, where not."""
    inside: NDArray[np.bool_]
    """(U,) within the hull."""
    distance: Floats
    """(U,) distance to the hull, 0 inside."""
    leave_one_out: Floats
    """(C,) the same distance of each training point from the hull of the others."""

    @property
    def ratio(self) -> Floats:
        """(U,) distance relative to the median of the training points' own; about 1 for a point like the others.

        NaN where that median is 0.
        """
        median = float(np.median(self.leave_one_out)) if len(self.leave_one_out) else 0.0
        return self.distance / median if median > 0 else np.full(len(self.distance), np.nan)

    @property
    def p(self) -> Floats:
        """(U,) share of the training points at least as far out, the point counted among them; NaN if not testable."""
        if not self.testable:
            return np.full(len(self.distance), np.nan)
        as_far = (self.leave_one_out >= self.distance[:, None]).sum(axis=1)
        return (1.0 + as_far) / (len(self.leave_one_out) + 1.0)


def hull_distance(vertices: Floats, point: Floats) -> float:
    """Euclidean distance of `point` (d,) from the convex hull of `vertices` (C, d); 0 inside."""
    centre = vertices.mean(axis=0)
    scale = float(np.abs(vertices - centre).max()) or 1.0
    rows = np.vstack([(vertices - centre).T / scale, np.full((1, len(vertices)), SUM_WEIGHT)])
    mixture, _ = nnls(rows, np.append((point - centre) / scale, SUM_WEIGHT))
    nearest = mixture @ vertices / mixture.sum()
    distance = float(np.linalg.norm(point - nearest))
    return distance if distance > INSIDE * scale else 0.0


def hull_test(training: Floats, points: Floats, components: int | None = None) -> HullTest:
    """Place `points` (U, d) relative to the hull of `training` (C, d).

    In the first `components` principal directions of the training points; None: as they are. min(2, C - 2) components
    keep the test from being empty.
    """
    dimensions = training.shape[1] if components is None else min(components, training.shape[1])
    if dimensions < 1 or dimensions >= len(training) - 1:
        reason = f"{len(training)} points in {dimensions} dimensions leave any new point outside their hull"
        nothing = np.full(len(points), np.nan)
        return HullTest(False, reason, np.zeros(len(points), dtype=bool), nothing, np.empty(0))
    distance = _distances(training, points, components)
    others = [np.delete(training, index, axis=0) for index in range(len(training))]
    own = [_distances(rest, training[index : index + 1], components)[0] for index, rest in enumerate(others)]
    return HullTest(True, "", distance == 0, distance, np.array(own))


def _distances(vertices: Floats, points: Floats, components: int | None) -> Floats:
    if components is not None:
        centre = vertices.mean(axis=0)
        axes = np.linalg.svd(vertices - centre, full_matrices=False)[2][:components].T
        vertices, points = (vertices - centre) @ axes, (points - centre) @ axes
    return np.array([hull_distance(vertices, point) for point in points])


@dataclass(frozen=True)
class Bimodality:
    """Whether a sample has two modes."""

    testable: bool
    """Whether there are enough values."""
    bimodal: bool
    """Both tests agree: dip p < 0.05 and coefficient > 5/9."""
    dip: float
    """Hartigan's dip."""
    p: float
    """Its p value under a uniform distribution."""
    coefficient: float
    """(skewness^2 + 1) / (excess kurtosis + 3 (n-1)^2 / ((n-2)(n-3)))."""
    count: int
    """n."""


def bimodality(values: Floats) -> Bimodality:
    """Dip test and bimodality coefficient of `values` (n >= 4); a skewed sample fools the second alone."""
    n = len(values)
    if n < 4 or np.ptp(values) == 0:
        return Bimodality(False, False, float("nan"), float("nan"), float("nan"), n)
    dip, p = diptest.diptest(np.asarray(values, dtype=np.float64))
    correction = 3 * (n - 1) ** 2 / ((n - 2) * (n - 3))
    coefficient = (skew(values, bias=False) ** 2 + 1) / (kurtosis(values, bias=False) + correction)
    both = bool(p < 0.05 and coefficient > BIMODAL)
    return Bimodality(n >= LEAST_GATES, both and n >= LEAST_GATES, float(dip), float(p), float(coefficient), n)


@dataclass(frozen=True)
class Recovery:
    """How well learnt environments agree with planted ones, up to a linear map."""

    correlations: Floats
    """Canonical correlations, largest first."""
    chance: float
    """Mean of the largest one when lines are shuffled."""
    p: float
    """Share of shuffles that reach the largest one, the unshuffled counted among them."""


def canonical_correlations(a: Floats, b: Floats) -> Floats:
    """Canonical correlations of a (N, d) and b (N, q), largest first, at most as many as the lower rank."""
    bases = [_basis(x) for x in (a, b)]
    values: Any = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    return np.clip(values, 0.0, 1.0)


def _basis(x: Floats) -> Floats:
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    return u[:, s > 1e-10 * max(float(s[0]), np.finfo(float).tiny)]


def recovery(learnt: Floats, planted: Floats, components: int = 2, shuffles: int = 999, seed: int = 0) -> Recovery:
    """Agreement of learnt z_E (C, d) with planted factors (C, q), one row per line.

    z_E is first reduced to its `components` main directions: with as many as lines any two sets agree perfectly.
    """
    u, s, _ = np.linalg.svd(learnt - learnt.mean(axis=0), full_matrices=False)
    reduced = u[:, :components] * s[:components]
    found = canonical_correlations(reduced, planted)
    rng = np.random.default_rng(seed)
    by_chance = np.array(
        [_largest(reduced, planted[rng.permutation(len(planted))]) for _ in range(shuffles)], dtype=np.float64
    )
    reached = 1 + int((by_chance >= _largest(reduced, planted) - 1e-12).sum())
    return Recovery(found, float(by_chance.mean()), reached / (shuffles + 1))


def _largest(a: Floats, b: Floats) -> float:
    found = canonical_correlations(a, b)
    return float(found[0]) if len(found) else 0.0
