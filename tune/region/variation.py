"""Two spreads of a two-way table: of a point between training seeds, and of a point between validation lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PointNoise:
    """Noise of one point's macro score."""

    sd: float
    """Standard deviation; NaN where nothing was repeated."""
    freedom: int
    """Degrees of freedom of the estimate; 0 where nothing was repeated."""


def point_noise(scores: Floats) -> PointNoise:
    """Noise of a point's mean over cells, from its seeds, in `scores` (N, F, S).

    What a seed does to all points alike cancels between them (common random numbers). The lines are averaged first, so
    that what a seed does to all lines of a point counts as noise.
    """
    points, _, seeds = scores.shape
    freedom = (points - 1) * (seeds - 1)
    if freedom < 1:
        return PointNoise(float("nan"), 0)
    means = scores.mean(axis=1)
    left = means - means.mean(axis=1, keepdims=True) - means.mean(axis=0) + means.mean()
    return PointNoise(float(np.sqrt((left**2).sum() / freedom / seeds)), freedom)


def tolerance_of(scores: Floats) -> float:
    """One paired standard error of a point's macro score over lines; over seeds where there is one line.

    `scores` is (N, F, S); NaN with one cell or one point. The interaction mean square of points and lines over F.
    """
    own = scores.mean(axis=2) if scores.shape[1] > 1 else scores.mean(axis=1)
    points, columns = own.shape
    if columns < 2 or points < 2:
        return float("nan")
    left = own - own.mean(axis=1, keepdims=True) - own.mean(axis=0) + own.mean()
    return float(np.sqrt((left**2).sum() / ((points - 1) * (columns - 1) * columns)))
