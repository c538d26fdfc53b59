"""How a promoter compares with the other annotated promoters within reach of the enhancer, signal by signal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_pipeline.context.scene import NEIGHBOURHOOD, Column, Scene, signal

SIGNALS = (
    ("CTCF",), ("DNase",), ("H3K27ac",), ("H3K27me3",), ("H3K36me3",), ("H3K4me3",),
    ("DNase", "H3K4me3"), ("DNase", "H3K27ac"),
)  # fmt: skip
"""Single marks, and geometric means of two."""
HALF = 1000
"""Bases on either side of a TSS over which its signals are averaged."""
COLUMNS = tuple(Column(f"{'_'.join(marks)}_{what}", marks) for what in ("rank", "over_strongest") for marks in SIGNALS)


def promoter_rank(scene: Scene) -> NDArray[np.float64]:
    """(k, 16) share of the neighbours that are weaker, then the ratio to the strongest, in the order of `COLUMNS`."""
    places, genes = scene.places, scene.genes
    of_genes, own = _signals(scene, genes), _signals(scene, places.tss)
    first = np.searchsorted(genes, places.centre - NEIGHBOURHOOD, side="left")
    last = np.searchsorted(genes, places.centre + NEIGHBOURHOOD, side="right")
    result = np.empty((len(first), len(COLUMNS)))
    width = own.shape[1]
    # Pairs of one enhancer share their neighbours.
    ranges, where = np.unique(np.stack([first, last], axis=1), axis=0, return_inverse=True)
    for number, (begin, end) in enumerate(ranges):
        rows = np.flatnonzero(where.reshape(-1) == number)
        around, mine = of_genes[begin:end], own[rows]
        count = max(len(around), 1)
        result[rows, :width] = (around[None] < mine[:, None]).sum(axis=1) / count
        strongest = np.maximum(around.max(axis=0, initial=0.0), mine)
        result[rows, width:] = np.divide(mine, strongest, out=np.zeros_like(mine), where=strongest > 0)
    return result


def _signals(scene: Scene, tss: NDArray[np.int64]) -> NDArray[np.float64]:
    """(k, 8) mean signals around `tss`, single marks first."""
    means = scene.landscape.density(tss - HALF, tss + HALF)
    return np.stack(
        [np.prod([means[:, signal(mark)] for mark in marks], axis=0) ** (1 / len(marks)) for marks in SIGNALS], axis=1
    )
