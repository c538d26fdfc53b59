"""Scores averaged over a line's own pairs next to each other: neighbouring elements touch the same neighbours.

Contacts are seen at kilobases and annotated elements at bases, so a pair and its neighbour a few kilobases off are one
question asked twice, and the mean of two answers errs less. No label is read: the neighbours are pairs to be scored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from data_pipeline.store import Store

MOST = 4096
"""Pairs whose neighbours are looked up at a time."""


def smoothed(
    store: Store, rows: NDArray[np.int64], logits: NDArray[np.float32], enhancer: int, promoter: int
) -> NDArray[np.float32]:
    """Mean of `logits` (k, ...) of pairs `rows` (k,) of one line over those within reach of each, itself among them.

    Within reach: on the same chromosomes, the enhancers' middles at most `enhancer` bp apart and the promoters' at most
    `promoter` bp. 0 for both changes nothing but pairs of the same places.
    """
    pairs = store.pairs
    middles = []
    chrom = np.zeros(len(rows), dtype=np.int64)
    for table, index, reach in (
        (store.enhancers, pairs.enhancer[rows], enhancer),
        (store.promoters, pairs.promoter[rows], promoter),
    ):
        middle = (table.start[index].astype(np.float64) + table.end[index]) / 2
        middles.append(middle / max(reach, 0.5))
        chrom = chrom * len(table.chrom_names) + table.chrom[index]
    # Another chromosome is farther than any reach.
    points = np.stack([*middles, 4.0 * chrom], axis=1)
    tree = cKDTree(points)
    flat = logits.reshape(len(rows), -1)
    result = np.empty_like(flat)
    for first in range(0, len(rows), MOST):
        near = tree.query_ball_point(points[first : first + MOST], r=1.0, p=np.inf)
        counts = np.fromiter(map(len, near), dtype=np.int64, count=len(near))
        columns = np.concatenate([np.asarray(own, dtype=np.int64) for own in near])
        starts = np.concatenate([[0], np.cumsum(counts)])
        means = csr_matrix((np.repeat(1.0 / counts, counts), columns, starts), shape=(len(near), len(rows)))
        result[first : first + MOST] = means @ flat
    return result.reshape(logits.shape)
