"""Candidates: every element with every gene whose TSS lies within a window, whatever links them.

Work is by chunks of elements and by searching sorted TSSs, so time and memory follow the number of pairs, of which only
numbers are kept.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from data_pipeline.sources.annotation import Genes
from data_pipeline.sources.field_formats import CandidateTable
from data_pipeline.sources.gene_pairs import MadePairs, runs

ELEMENTS_AT_A_TIME = 4_096
"""A few hundred thousand pairs."""
PROMOTER_HALF = 250
"""Bases to both sides of a TSS that are a gene's own promoter, as in ABC's 500 bp windows."""


def in_slices(elements: pd.DataFrame, size: int = ELEMENTS_AT_A_TIME) -> Iterator[pd.DataFrame]:
    """`elements` in slices of `size` rows, small enough for all their pairs at once."""
    for start in range(0, len(elements), size):
        yield elements.iloc[start : start + size].reset_index(drop=True)


def candidates(elements: pd.DataFrame, genes: Genes, source: CandidateTable) -> MadePairs:
    """The pairs of `elements` (chrom, start, end, row) with `genes`, in the order of elements and then of TSSs."""
    start, end, line = (elements[key].to_numpy(np.int64) for key in ("start", "end", "row"))
    centre = (start + end) // 2
    low, high = np.zeros(len(elements), np.int64), np.zeros(len(elements), np.int64)
    for chrom in elements["chrom"].unique():
        own = np.flatnonzero(elements["chrom"] == chrom)
        of_chrom = genes.on(chrom)
        tss = genes.tss[of_chrom]
        low[own] = of_chrom.start + np.searchsorted(tss, centre[own] - source.window, side="left")
        high[own] = of_chrom.start + np.searchsorted(tss, centre[own] + source.window, side="right")
    element, gene = runs(low, high)
    if not source.own_promoters:
        tss = genes.tss[gene]
        keep = ~((start[element] < tss + PROMOTER_HALF) & (end[element] > tss - PROMOTER_HALF))
        element, gene = element[keep], gene[keep]
    return MadePairs(element, gene, line[element])
