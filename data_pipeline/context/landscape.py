"""A signal along the genome of one line, as its integral from the start of each chromosome.

A mean over any stretch is then two look-ups, whatever the signal came from: bins of a track, peaks, or the equations of
a pair table. Between its points the integral is linear, so the signal is a step function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Landscape:
    """Signals of one line on one chromosome."""

    points: Positions
    """(n,) ascending positions in bp, n >= 2; outside of them the signals are 0."""
    integral: NDArray[np.float64]
    """(n, S) integral of each signal from the first point, in signal x bp; ascending along n."""

    def mass(self, start: Positions, end: Positions) -> NDArray[np.float64]:
        """(k, S) integral of the signals over [start, end), each (k,) bp."""
        # Rounding may leave a mass of nothing a little below 0.
        return np.maximum(self._at(end) - self._at(start), 0.0)

    def density(self, start: Positions, end: Positions) -> NDArray[np.float64]:
        """(k, S) mean of the signals over [start, end); 0 where it is empty."""
        length = np.maximum(end - start, 1)[:, None]
        return self.mass(start, end) / length

    def bins(self, width: int) -> NDArray[np.float64]:
        """(b, S) integral over consecutive bins of `width` bp from position 0 to behind the last point."""
        edges = np.arange(0, int(self.points[-1]) + 2 * width, width)
        return self.mass(edges[:-1], edges[1:])

    def alone(self, column: int) -> Landscape:
        """The signal of `column` alone."""
        return Landscape(self.points, self.integral[:, [column]])

    @staticmethod
    def joined(parts: list[Landscape | None]) -> Landscape:
        """One landscape of several with one signal each, one of them at least not None; None is 0 throughout."""
        points = np.unique(np.concatenate([part.points for part in parts if part is not None]))
        columns = [np.zeros(len(points)) if part is None else part._at(points)[:, 0] for part in parts]
        return Landscape(points, np.stack(columns, axis=1))

    def _at(self, position: Positions) -> NDArray[np.float64]:
        left = np.clip(np.searchsorted(self.points, position, side="right") - 1, 0, len(self.points) - 2)
        span = self.points[left + 1] - self.points[left]
        share = np.clip((position - self.points[left]) / span, 0.0, 1.0)[:, None]
        return self.integral[left] * (1 - share) + self.integral[left + 1] * share


def stepwise(start: Positions, end: Positions, value: NDArray[np.float64], grid: int) -> Landscape:
    """The landscape of one signal that is the sum of `value` (k,) over stretches [start, end), each (k,) bp, k >= 1.

    Its integral is exact at multiples of `grid` bp and linear in between, so that its size does not grow with k.
    """
    cells = int(end.max()) // grid + 1
    place = np.concatenate([start, end])
    change = np.concatenate([value, -value])
    cell, inside = place // grid, place % grid
    # Sums are per cell: sums of value x place over a chromosome would lose the small to the large.
    partial = np.bincount(cell, change * (grid - inside), minlength=cells)
    level = np.cumsum(np.bincount(cell, change, minlength=cells))
    mass = partial + grid * np.concatenate([[0.0], level[:-1]])
    reached = np.concatenate([[0.0], np.cumsum(np.maximum(mass, 0.0))])
    return Landscape(grid * np.arange(cells + 1), reached[:, None])
