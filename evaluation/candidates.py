"""Average precision that does not reward knowing how many candidates an enhancer has.

In tables of candidates nearly every enhancer has a partner, so the prevalence of its pairs is about 1 / (number of its
candidates), and a score that knows gene density alone earns average precision. Two figures do not pay for that:

- **eq**: every pair has a weight such that each enhancer has the prevalence of the whole set. With P and N the set's
  positives and negatives, and P_e and N_e those of enhancer e, a positive weighs 1 and a negative of e weighs
  (P_e / N_e) (N / P). Enhancers with one class have no prevalence to mend and weigh 0. A score that is constant within
  enhancers then has the prevalence P / (P + N), whatever it is between them. In words of epidemiology: the
  negatives are directly standardised to the positives' distribution over enhancers.
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
from evaluation.metrics import average_precision, has_both_classes


def equal_prevalence_weights(labels: ArrayLike, groups: ArrayLike) -> NDArray[np.float64]:
    """(n,) weights of pairs that give each group the prevalence of all; 0 in groups of one class.

    `labels` (n,) are 0/1, `groups` (n,) say whose candidate a pair is (an enhancer of a line); any codes.
    """
    positive = np.asarray(labels) == 1
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    positives, negatives = np.bincount(group, weights=positive), np.bincount(group, weights=~positive)
    both = (positives > 0) & (negatives > 0)
    odds = np.divide(positives, negatives, out=np.zeros_like(positives), where=both)
    if not both.any():
        return np.zeros(positive.shape)
    of_negatives = odds * (negatives.sum() / positives.sum())
    return np.where(positive, both.astype(np.float64)[group], of_negatives[group])


def equal_prevalence_precision(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike) -> float:
    """The eq average precision of `scores` (n,); arguments as above; NaN where no group has both classes."""
    weights = equal_prevalence_weights(labels, groups)
    return average_precision(labels, scores, weights) if weights.any() else float("nan")


def within_precision(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike) -> float:
    """Mean of the average precision within each of `groups` (n,) that has both classes; NaN where none has."""
    everything = ClusterDraws(np.zeros(np.size(labels), dtype=np.int64), np.ones((1, 1), dtype=np.uint16))
    return float(within_precision_draws(labels, scores, groups, everything)[0])


def groups_with_both_classes(labels: ArrayLike, groups: ArrayLike) -> int:
    """How many of `groups` (n,) hold a 0 and a 1 of `labels` (n,)."""
    names = np.asarray(groups)[equal_prevalence_weights(labels, groups) > 0]
    return int(np.unique(names).size)


def within_precision_draws(
    labels: ArrayLike, scores: ArrayLike, groups: ArrayLike, draws: ClusterDraws
) -> NDArray[np.float64]:
    """(draws,) `within_precision` in each draw, NaN where no group of a draw has both classes.

    Pairs are sorted once by group and score; between two positives of a group all pairs are merged, so that a draw
    costs one running sum over segments.
    """
    result = np.full(draws.counts.shape[1], np.nan)
    kept = np.flatnonzero(equal_prevalence_weights(labels, groups) > 0)
    if not (has_both_classes(labels) and kept.size):
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
