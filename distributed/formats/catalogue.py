"""What a store's elements are called outside: genes, transcription start sites, and which enhancers are promoters.

A store keeps the interval of a promoter and the distance of each pair, not the TSS the distance was measured from. Of
a promoter without an interval of its own the TSS is the centre; of one with an interval that lies unevenly around the
TSS (BENGI: 1,500 bp before, 500 bp behind) it is found again from the distances, exactly. One pass over the pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_pipeline.sources import UNPLACED
from data_pipeline.store import ElementTable, PairTable, Store

PAIRS_AT_A_TIME = 1 << 20


@dataclass(frozen=True)
class Places:
    """Where the n elements of one kind lie; read once, because a store puts its shards together at every call."""

    chrom: NDArray[np.int16]
    """(n,) index into the store's chromosomes."""
    start: NDArray[np.int64]
    """(n,) first base."""
    end: NDArray[np.int64]
    """(n,) one past the last base."""
    strand: NDArray[np.int8]
    """(n,) 1 plus, -1 minus, 0 unknown."""
    known: NDArray[np.bool_]
    """(n,) whether there are coordinates at all."""

    @classmethod
    def of(cls, table: ElementTable) -> Places:
        """The places of a store's enhancers or promoters."""
        unplaced = table.chrom_names.index(UNPLACED) if UNPLACED in table.chrom_names else -1
        chrom = np.array(table.chrom)
        start, end = table.start.astype(np.int64), table.end.astype(np.int64)
        return cls(chrom, start, end, np.array(table.strand), chrom != unplaced)


@dataclass(frozen=True)
class Catalogue:
    """Genes and places of the elements of a store."""

    enhancers: Places
    """Of U enhancers."""
    promoters: Places
    """Of P promoters."""
    symbols: list[str]
    """(P,) gene symbol of each promoter; empty where no source told one."""
    gene_ids: list[str]
    """(P,) Ensembl gene identifier of each promoter; empty where no source told one."""
    targets: pa.Array
    """(P,) string: what a promoter is called as a target: gene symbol, else Ensembl identifier, else its own name."""
    tss: NDArray[np.int64]
    """(P,) 0-based transcription start site, -1 of a promoter without a place."""
    gene: NDArray[np.int64]
    """(P,) number of the promoter's gene: promoters of one target on one chromosome are of one gene."""
    is_promoter: NDArray[np.bool_]
    """(U,) whether an enhancer overlaps the interval of any promoter of the store."""

    @classmethod
    def of(cls, store: Store) -> Catalogue:
        """Read a store's elements and the distances of its pairs."""
        enhancers, promoters = Places.of(store.enhancers), Places.of(store.promoters)
        symbols, gene_ids, names = store.promoters.genes, store.promoters.gene_ids, store.promoters.names
        targets = [s or i or n for s, i, n in zip(symbols, gene_ids, names, strict=True)]
        known = [i or s or n for s, i, n in zip(symbols, gene_ids, names, strict=True)]
        _, gene = np.unique([f"{chrom}\t{own}" for chrom, own in zip(promoters.chrom, known, strict=True)],
                            return_inverse=True)  # fmt: skip
        tss = np.where(promoters.known, start_sites(store.pairs, enhancers, promoters), -1)
        overlapping = _overlapping(enhancers, promoters)
        return cls(
            enhancers,
            promoters,
            symbols,
            gene_ids,
            pa.array(targets, pa.string()),
            tss,
            gene.astype(np.int64),
            overlapping,
        )

    def overlaps_own_promoter(self, store: Store, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(k,) whether the enhancer of pair `rows` (k,) overlaps the promoter it is paired with."""
        enhancers, promoters = self.enhancers, self.promoters
        e, p = store.pairs.enhancer[rows], store.pairs.promoter[rows]
        same = enhancers.known[e] & promoters.known[p] & (enhancers.chrom[e] == promoters.chrom[p])
        overlap: NDArray[np.bool_] = (
            same & (enhancers.start[e] < promoters.end[p]) & (enhancers.end[e] > promoters.start[p])
        )
        return overlap


def start_sites(pairs: PairTable, enhancers: Places, promoters: Places) -> NDArray[np.int64]:
    """(P,) the point of each promoter that the distances of all its pairs are measured from.

    A distance d from an enhancer's centre c leaves c - d and c + d; a promoter's first pair names two candidates, its
    others rule one out. Where both remain, or none does, it is the one inside the interval, else the interval's centre.
    """
    centre, count = (enhancers.start + enhancers.end) // 2, len(promoters.start)
    candidates = np.full((count, 2), -1, dtype=np.int64)
    begun = np.zeros(count, dtype=bool)
    possible = np.ones((count, 2), dtype=bool)
    for first in range(0, len(pairs), PAIRS_AT_A_TIME):
        part = slice(first, first + PAIRS_AT_A_TIME)
        known = np.flatnonzero(pairs.distance[part] >= 0) + first
        promoter, distance = pairs.promoter[known], pairs.distance[known].astype(np.int64)
        middle = centre[pairs.enhancer[known]]
        new, place = np.unique(promoter, return_index=True)
        fresh = ~begun[new]
        new, place = new[fresh], place[fresh]
        candidates[new] = np.stack([middle[place] - distance[place], middle[place] + distance[place]], axis=1)
        begun[new] = True
        for side in (0, 1):
            wrong = np.abs(middle - candidates[promoter, side]) != distance
            possible[promoter[wrong], side] = False
    inside = (candidates >= promoters.start[:, None]) & (candidates < promoters.end[:, None])
    interval = (promoters.start + promoters.end) // 2
    fit = possible & begun[:, None]
    fit = np.where((fit.sum(axis=1) == 2)[:, None], fit & inside, fit)
    nearest = np.where(fit, np.abs(candidates - interval[:, None]), np.iinfo(np.int64).max).argmin(axis=1)
    found: NDArray[np.int64] = np.where(
        fit.any(axis=1), np.take_along_axis(candidates, nearest[:, None], axis=1)[:, 0], interval
    )
    return found


def _overlapping(enhancers: Places, promoters: Places) -> NDArray[np.bool_]:
    """(U,) enhancers that overlap a promoter: those begun before its end less those ended before its start."""
    found = np.zeros(len(enhancers.chrom), dtype=bool)
    for chrom in np.unique(enhancers.chrom[enhancers.known]):
        mine, theirs = np.flatnonzero(enhancers.chrom == chrom), np.flatnonzero(promoters.chrom == chrom)
        starts, ends = np.sort(promoters.start[theirs]), np.sort(promoters.end[theirs])
        begun = np.searchsorted(starts, enhancers.end[mine], side="left")
        ended = np.searchsorted(ends, enhancers.start[mine], side="right")
        found[mine] = begun > ended
    return found
