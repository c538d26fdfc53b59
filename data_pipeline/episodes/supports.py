"""Support sets for scoring a cell line: who tells the model about the environment of which pair.

Outside training a support is as large as the line gives, and it shares neither a pair nor an element with the pairs it
serves, as in a training episode. So it is drawn from the pairs that lie apart from all pairs asked about: held-out
stretches of genome leave most of a line apart, and one support then serves every pair of a draw. Where too little is
left, as when all pairs of a line are asked about, they are cut in halves along the genome, which support each other.

No label is read. Of the pairs apart a reserve of twice the support's size is set aside, and every draw takes a part of
it: elements and pairs are encoded once for all draws. Half of a sample lies as far from the whole sample's mean as that
mean lies from the truth (McCarthy 1966), so the spread over draws is what is still unknown about the line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_pipeline.episodes.plan import pairs_apart
from data_pipeline.errors import UserError
from data_pipeline.store import Store

RESERVE = 2048
"""Pairs set aside to draw supports from, where the line has them; more if that is not twice a support."""
_FAIR = 4
"""One in so many of a line's pairs has to lie apart: fewer would be those of rarely used elements, unlike the line."""
_GAIN = 1.25
"""Times as many pairs that lie apart of each half as of the whole, or cutting a piece is not worth another support."""


@dataclass(frozen=True)
class SupportSize:
    """How many pairs a support set has in use."""

    least: int
    """A line that gives fewer is refused."""
    most: int
    """It has no more, however many the line gives."""

    @classmethod
    def exactly(cls, pairs: int) -> SupportSize:
        """Supports of `pairs` pairs, whatever the line gives."""
        return cls(pairs, pairs)


@dataclass(frozen=True)
class Served:
    """Some of the pairs asked about, and the supports they are scored with."""

    positions: NDArray[np.int64]
    """(k,) positions among the pairs asked about."""
    supports: NDArray[np.int64]
    """(draws, m) row numbers, ascending within a draw; none shares an element with the pairs served."""


def draw_supports(
    store: Store, rows: NDArray[np.int64], pool: NDArray[np.int64], size: SupportSize, draws: int, seed: int
) -> list[Served]:
    """Supports from `pool` for the pairs `rows` of one line; the positions served partition `rows`.

    All supports have the same number m of pairs: as many as `size` allows, and at most half of the pairs that lie
    apart, so that draws can differ. Raises `UserError` if `pool` cannot give the least.
    """
    if len(pool) < size.least:
        raise UserError(
            f"{len(pool)} pairs cannot give a support set of {size.least}; lower episodes.support or add pairs"
        )
    rng = np.random.default_rng([seed, len(rows), len(pool)])
    # Another cut in every seed, so that no pair is always beside it.
    order = np.roll(_along_genome(store, rows), int(rng.integers(max(len(rows), 1))))
    pieces = _Cut(store, rows, pool, size.least).pieces(order)
    fewest = min(len(apart) for _, apart in pieces)
    m = max(size.least, min(size.most, fewest // 2))
    served = []
    for positions, apart in pieces:
        reserve = rng.choice(apart, size=min(len(apart), max(2 * m, RESERVE)), replace=False)
        supports = [np.sort(rng.choice(reserve, size=m, replace=False)) for _ in range(draws)]
        served.append(Served(np.sort(positions), np.stack(supports)))
    return served


def support_labels(store: Store, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Labels of support pairs `rows` (...,) as 1, 0 or NaN (unknown): for the labelled protocol, and nothing else."""
    labels = store.pairs.label[rows].astype(np.float32)
    labels[labels < 0] = np.nan
    return labels


class _Cut:
    """Cuts the pairs asked about into pieces, each with enough pairs of the pool that share no element with it."""

    def __init__(self, store: Store, rows: NDArray[np.int64], pool: NDArray[np.int64], least: int) -> None:
        self._store, self._rows, self._pool, self._least = store, rows, pool, least
        self._wanted = max(least, len(pool) // _FAIR)

    def pieces(self, positions: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """(positions, pairs apart from them) of each piece, as few pieces as give what is wanted."""
        return self._cut(positions, self._apart(positions))

    def _cut(
        self, positions: NDArray[np.int64], apart: NDArray[np.int64]
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        if len(apart) >= self._wanted or (len(positions) <= 1 and len(apart) >= self._least):
            return [(positions, apart)]
        if len(positions) <= 1:
            raise UserError(self._too_few(positions))
        halves = np.array_split(positions, 2)
        theirs = [self._apart(half) for half in halves]
        if len(apart) >= self._least and min(map(len, theirs)) < _GAIN * len(apart):
            return [(positions, apart)]
        return [piece for half, own in zip(halves, theirs, strict=True) for piece in self._cut(half, own)]

    def _apart(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        pairs = self._store.pairs
        return pairs_apart(self._pool, self._rows[positions], pairs.enhancer, pairs.promoter)

    def _too_few(self, positions: NDArray[np.int64]) -> str:
        row = self._rows[positions[0]]
        line = self._store.lines[self._store.pairs.line[row]]
        return (
            f"line '{line}' has too few pairs: none of its {len(self._pool)} pairs leaves {self._least} that share no "
            f"element with pair number {row}; lower episodes.support or add pairs of other elements"
        )


def _along_genome(store: Store, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """(k,) positions of `rows` by the place of their promoters; unplaced ones by the order of the table."""
    promoter = store.pairs.promoter[rows]
    return np.lexsort((promoter, store.promoters.start[promoter], store.promoters.chrom[promoter]))
