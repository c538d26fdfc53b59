"""A number with its interval, and intervals that hold for several numbers at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from scipy.stats import t as student_t

Floats = NDArray[np.float64]
CONFIDENCE = 0.95
"""Of every interval of this room."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval; NaN where it is not known."""

    value: float
    low: float
    high: float

    def __contains__(self, truth: float) -> bool:
        """Whether `truth` lies in the interval."""
        return bool(self.low <= truth <= self.high)


def estimate(value: float, draws: Floats) -> Estimate:
    """`value` with the middle 95% of its finite `draws`, widened to hold the value itself."""
    known = draws[np.isfinite(draws)]
    if not np.isfinite(value) or not len(known):
        return Estimate(float(value), float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(value), float(min(low, value)), float(max(high, value)))


def over_lines(own: Estimate, without: Floats) -> Estimate:
    """`own`, widened by the jackknife's t-interval over lines in quadrature; `without` (F,) are values without each."""
    count = len(without)
    if count < 2 or not np.isfinite(without).all():
        return own
    error = float(np.sqrt((count - 1) * without.var()))
    half = float(student_t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    below, above = (float(np.hypot(end - own.value, half)) for end in (own.low, own.high))
    return Estimate(own.value, own.value - below, own.value + above)


def together(values: Floats, draws: Floats) -> list[Estimate]:
    """`values` (P,) with intervals that hold for all of them at a time in 95% of the `draws` (J, P).

    Rank envelope: a draw is as deep as its most extreme number, and the intervals span the deepest 95%
    (Besag et al. 1995, Statistical Science 10:3, simultaneous credible regions).
    """
    ranks = [np.minimum(rankdata(own, "min"), rankdata(-own, "min")) for own in draws.T]
    depth = np.min(ranks, axis=0)
    kept = draws[depth >= np.quantile(depth, 1 - CONFIDENCE)]
    low, high = np.minimum(kept.min(axis=0), values), np.maximum(kept.max(axis=0), values)
    return [Estimate(*map(float, own)) for own in zip(values, low, high, strict=True)]
