"""Average precision that does not reward knowing how many candidates an enhancer has.

In tables of candidates nearly every enhancer has a partner, so the prevalence of its pairs is about 1 / (number of its
candidates), and a score that knows gene density alone earns average precision. Two figures do not pay for that:

- **eq**: the P_e positives of an enhancer e weigh .1 / P_e each and its N_e negatives .9 / N_e, so that every enhancer
  counts once and has the prevalence .1, in every line and set alike. A score that is constant within enhancers then has
  .1, whatever it is between them. An enhancer with one class has the weight of that class alone: one without a partner
  can still be ranked wrongly. It is the direct standardisation of epidemiology, with enhancers as strata of one size.
- **within**: the mean over enhancers (or genes) with both classes of the average precision among their own pairs, each
  enhancer counting once whatever its number of pairs. What lies between enhancers does not enter at all.

Ties are grouped in both. In a bootstrap draw the weights of eq stay those of the whole set, and an enhancer counts in
the mean as often as its pairs were drawn on average; where whole chromosomes are drawn both are exact. Cost: a sort.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from evaluation.intervals import ClusterDraws
from evaluation.metrics import average_precision

PREVALENCE = 0.1
"""That every enhancer is weighed to, about that of the tables that people publish on."""


def equal_prevalence_weights(labels: ArrayLike, groups: ArrayLike) -> NDArray[np.float64]:
    """(n,) weights of pairs that give each group the prevalence `PREVALENCE` and the total 1.

    `labels` (n,) are 0/1, `groups` (n,) say whose candidate a pair is (an enhancer of a line); any codes.
    """
    positive = np.asarray(labels) == 1
    group, positives, negatives = _counts(labels, groups)
    # A pair is one of its own class, so no count that is divided by is 0.
    own = np.where(positive, positives[group], negatives[group])
    return np.where(positive, PREVALENCE, 1 - PREVALENCE) / own


def equal_prevalence_precision(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike) -> float:
    """The eq average precision of `scores` (n,); arguments as above; NaN for one class."""
    return average_precision(labels, scores, equal_prevalence_weights(labels, groups))


def groups_with_both_classes(labels: ArrayLike, groups: ArrayLike) -> int:
    """How many of `groups` (n,) hold a 0 and a 1 of `labels` (n,)."""
    _, positives, negatives = _counts(labels, groups)
    return int(np.sum((positives > 0) & (negatives > 0)))


def within_precision(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike) -> float:
    """Mean of the average precision within each of `groups` (n,) that has both classes; NaN where none has."""
    everything = ClusterDraws(np.zeros(np.size(labels), dtype=np.int64), np.ones((1, 1), dtype=np.uint16))
    return float(within_precision_draws(labels, scores, groups, everything)[0])


def within_precision_draws(
    labels: ArrayLike, scores: ArrayLike, groups: ArrayLike, draws: ClusterDraws
) -> NDArray[np.float64]:
    """(draws,) `within_precision` in each draw, NaN where no group of a draw has both classes.

    Pairs are sorted once by group and score; between two positives of a group all pairs are merged, so that a draw
    costs one running sum over segments.
    """
    result = np.full(draws.counts.shape[1], np.nan)
    of_group, positives_of, negatives_of = _counts(labels, groups)
    kept = np.flatnonzero(((positives_of > 0) & (negatives_of > 0))[of_group])
    if not kept.size:
        return result
    group, score = np.asarray(groups)[kept], np.asarray(scores, dtype=np.float64)[kept]
    order = np.lexsort((-score, group))
    group, score, kept = group[order], score[order], kept[order]
    positive, cluster = np.asarray(labels)[kept] == 1, draws.codes[kept]
    first_of_group, segment = _segments(group, score, positive)
    # Where each group begins, in segments, and which group a segment is of.
    first = segment[first_of_group]
    count, clusters = int(segment[-1]) + 1, len(draws.counts)
    owner = np.repeat(np.arange(first.size), np.diff([*first, count]))
    pairs = np.diff([*np.flatnonzero(first_of_group), group.size])
    weight, hits = (
        sparse.csr_array((values, (segment, cluster)), shape=(count, clusters))
        for values in (np.ones(group.size), positive.astype(np.float64))
    )
    for block, counts in draws.blocks(count):
        total, own = weight @ counts, hits @ counts
        through, found = (_running_within(values, first, owner) for values in (total, own))
        gained = np.divide(own * found, through, out=np.zeros_like(own), where=through > 0)
        drawn, positives = (np.add.reduceat(values, first, axis=0) for values in (total, own))
        both = (positives > 0) & (positives < drawn)
        precision = np.add.reduceat(gained, first, axis=0) / np.maximum(positives, 1)
        importance = np.where(both, drawn / pairs[:, None], 0.0)
        whole = importance.sum(axis=0)
        mean = np.divide((importance * precision).sum(axis=0), whole, out=np.zeros_like(whole), where=whole > 0)
        result[block] = np.where(whole > 0, mean, np.nan)
    return result


def _counts(labels: ArrayLike, groups: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Code (n,) of each pair's group, and the positives and negatives of each group."""
    positive = np.asarray(labels) == 1
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    positives = np.bincount(group, weights=positive, minlength=names.size).astype(np.float64)
    negatives = np.bincount(group, weights=~positive, minlength=names.size).astype(np.float64)
    return group.astype(np.int64), positives, negatives


def _segments(
    group: NDArray[np.int64], score: NDArray[np.float64], positive: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which sorted pairs (n,) begin a group, and the segment of each: a tie with a positive, or all between two."""
    new_group = np.concatenate([[True], group[1:] != group[:-1]])
    new_tie = new_group | np.concatenate([[True], score[1:] != score[:-1]])
    tie = np.cumsum(new_tie) - 1
    holds = (np.bincount(tie, weights=positive) > 0)[tie]
    begins = new_group | (new_tie & (holds | np.concatenate([[False], holds[:-1]])))
    return new_group, np.cumsum(begins) - 1


def _running_within(
    values: NDArray[np.float64], first: NDArray[np.int64], owner: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Running sums of `values` (segments, draws) that begin anew with each group."""
    running = np.cumsum(values, axis=0)
    return running - (running[first] - values[first])[owner]
