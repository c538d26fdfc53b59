"""Where a pair stands among annotated genes: how many lie between, and who is nearer.

Order comes from the annotation and never from the promoters of a table: which ones a benchmark lists tells its label.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_pipeline.context.landscape import Positions
from data_pipeline.context.scene import OWN, Column, Scene

FARTHEST = 1_000_000
"""A gap is never told as larger, in bp."""
COLUMNS = tuple(
    map(Column, ("between", "nearer_to_enhancer", "nearer_to_promoter", "gap_beyond_promoter", "gap_before_promoter"))
)


def gene_order(scene: Scene) -> NDArray[np.float64]:
    """(k, 5) numbers of each pair, in the order of `COLUMNS`."""
    places, genes = scene.places, scene.genes
    centre, tss, distance = places.centre, places.tss, places.distance
    low, high = np.minimum(centre, tss), np.maximum(centre, tss)
    below, above = _gap(genes, tss, -1), _gap(genes, tss, +1)
    right = places.outward > 0
    return np.stack(
        [
            _others_within(genes, low, high, tss),
            _others_within(genes, centre - distance, centre + distance, tss),
            _others_within(genes, tss - distance, tss + distance, tss),
            np.where(right, above, below),
            np.where(right, below, above),
        ],
        axis=1,
    ).astype(np.float64)


def _others_within(genes: Positions, low: Positions, high: Positions, tss: Positions) -> Positions:
    """(k,) annotated TSSs other than the pair's own in the open intervals (low, high)."""
    own = _within(genes, np.maximum(low, tss - OWN - 1), np.minimum(high, tss + OWN + 1))
    return _within(genes, low, high) - own


def _within(genes: Positions, low: Positions, high: Positions) -> Positions:
    """(k,) annotated TSSs in the open intervals (low, high)."""
    return np.maximum(np.searchsorted(genes, high, side="left") - np.searchsorted(genes, low, side="right"), 0)


def _gap(genes: Positions, tss: Positions, side: int) -> Positions:
    """(k,) bp to the next other annotated TSS at lower (-1) or higher (+1) positions."""
    if not len(genes):
        return np.full(len(tss), FARTHEST)
    if side < 0:
        index = np.searchsorted(genes, tss - OWN, side="left") - 1
        gap = tss - genes[np.maximum(index, 0)]
    else:
        index = np.searchsorted(genes, tss + OWN, side="right")
        gap = genes[np.minimum(index, len(genes) - 1)] - tss
    return np.where((index >= 0) & (index < len(genes)), np.minimum(gap, FARTHEST), FARTHEST)
