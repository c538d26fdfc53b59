"""How a promoter compares with the other annotated promoters within reach of the enhancer, signal by signal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_pipeline.context.scene import Column, Scene, signal

SIGNALS = (
    ("CTCF",), ("DNase",), ("H3K27ac",), ("H3K27me3",), ("H3K36me3",), ("H3K4me3",),
    ("DNase", "H3K4me3"), ("DNase", "H3K27ac"),
)  # fmt: skip
"""Single marks, and geometric means of two."""
HALF = 1000
"""Bases on either side of a TSS over which its signals are averaged."""
COLUMNS = tuple(Column(f"{'_'.join(marks)}_{what}", marks) for what in ("rank", "over_strongest") for marks in SIGNALS)


def promoter_rank(scene: Scene) -> NDArray[np.float64]:
    """(k, 16) share of the other promoters that are weaker, then ratio to the strongest, in the order of `COLUMNS`."""
    of_genes, own = _signals(scene, scene.genes), _signals(scene, scene.places.tss)
    genes, there = scene.neighbours()
    count = np.maximum(there.sum(axis=1), 1)
    rank, share = np.empty_like(own), np.zeros_like(own)
    for column in range(own.shape[1]):
        mine = own[:, column]
        around = np.where(there, of_genes[genes, column], 0.0)
        rank[:, column] = (there & (around < mine[:, None])).sum(axis=1) / count
        strongest = np.maximum(around.max(axis=1, initial=0.0), mine)
        np.divide(mine, strongest, out=share[:, column], where=strongest > 0)
    return np.concatenate([rank, share], axis=1)


def _signals(scene: Scene, tss: NDArray[np.int64]) -> NDArray[np.float64]:
    """(k, 8) mean signals around `tss`, single marks first."""
    means = scene.landscape.density(tss - HALF, tss + HALF)
    return np.stack(
        [np.prod([means[:, signal(mark)] for mark in marks], axis=0) ** (1 / len(marks)) for marks in SIGNALS], axis=1
    )
