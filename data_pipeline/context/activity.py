"""Shares of a gene and of an enhancer in what their neighbourhoods offer: activity by contact, as ABC has it.

Contact is the power law of distance; the neighbourhood is the landscape and the annotation, not a list of candidates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_pipeline.context.scene import BIN, NEIGHBOURHOOD, Column, Scene, signal

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


def contact(distance: NDArray[np.int64]) -> NDArray[np.float64]:
    """Power law of `distance` (...,) bp."""
    return np.power(np.asarray(distance) / SCALE + 1.0, EXPONENT)


def activity(scene: Scene) -> NDArray[np.float64]:
    """(k, 4) numbers of each pair, in the order of `COLUMNS`.

    Activity of the enhancer, sqrt(DNase x H3K27ac) x its length; that times contact over its sum within 1 Mb of the
    gene; contact over the contact of all annotated TSSs within 500 kb of the enhancer; CTCF at the TSS over theirs.
    """
    places, genes, landscape = scene.places, scene.genes, scene.landscape
    dnase, acetyl, ctcf = (signal(mark) for mark in ("DNase", "H3K27ac", "CTCF"))
    mass = landscape.mass(places.enhancer_start, places.enhancer_end)
    own = np.sqrt(mass[:, dnase] * mass[:, acetyl])
    bins = landscape.bins(BIN)
    active = np.sqrt(bins[:, dnase] * bins[:, acetyl])
    gene, where = np.unique(places.tss, return_inverse=True)
    index = gene[:, None] // BIN + np.arange(-_REACH, _REACH + 1)
    there = (index >= 0) & (index < len(active))
    apart = np.abs(index * BIN + BIN // 2 - gene[:, None])
    offered = (np.where(there, active[np.clip(index, 0, len(active) - 1)], 0.0) * contact(apart)).sum(axis=1)[where]
    taken = own * contact(places.distance)
    enhancer, place = np.unique(places.centre, return_inverse=True)
    first = np.searchsorted(genes, enhancer - NEIGHBOURHOOD, side="left")
    last = np.searchsorted(genes, enhancer + NEIGHBOURHOOD, side="right")
    at_genes = landscape.density(genes - 15_000, genes + 15_000)[:, ctcf]
    touch = np.array([contact(np.abs(genes[a:b] - e)).sum() for e, a, b in zip(enhancer, first, last, strict=True)])
    bound = np.array([at_genes[a:b].sum() for a, b in zip(first, last, strict=True)])
    mine = landscape.density(places.tss - 15_000, places.tss + 15_000)[:, ctcf]
    reached = contact(places.distance)
    return np.stack(
        [
            own,
            taken / (offered + taken + 1e-12),
            reached / (touch[place] + reached),
            mine / (bound[place] + mine + 1e-12),
        ],
        axis=1,
    )
