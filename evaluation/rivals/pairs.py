"""Pairs as the rivals see them: numbers, places and labels, nothing of the model.

Distances are those of the store. Places are middles of elements, because a store keeps elements and no TSS; a promoter
that is a window around its TSS has it there, one that is not (BENGI: 1,500 bp before, 500 behind) is 500 bp off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from data_pipeline.sources import UNPLACED
from data_pipeline.store import ElementTable, Store

CONTEXT = "context:"
"""What the name of a signal holds that tells the pair's neighbourhood and not the pair."""


class NotApplicable(Exception):  # noqa: N818  (a statement about the data, not an error)
    """The data does not allow this rival; the message says why."""


@dataclass(frozen=True)
class Places:
    """Where the elements of a store lie; Ne enhancers and Np promoters, as `PairData` numbers them."""

    enhancer_chrom: NDArray[np.int64]
    """(Ne,) code of the chromosome, -1 where the element has no place."""
    enhancer: NDArray[np.int64]
    """(Ne,) bp, the middle."""
    promoter_chrom: NDArray[np.int64]
    """(Np,) likewise."""
    promoter: NDArray[np.int64]
    """(Np,) bp, the middle."""
    gene: NDArray[np.int64]
    """(Np,) code of the promoter's gene; see `gene_codes`."""


@dataclass(frozen=True)
class PairData:
    """N pairs as a rival sees them; train and test of one call share the numbering of elements."""

    labels: NDArray[np.int8]
    """(N,) 1 interacts, 0 does not; every other value is unknown and is not trained on."""
    distance: NDArray[np.float64]
    """(N,) bp; NaN or negative where unknown."""
    enhancer: NDArray[np.int64]
    """(N,) row of `enhancer_packed`."""
    promoter: NDArray[np.int64]
    """(N,) row of `promoter_packed`."""
    line: NDArray[np.int64]
    """(N,) cell line code."""
    enhancer_packed: NDArray[np.uint8]
    """(Ne, Le/2) packed bases, memory-mapped or not; Le = 0 without sequences."""
    promoter_packed: NDArray[np.uint8]
    """(Np, Lp/2) likewise."""
    signals: NDArray[np.float32]
    """(N, S) line-specific numbers of the pair, NaN where missing; S = 0 without signals."""
    signal_names: tuple[str, ...] = ()
    """(S,) names as `Store.signal_names` has them, or none where nobody asks for a signal by its name."""
    places: Places | None = None
    """Where the elements lie; None where nobody knows."""
    around: Callable[[], PairData] | None = field(default=None, compare=False)
    """All pairs of the same lines, without their labels, for sums over a neighbourhood; None: these pairs are all."""

    def known(self) -> NDArray[np.bool_]:
        """(N,) whether the label is known."""
        return (self.labels == 0) | (self.labels == 1)

    def log_distance(self) -> NDArray[np.float64]:
        """(N,) log(1 + bp), NaN where unknown."""
        distance = np.asarray(self.distance, dtype=np.float64)
        return np.log1p(np.where(distance >= 0, distance, np.nan))


Rival = Callable[[PairData, PairData], NDArray[np.float64]]
"""(training pairs, test pairs) -> (n,) scores of the test pairs, higher means more likely; raises `NotApplicable`."""


def pair_data(store: Store, rows: NDArray[np.int64]) -> PairData:
    """Pairs `rows` (N,) of `store` as the rivals see them."""
    pairs = store.pairs
    enhancer_chrom, enhancer = _places(store.enhancers)
    promoter_chrom, promoter = _places(store.promoters)
    places = Places(enhancer_chrom, enhancer, promoter_chrom, promoter, gene_codes(store.promoters))
    enhancers = store.enhancers.packed(np.arange(len(store.enhancers)))
    promoters = store.promoters.packed(np.arange(len(store.promoters)))

    def taken(chosen: NDArray[np.int64], labels: NDArray[np.int8]) -> PairData:
        return PairData(
            labels=labels,
            distance=pairs.distance[chosen].astype(np.float64),
            enhancer=pairs.enhancer[chosen].astype(np.int64),
            promoter=pairs.promoter[chosen].astype(np.int64),
            line=pairs.line[chosen].astype(np.int64),
            enhancer_packed=enhancers,
            promoter_packed=promoters,
            signals=store.signals(chosen),
            signal_names=tuple(store.signal_names),
            places=places,
        )

    def of_the_lines() -> PairData:
        own = np.flatnonzero(np.isin(pairs.line, np.unique(pairs.line[rows])))
        return taken(own, np.full(own.size, -1, dtype=np.int8))

    return replace(taken(rows, pairs.label[rows]), around=of_the_lines)


def without_context(pairs: PairData) -> PairData:
    """`pairs` without the signals that tell their neighbourhood: what a table of the pairs themselves holds."""
    kept = [column for column, name in enumerate(pairs.signal_names) if CONTEXT not in name]
    return replace(
        pairs,
        signals=pairs.signals[:, kept],
        signal_names=tuple(pairs.signal_names[column] for column in kept),
        around=None if pairs.around is None else lambda: without_context(pairs.around()),  # type: ignore[misc]
    )


def gene_codes(promoters: ElementTable) -> NDArray[np.int64]:
    """(Np,) code of each promoter's gene: its identifier, else its symbol; a promoter without either is a gene."""
    told = zip(promoters.gene_ids, promoters.genes, strict=True)
    names = [identifier or symbol or f"row {row}" for row, (identifier, symbol) in enumerate(told)]
    return np.unique(np.array(names, dtype=np.str_), return_inverse=True)[1].astype(np.int64)


def _places(table: ElementTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Chromosome (n,), -1 where there is none, and middle (n,) of the elements of `table`."""
    nowhere = np.array([name == UNPLACED for name in table.chrom_names], dtype=bool)
    chrom = table.chrom.astype(np.int64)
    middle = (table.start.astype(np.int64) + table.end.astype(np.int64)) // 2
    return np.where(nowhere[chrom], -1, chrom), middle
