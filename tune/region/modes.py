"""Modes of a categorical setting against each other, on the same lines and seeds.

Two questions per pair of modes. Untuned: the mean over each mode's points, what a user gets who picks the mode and
nothing else. Tuned: each mode's best point. The best of many points is lucky, and luckier the more points there were,
which smoothing alone does not undo; so per line the point is chosen by all the others, and the line judges it: no score
judges a choice it had a say in.
Differences are paired per line, averaged over seeds; intervals and p-values are Student's over lines, and Holm's
correction runs over all pairs of one question. With one line there is no interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student_t

from tune.region.design import Design
from tune.region.estimates import CONFIDENCE, Estimate

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Mode:
    """One value of the categorical setting."""

    value: Any
    """The value."""
    points: int
    """Complete points."""
    untuned: float
    """Mean macro score over its points."""
    tuned: float
    """Macro score of points chosen by the other lines: what tuning gives."""
    best: int
    """Trial number of its best point over all lines."""
    seconds_per_step: float
    """Median over its points; NaN where the table does not say."""


@dataclass(frozen=True)
class Versus:
    """One mode minus another."""

    one: Any
    """Mode."""
    other: Any
    """Mode it is compared with."""
    difference: Estimate
    """Of the macro score, with the interval over lines."""
    p: float
    """Holm-corrected over all pairs; NaN below two lines."""


@dataclass(frozen=True)
class Modes:
    """All modes of one categorical setting."""

    key: str
    """Setting."""
    modes: list[Mode]
    """Best tuned first."""
    untuned: list[Versus]
    """Means over the points of each."""
    tuned: list[Versus]
    """Best points."""
    reason: str
    """Why nothing is compared; empty where it is."""


def compare_modes(design: Design, key: str) -> Modes:
    """The modes of the categorical axis `key`; those with a point at least."""
    values = design.choices.get(key, [])
    names = list(dict.fromkeys(values))
    lines = design.scores.mean(axis=2)
    members = {name: np.array([own == name for own in values]) for name in names}
    known = [name for name in names if not pd.isna(name)]
    if len(known) < 2:
        return Modes(key, [], [], [], f"{len(known)} of the modes of {key} have a complete trial; two are needed")
    untuned = {name: lines[members[name]].mean(axis=0) for name in known}
    tuned = {name: _judged_by_the_others(lines[members[name]]) for name in known}
    modes = [_mode(design, name, members[name], untuned[name], tuned[name]) for name in known]
    modes.sort(key=lambda mode: -mode.tuned)
    order = [mode.value for mode in modes]
    return Modes(key, modes, _pairs(order, untuned, False), _pairs(order, tuned, True), "")


def paired(differences: Floats, chosen: bool = False) -> tuple[Estimate, float]:
    """Mean of `differences` (F,) with its t-interval over lines, and the two-sided p-value; NaN below two lines.

    `chosen` by the other lines: their choices overlap, and the variance is corrected for it (Nadeau and Bengio 2003,
    Machine Learning 52:239).
    """
    mean, count = float(differences.mean()), len(differences)
    if count < 2:
        return Estimate(mean, float("nan"), float("nan")), float("nan")
    error = float(differences.std(ddof=1)) * np.sqrt(1 / count + chosen / (count - 1))
    half = float(student_t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    p = 2 * float(student_t.sf(abs(mean) / error, count - 1)) if error > 0 else float(mean == 0)
    return Estimate(mean, mean - half, mean + half), p


def holm(values: list[float]) -> list[float]:
    """Holm's step-down correction of p-values, in their order; NaN stay NaN and do not count."""
    corrected, worst = list(values), 0.0
    known = sorted((at for at, value in enumerate(values) if np.isfinite(value)), key=lambda at: values[at])
    for rank, at in enumerate(known):
        worst = max(worst, min(1.0, (len(known) - rank) * values[at]))
        corrected[at] = worst
    return corrected


def _mode(design: Design, name: Any, rows: NDArray[np.bool_], untuned: Floats, tuned: Floats) -> Mode:
    taken = np.flatnonzero(rows)
    cost = design.cost[taken] if design.cost is not None else np.empty(0)
    cost = cost[np.isfinite(cost)]
    return Mode(
        value=name,
        points=len(taken),
        untuned=float(untuned.mean()),
        tuned=float(tuned.mean()),
        best=design.numbers[taken[int(design.macro[taken].argmax())]],
        seconds_per_step=float(np.median(cost)) if len(cost) else float("nan"),
    )


def _pairs(names: list[Any], scores: dict[Any, Floats], chosen: bool) -> list[Versus]:
    found = [(one, other, *paired(scores[one] - scores[other], chosen)) for one, other in combinations(names, 2)]
    corrected = holm([p for *_, p in found])
    return [Versus(one, other, value, p) for (one, other, value, _), p in zip(found, corrected, strict=True)]


def _judged_by_the_others(lines: Floats) -> Floats:
    """(F,) what each line gives to the point that the others chose, of a mode's points (N, F)."""
    if lines.shape[1] < 2:
        return np.asarray(lines.max(axis=0), dtype=np.float64)
    others = (lines.sum(axis=1, keepdims=True) - lines) / (lines.shape[1] - 1)
    return lines[others.argmax(axis=0), np.arange(lines.shape[1])]
