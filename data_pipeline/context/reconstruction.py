"""A landscape from a table of pairs whose signals are means over the enhancer, the promoter and what lies between.

Every window between two elements says what the integral F of a signal gains from one end to the other: F(b) - F(a) =
mean x (b - a). Thousands of windows over the same few hundred elements determine F nearly everywhere, so least squares
finds it; the elements' own means (with little weight, because other programs measure them on other intervals) say how
it is inside of them. What no equation tells is pulled towards the mean signal. No label is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray
from scipy.sparse.linalg import splu
from sklearn.isotonic import isotonic_regression

from data_pipeline.context.landscape import Landscape, Positions

ELEMENT_WEIGHT = 0.1
"""Weight of an element's equation over a window's."""
PULL = 1e-3
"""Weight of the pull towards the mean signal, per equation that tells a stretch of its length."""


@dataclass(frozen=True)
class Stretches:
    """Means of signals over k stretches of one chromosome."""

    start: Positions
    """(k,) bp."""
    end: Positions
    """(k,) bp, above `start`."""
    mean: NDArray[np.float64]
    """(k, S) mean signal, NaN where unknown."""

    def of(self, signals: list[int]) -> Stretches:
        """The same stretches with the columns `signals` alone."""
        return Stretches(self.start, self.end, self.mean[:, signals])


def reconstruct(windows: Stretches, elements: Stretches) -> Landscape | None:
    """The landscape that explains `windows`, and `elements` with less weight; None where no stretch is known."""
    weights = np.repeat([1.0, ELEMENT_WEIGHT], [len(windows.start), len(elements.start)])
    start = np.concatenate([windows.start, elements.start])
    end = np.concatenate([windows.end, elements.end])
    mean = np.concatenate([windows.mean, elements.mean])
    known = np.isfinite(mean).all(axis=1) & (end > start)
    start, end, mean, weights = start[known], end[known], mean[known], weights[known]
    if not len(start):
        return None
    points, place = np.unique(np.concatenate([start, end]), return_inverse=True)
    first, last = place[: len(start)], place[len(start) :]
    gain = mean * (end - start)[:, None]
    equations = _differences(first, last, weights, len(points))
    span = np.diff(points).astype(np.float64)
    typical = np.average(mean, axis=0, weights=end - start)
    steps = np.arange(len(span))
    pull = _differences(steps, steps + 1, np.full(len(span), PULL), len(points))
    anchor = sparse.csr_matrix(([1.0], ([0], [0])), shape=(1, len(points)))
    left = sparse.vstack([equations, pull, anchor]).tocsr()
    right = np.concatenate([gain * weights[:, None], PULL * span[:, None] * typical, np.zeros((1, mean.shape[1]))])
    integral = splu((left.T @ left).tocsc()).solve(left.T @ right)
    ascending = np.stack([isotonic_regression(column) for column in integral.T], axis=1)
    return Landscape(points.astype(np.int64), ascending)


def _differences(
    first: NDArray[np.int64], last: NDArray[np.int64], weight: NDArray[np.float64], points: int
) -> sparse.coo_matrix:
    """(k, points) rows that read weight x (F(last) - F(first))."""
    row = np.arange(len(first))
    values, columns = np.concatenate([weight, -weight]), np.concatenate([last, first])
    return sparse.coo_matrix((values, (np.concatenate([row, row]), columns)), shape=(len(first), points))
