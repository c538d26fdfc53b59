"""Shares of a gene and of an enhancer in what their neighbourhoods offer: activity by contact, as ABC has it.

Contact is the power law of distance; the neighbourhood is the landscape and the annotation, not a list of candidates.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from data_pipeline.context.landscape import Landscape, Positions
from data_pipeline.context.scene import BIN, Column, Scene, signal

EXPONENT, SCALE = -0.87, 5_000
"""Contact is (distance / SCALE + 1)^EXPONENT (Fulco et al. 2019, Nasser et al. 2021)."""
COLUMNS = (
    Column("activity", ("DNase", "H3K27ac")),
    Column("abc", ("DNase", "H3K27ac")),
    Column("contact_share"),
    Column("ctcf_share", ("CTCF",)),
)
_REACH = 100
"""Bins around a gene over which its enhancers' activity x contact is summed (1 Mb)."""
HALF = 15_000
"""Bases on either side of a TSS over which CTCF is averaged."""


def contact(distance: NDArray[np.int64]) -> NDArray[np.float64]:
    """Power law of `distance` (...,) bp."""
    return np.power(np.asarray(distance) / SCALE + 1.0, EXPONENT)


def activity(scene: Scene) -> NDArray[np.float64]:
    """(k, 4) numbers of each pair, in the order of `COLUMNS`.

    Activity of the enhancer, sqrt(DNase x H3K27ac) x its length; that times contact, over its sum in 10 kb bins within
    1 Mb of the gene; contact over that of all annotated TSSs within 500 kb of the enhancer; CTCF at the TSS over that
    of all of them. What is compared is added to what it is compared with, wherever it lies: no share is above 1.
    """
    places, genes, landscape = scene.places, scene.genes, scene.landscape
    dnase, acetyl, ctcf = (signal(mark) for mark in ("DNase", "H3K27ac", "CTCF"))
    mass = landscape.mass(places.enhancer_start, places.enhancer_end)
    own = np.sqrt(mass[:, dnase] * mass[:, acetyl])
    reached = contact(places.distance)
    near, there = scene.neighbours()
    apart = np.abs(genes[near] - places.centre[:, None])
    touch = np.where(there, contact(apart), 0.0).sum(axis=1)
    at_genes = _around(landscape, genes)[:, ctcf]
    bound = np.where(there, at_genes[near], 0.0).sum(axis=1)
    mine = _around(landscape, places.tss)[:, ctcf]
    return np.stack(
        [
            own,
            _share(own * reached, _offered(scene)),
            _share(reached, touch),
            _share(mine, bound),
        ],
        axis=1,
    )


def _offered(scene: Scene) -> NDArray[np.float64]:
    """(k,) activity x contact of all bins around the gene of each pair."""
    bins = scene.landscape.bins(BIN)
    active = np.sqrt(bins[:, signal("DNase")] * bins[:, signal("H3K27ac")])
    gene, of_pair = np.unique(scene.places.tss, return_inverse=True)
    index = gene[:, None] // BIN + np.arange(-_REACH, _REACH + 1)
    there = (index >= 0) & (index < len(active))
    apart = np.abs(index * BIN + BIN // 2 - gene[:, None])
    weighed = np.where(there, active[np.clip(index, 0, len(active) - 1)], 0.0) * contact(apart)
    return cast(NDArray[np.float64], weighed.sum(axis=1)[of_pair])


def _around(landscape: Landscape, tss: Positions) -> NDArray[np.float64]:
    return landscape.density(tss - HALF, tss + HALF)


def _share(part: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """`part` of itself and others; 0 where there is nothing."""
    return np.divide(part, part + others, out=np.zeros_like(part), where=part > 0)
