"""Mean signals beside the elements and along the window between them, oriented from enhancer to promoter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_pipeline.context.landscape import Positions
from data_pipeline.context.scene import Column, Scene, signal

SIGNALS = ("CTCF", "DNase", "H3K27ac", "H3K4me3", "H3K9me3")
WIDTHS = (10_000, 25_000, 100_000)
PARTS = 5
"""Equal parts that the window is cut into."""
COLUMNS = tuple(
    Column(f"{mark}_{where}", (mark,))
    for where in (
        *(f"{side}_{element}_{width // 1000}kb" for element in ("promoter", "enhancer") for width in WIDTHS
          for side in ("beyond", "before")),
        *(f"window_{part + 1}" for part in range(PARTS)),
    )
    for mark in SIGNALS
)  # fmt: skip


def flanks(scene: Scene) -> NDArray[np.float64]:
    """(k, 85) mean signals, in the order of `COLUMNS`; "beyond" leads away from the other element."""
    places, columns = scene.places, [signal(mark) for mark in SIGNALS]
    found = []

    def mean(start: Positions, end: Positions) -> None:
        found.append(scene.landscape.density(np.minimum(start, end), np.maximum(start, end))[:, columns])

    for place, away in ((places.tss, places.outward), (places.centre, -places.outward)):
        for width in WIDTHS:
            mean(place, place + away * width)
            mean(place, place - away * width)
    for part in range(PARTS):
        cuts = [places.centre + places.outward * (places.distance * cut // PARTS) for cut in (part, part + 1)]
        mean(*cuts)
    return np.concatenate(found, axis=1)
