"""A line's landscape on a chromosome as bins to store, from which the profile of any pair is cut when it is needed.

Bins are stored once per line and chromosome and a pair only says which are its own, so a store does not grow with pairs
x bins. No label is read, and genes come from the annotation, as everywhere in this room.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_pipeline.context.names import MARKS
from data_pipeline.context.scene import BIN, Scene

TRACKS = (*MARKS, "TSS")
"""What is known of a bin: mean density of each mark, and number of annotated TSSs."""


@dataclass(frozen=True)
class Bins:
    """Consecutive bins of `BIN` bp of one line on one chromosome, and where its k pairs lie among them."""

    first: int
    """Number of the first bin; bin b holds the bases from b x BIN on."""
    values: NDArray[np.float32]
    """(b, len(TRACKS)), NaN where unknown."""
    enhancer: NDArray[np.int64]
    """(k,) row of the bin with the enhancer's middle."""
    promoter: NDArray[np.int64]
    """(k,) row of the bin with the TSS."""
    outward: NDArray[np.int64]
    """(k,) +1 where the promoter lies at higher positions, -1 where at lower ones, in the same bin too."""


def binned(scene: Scene, measured: Collection[str], annotated: bool) -> Bins:
    """The bins from the first to the last place that the landscape or a pair of the scene is known to be at.

    Marks outside `measured` are NaN, and so are TSSs where there is no annotation.
    """
    places = scene.places
    ends = scene.landscape.points[[0, -1]] if measured else places.tss[:0]
    known = np.concatenate([places.centre, places.tss, ends]) // BIN
    first, last = int(max(known.min(), 0)), int(known.max())
    edges = np.arange(first, last + 2) * BIN
    density = scene.landscape.mass(edges[:-1], edges[1:]) / BIN
    genes = np.diff(np.searchsorted(scene.genes, edges, side="left"))[:, None]
    values = np.concatenate([density, genes], axis=1).astype(np.float32)
    known_tracks = {*measured, *(["TSS"] if annotated else [])}
    values[:, [name not in known_tracks for name in TRACKS]] = np.nan
    return Bins(first, values, places.centre // BIN - first, places.tss // BIN - first, places.outward)
