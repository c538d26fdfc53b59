"""The two rules that need no number but places: the nearest gene, and everything within 100 kb.

The nearest gene is looked for among all promoters of the store, of all its lines, which is as good as the annotation
that the store was made from; never among an enhancer's own candidates, whose list can give the labels away.
Cost: two sorts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.rivals.pairs import NotApplicable, PairData

NEAR = 100_000
"""bp."""


def within_100_kb(train: PairData, test: PairData) -> NDArray[np.float64]:
    """1 for a pair at most 100 kb apart, else 0."""
    if not (test.distance >= 0).any():
        raise NotApplicable("no pair of the test set has a known distance")
    return ((test.distance >= 0) & (test.distance <= NEAR)).astype(np.float64)


def nearest_gene(train: PairData, test: PairData) -> NDArray[np.float64]:
    """1 where no promoter of the store is nearer to the enhancer than one of the pair's gene, else 0."""
    places = test.places
    if places is None or (places.enhancer_chrom[test.enhancer] < 0).all() or (places.promoter_chrom < 0).all():
        raise NotApplicable("the store does not say where its elements lie")
    chrom, middle = places.enhancer_chrom[test.enhancer], places.enhancer[test.enhancer]
    placed = places.promoter_chrom >= 0
    of_chrom, position, gene = places.promoter_chrom[placed], places.promoter[placed], places.gene[placed]
    width = int(max(places.promoter_chrom.max(), places.enhancer_chrom.max())) + 1
    nearest = _gap(of_chrom, position, chrom, middle)
    own = _gap(gene * width + of_chrom, position, places.gene[test.promoter] * width + chrom, middle)
    return ((chrom >= 0) & np.isfinite(own) & (own <= nearest)).astype(np.float64)


def _gap(
    stretch: NDArray[np.int64], position: NDArray[np.int64], asked: NDArray[np.int64], at: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(m,) bp from `at` (m,) to the nearest `position` (k,) whose `stretch` (k,) is the one `asked` (m,); inf: none."""
    order = np.lexsort((position, stretch))
    stretch, position = stretch[order], position[order]
    # One key for both, so that a search finds the neighbours within a stretch.
    names, code = np.unique(stretch, return_inverse=True)
    span = int(max(position.max(), at.max(initial=0))) + 1
    place = np.searchsorted(names, asked).clip(max=names.size - 1)
    right = np.searchsorted(code * span + position, place * span + at)
    gap = np.full(at.shape, np.inf)
    for neighbour in (right - 1, right):
        inside = (neighbour >= 0) & (neighbour < position.size)
        index = neighbour.clip(0, position.size - 1)
        same = inside & (stretch[index] == asked)
        gap = np.where(same, np.minimum(gap, np.abs(position[index] - at)), gap)
    return gap
