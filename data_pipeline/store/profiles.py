"""The profile of a pair: the landscape of its line along the way from behind the enhancer to beyond the promoter.

Bins are stored once per line and chromosome, and profiles are cut from them as pairs are read: a few look-ups in a
memory-mapped table, for all pairs at once. All profiles of one shape are equally long, whatever the distance: a window
of more bins than there are columns for has several bins to a column, with their largest and their mean value, so that
the strongest of what lies between is never lost; a shorter one is followed by columns where nothing is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipeline.store.columns import Columns

MASKS = ("bins", "enhancer", "promoter", "between")
"""What follows the values of a profile's column: how many bins it stands for, 0 where nothing is there, and whether it
is the enhancer's, the promoter's (both may be one), or between them."""


def columns_of(shape: tuple[int, int]) -> int:
    """L, columns of profiles with `around` bins at either end and at most `between` columns for the window."""
    around, between = shape
    return 2 * around + between + 2


class Profiles:
    """Profiles of the pairs of a store that has landscapes."""

    def __init__(self, bins: Columns, pairs: Columns) -> None:
        """Wrap the tables `landscape` and `pairs`."""
        self._bins, self._pairs = bins, pairs
        line, chrom = (bins.full(name) for name in ("line", "chrom"))
        starts = np.flatnonzero((np.diff(line, prepend=-1) != 0) | (np.diff(chrom, prepend=-1) != 0))
        self._starts = np.append(starts, len(bins))

    def cut(self, rows: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.float32]:
        """(k, L, 2 W + 4) float32 profiles of pairs `rows` (k,); `shape` is (bins around, columns between).

        Columns go from `around` bins behind the enhancer (column `around`) to as many beyond the promoter, whichever
        way that is on the chromosome. In each: the largest value of the W tracks over its bins, NaN where unknown,
        their mean, and `MASKS`. Where nothing is there (the end of the chromosome, the rest of a short window, all of a
        pair whose line has no landscape there) everything is 0.
        """
        around, _ = shape
        own, towards, steps = self._ways(rows)
        offset, promoter = _offsets(steps, shape)
        column = np.arange(columns_of(shape)) - around
        there = (own >= 0)[:, None] & (column <= (promoter + around)[:, None])
        segment = np.searchsorted(self._starts, own, side="right")[:, None] - 1
        place = own[:, None] + towards[:, None] * offset[:, :-1]
        there &= (place >= self._starts[segment]) & (place < self._starts[segment + 1])
        pair, at = np.nonzero(there)
        bins = (offset[:, 1:] - offset[:, :-1])[pair, at]
        largest, mean = self._pooled(own[pair] + towards[pair] * offset[pair, at], towards[pair], bins)
        width = largest.shape[1]
        profile = np.zeros((len(rows), len(column), 2 * width + len(MASKS)), dtype=np.float32)
        profile[pair, at, :width], profile[pair, at, width:-4] = largest, mean
        ends = (column == 0, column == promoter[:, None], (column > 0) & (column < promoter[:, None]))
        profile[pair, at, -4] = bins
        for number, end in enumerate(ends):
            profile[..., number - 3] = there & end
        return profile

    def _ways(self, rows: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(k,) each: the enhancer's row among the bins (-1: none), +-1 towards the promoter, bins to the promoter's."""
        enhancer, promoter, outward = (
            self._pairs.take(name, rows).astype(np.int64) for name in ("enhancer_bin", "promoter_bin", "outward")
        )
        return enhancer, outward, np.abs(promoter - enhancer)

    def _pooled(
        self, first: NDArray[np.int64], towards: NDArray[np.int64], bins: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Largest and mean values (v, W) of `bins` (v,) rows of the table from `first` (v,) on, up or down."""
        starts = np.cumsum(bins) - bins
        if not len(bins) or starts[-1] + bins[-1] == len(bins):
            values = self._bins.take("values", first)
            return values, values
        within = np.arange(starts[-1] + bins[-1]) - np.repeat(starts, bins)
        values = self._bins.take("values", np.repeat(first, bins) + np.repeat(towards, bins) * within)
        mean = np.add.reduceat(values, starts) / bins[:, None]
        return np.maximum.reduceat(values, starts), mean.astype(np.float32)


def _offsets(steps: NDArray[np.int64], shape: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bins (k, L + 1) from the enhancer to where each column begins, and (k,) columns to the promoter's.

    `steps` (k,) bins lie from the enhancer's to the promoter's.
    """
    around, between = shape
    promoter = np.minimum(steps, between + 1)
    column = np.arange(columns_of(shape) + 1) - around
    inside = np.maximum(steps - 1, 0)[:, None]
    spread = 1 + (column - 1) * inside // np.maximum(promoter - 1, 1)[:, None]
    beyond = steps[:, None] + column - promoter[:, None]
    return np.where(column <= 0, column, np.where(column >= promoter[:, None], beyond, spread)), promoter
