"""Slice sampling of a few bounded parameters, one after the other (Neal 2003, Annals of Statistics 31:705)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
WIDTH = 2.0
"""First width of a slice, in logarithms."""
BURN, THIN = 12, 2
"""Sweeps before the first draw is kept, and sweeps from one kept draw to the next."""


def slice_sample(
    log_density: Callable[[Floats], float], start: Floats, bounds: Floats, draws: int, rng: np.random.Generator
) -> Floats:
    """(draws, P) samples of the density within `bounds` (P, 2), begun at `start` (P,)."""
    at, kept = np.clip(start, *bounds.T), []
    value = log_density(at)
    for sweep in range(BURN + THIN * draws):
        for axis in range(len(at)):
            at, value = _step(log_density, at, value, axis, bounds[axis], rng)
        if sweep >= BURN and (sweep - BURN) % THIN == 0:
            kept.append(at.copy())
    return np.array(kept)


def _step(
    log_density: Callable[[Floats], float],
    at: Floats,
    value: float,
    axis: int,
    bounds: Floats,
    rng: np.random.Generator,
) -> tuple[Floats, float]:
    """One coordinate drawn anew from its slice: step out until both ends are below it, then shrink."""
    level = value - rng.exponential()

    def moved(to: float) -> Floats:
        new = at.copy()
        new[axis] = to
        return new

    low = max(at[axis] - WIDTH * rng.random(), bounds[0])
    high = min(low + WIDTH, bounds[1])
    while low > bounds[0] and log_density(moved(low)) > level:
        low = max(low - WIDTH, bounds[0])
    while high < bounds[1] and log_density(moved(high)) > level:
        high = min(high + WIDTH, bounds[1])
    while True:
        new = moved(rng.uniform(low, high))
        found = log_density(new)
        # Equal at the last bit: a slice thinner than rounding would shrink for ever.
        if found > level or high - low < 1e-9:
            return new, found
        low, high = (new[axis], high) if new[axis] < at[axis] else (low, new[axis])
