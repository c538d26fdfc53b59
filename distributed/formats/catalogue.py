"""What a store's elements are called outside: genes, transcription start sites, and which enhancers are promoters.

A store keeps the interval of a promoter and the distance of each pair, not the TSS the distance was measured from. Of
a promoter without an interval of its own the TSS is the centre; of one with an interval that lies unevenly around the
TSS (BENGI: 1,500 bp before, 500 bp behind) it is found again from the distances, exactly. One pass over the pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_pipeline.sources import UNPLACED
from data_pipeline.store import ElementTable, Store

PAIRS_AT_A_TIME = 1 << 20


@dataclass(frozen=True)
class Catalogue:
    """Genes and places of the elements of a store."""

    symbols: list[str]
    """(P,) gene symbol of each promoter; empty where no source told one."""
    gene_ids: list[str]
    """(P,) Ensembl gene identifier of each promoter; empty where no source told one."""
    targets: list[str]
    """(P,) what a promoter is called as a target: gene symbol, else Ensembl identifier, else its own name."""
    tss: NDArray[np.int64]
    """(P,) 0-based transcription start site, -1 of a promoter without a place."""
    gene: NDArray[np.int64]
    """(P,) number of the promoter's gene: promoters of one target on one chromosome are of one gene."""
    is_promoter: NDArray[np.bool_]
    """(U,) whether an enhancer overlaps the interval of any promoter of the store."""
    placed: dict[str, NDArray[np.bool_]]
    """Of enhancers (U,) and of promoters (P,): whether they have coordinates."""

    @classmethod
    def of(cls, store: Store) -> Catalogue:
        """Read a store's elements and the distances of its pairs."""
        promoters = store.promoters
        symbols, gene_ids = promoters.genes, promoters.gene_ids
        targets = [s or i or n for s, i, n in zip(symbols, gene_ids, promoters.names, strict=True)]
        places = {kind: _placed(table) for kind, table in (("enhancer", store.enhancers), ("promoter", promoters))}
        known = [i or s or n for s, i, n in zip(symbols, gene_ids, promoters.names, strict=True)]
        _, gene = np.unique([f"{chrom}\t{own}" for chrom, own in zip(promoters.chrom, known, strict=True)],
                            return_inverse=True)  # fmt: skip
        tss = np.where(places["promoter"], start_sites(store), -1)
        return cls(symbols, gene_ids, targets, tss, gene.astype(np.int64), _overlapping(store), places)

    def overlaps_own_promoter(self, store: Store, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(k,) whether the enhancer of pair `rows` (k,) overlaps the promoter it is paired with."""
        enhancers, promoters = store.enhancers, store.promoters
        e, p = store.pairs.enhancer[rows], store.pairs.promoter[rows]
        placed = self.placed["enhancer"][e] & self.placed["promoter"][p]
        same = placed & (enhancers.chrom[e] == promoters.chrom[p])
        overlap: NDArray[np.bool_] = (
            same & (enhancers.start[e] < promoters.end[p]) & (enhancers.end[e] > promoters.start[p])
        )
        return overlap


def start_sites(store: Store) -> NDArray[np.int64]:
    """(P,) the point of each promoter that the distances of all its pairs are measured from.

    A distance d from an enhancer's centre c leaves c - d and c + d; a promoter's first pair names two candidates, its
    others rule one out. Where both remain, or none does, it is the one inside the interval, else the interval's centre.
    """
    pairs, promoters = store.pairs, store.promoters
    centre = (store.enhancers.start.astype(np.int64) + store.enhancers.end) // 2
    candidates = np.full((len(promoters), 2), -1, dtype=np.int64)
    begun = np.zeros(len(promoters), dtype=bool)
    possible = np.ones((len(promoters), 2), dtype=bool)
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
    interval = (promoters.start.astype(np.int64) + promoters.end) // 2
    fit = possible & begun[:, None]
    fit = np.where((fit.sum(axis=1) == 2)[:, None], fit & inside, fit)
    nearest = np.where(fit, np.abs(candidates - interval[:, None]), np.iinfo(np.int64).max).argmin(axis=1)
    found: NDArray[np.int64] = np.where(
        fit.any(axis=1), np.take_along_axis(candidates, nearest[:, None], axis=1)[:, 0], interval
    )
    return found


def _placed(table: ElementTable) -> NDArray[np.bool_]:
    unplaced = table.chrom_names.index(UNPLACED) if UNPLACED in table.chrom_names else -1
    return np.asarray(table.chrom) != unplaced


def _overlapping(store: Store) -> NDArray[np.bool_]:
    """(U,) enhancers that overlap a promoter: those begun before its end less those ended before its start."""
    enhancers, promoters = store.enhancers, store.promoters
    found = np.zeros(len(enhancers), dtype=bool)
    for chrom in np.unique(enhancers.chrom[_placed(enhancers)]):
        mine, theirs = np.flatnonzero(enhancers.chrom == chrom), np.flatnonzero(promoters.chrom == chrom)
        starts, ends = np.sort(promoters.start[theirs]), np.sort(promoters.end[theirs])
        begun = np.searchsorted(starts, enhancers.end[mine], side="left")
        ended = np.searchsorted(ends, enhancers.start[mine], side="right")
        found[mine] = begun > ended
    return found
