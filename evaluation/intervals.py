"""Cluster bootstrap: percentile intervals that respect that pairs of a chromosome or promoter are not independent.

Whole clusters are drawn with replacement (algorithms.md 9), which makes a draw a vector of cluster multiplicities.
Scores are sorted once; a draw then only re-weights. For average precision and AUROC just the tie groups that hold a
positive matter, and what lies between them is merged, so a draw costs one sparse product (clusters -> groups) and one
running sum: 1000 draws of 20,000 pairs take 0.1 to 0.2 s. The draws are a pure function of (cluster ids, number, seed):
two score vectors, or two runs on the same pairs, see the same draws, and their difference is paired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

MIN_CHROMOSOMES = 8
"""Below this many distinct chromosomes among the pairs, the promoter is the cluster."""

_SMALL = np.finfo(np.float64).tiny
"""Keeps a division by the weight of the positives defined in draws without one, whose value is NaN anyway."""

_BLOCK_CELLS = 1_000_000
"""Cells of a dense (groups, draws) block: 8 MB of float64 each."""

_BLOCK_DRAWS = 50
"""Draws generated at a time, so that the int64 of the generator stays small beside the stored uint16."""


@dataclass(frozen=True)
class ClusterDraws:
    """Bootstrap draws over C clusters of n pairs."""

    codes: NDArray[np.int64]
    """(n,) cluster 0..C-1 of each pair."""
    counts: NDArray[np.uint16]
    """(C, draws) how often each draw holds each cluster."""

    def blocks(self, groups: int) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Slices of the draws with their (C, block) multiplicities, small enough for (groups, block) float64."""
        draws = self.counts.shape[1]
        size = max(1, _BLOCK_CELLS // max(groups, len(self.counts), 1))
        for start in range(0, draws, size):
            block = slice(start, min(start + size, draws))
            yield block, self.counts[:, block].astype(np.float64)


Metric = Callable[[NDArray[np.int8], NDArray[np.float64], ClusterDraws], NDArray[np.float64]]
"""labels (n,) 0/1, scores (n,), draws -> (draws,) the metric in each draw, NaN where a draw holds one class."""


def cluster_ids(chromosomes: ArrayLike, promoters: ArrayLike) -> NDArray[np.int64]:
    """Cluster of each pair: its chromosome if at least 8 distinct ones occur, else its promoter.

    `chromosomes` and `promoters` (n,) are codes >= 0. A chromosome code c is returned as -1-c, so that the two kinds
    of cluster may stand in one column without meeting.
    """
    chromosome, promoter = np.asarray(chromosomes, dtype=np.int64), np.asarray(promoters, dtype=np.int64)
    return -1 - chromosome if np.unique(chromosome).size >= MIN_CHROMOSOMES else promoter


def draw_clusters(clusters: ArrayLike, draws: int = 1000, seed: int = 0) -> ClusterDraws:
    """Draw C of the C distinct `clusters` (n,) with replacement, `draws` times."""
    names, codes = np.unique(np.asarray(clusters), return_inverse=True)
    generator = np.random.default_rng(seed)
    counts = np.empty((names.size, draws), dtype=np.uint16)
    for start in range(0, draws, _BLOCK_DRAWS):
        width = min(_BLOCK_DRAWS, draws - start)
        picked = generator.integers(0, max(names.size, 1), size=(names.size, width)) * width + np.arange(width)
        counted = np.bincount(picked.ravel(), minlength=names.size * width)
        counts[:, start : start + width] = counted.reshape(names.size, width)
    return ClusterDraws(codes.astype(np.int64), counts)


@dataclass(frozen=True)
class _RankedBlock:
    """Weights of a block of draws at the G tie groups that hold a positive, scores descending; all (G, draws)."""

    positive: NDArray[np.float64]
    """Weight of the positives of the group."""
    before: NDArray[np.float64]
    """Weight of all pairs ranked above the group."""
    through: NDArray[np.float64]
    """Weight of all pairs ranked above or in the group."""
    total: NDArray[np.float64]
    """(draws,) weight of all pairs."""


def _ranked_blocks(
    labels: ArrayLike, scores: ArrayLike, draws: ClusterDraws, weights: ArrayLike | None = None
) -> Iterator[tuple[slice, _RankedBlock]]:
    score = np.asarray(scores, dtype=np.float64)
    order = np.argsort(-score, kind="stable")
    positive = np.asarray(labels)[order] == 1
    cluster = draws.codes[order]
    tie_group = np.concatenate([[0], np.cumsum(np.diff(score[order]) != 0)])
    holds_positive = np.bincount(tie_group, weights=positive) > 0
    rank: NDArray[np.int64] = np.cumsum(holds_positive) - holds_positive
    # odd segments are tie groups with a positive, even ones all that lies between two of them
    segment = (2 * rank + holds_positive)[tie_group]
    groups, clusters = int(holds_positive.sum()), len(draws.counts)
    weight = np.ones(score.size) if weights is None else np.asarray(weights, dtype=np.float64)[order]
    everything = sparse.csr_array((weight, (segment, cluster)), shape=(2 * groups + 1, clusters))
    member = segment[positive] // 2
    positives = sparse.csr_array((weight[positive], (member, cluster[positive])), shape=(groups, clusters))
    for block, counts in draws.blocks(2 * groups + 1):
        running = np.cumsum(everything @ counts, axis=0)
        yield block, _RankedBlock(positives @ counts, running[:-1:2], running[1::2], running[-1])


def _per_draw(
    labels: ArrayLike,
    scores: ArrayLike,
    draws: ClusterDraws,
    value: Callable[[_RankedBlock], NDArray[np.float64]],
    weights: ArrayLike | None = None,
) -> NDArray[np.float64]:
    result = np.full(draws.counts.shape[1], np.nan)
    if not np.any(np.asarray(labels) == 1):
        return result
    for block, ranked in _ranked_blocks(labels, scores, draws, weights):
        positives = ranked.positive.sum(axis=0)
        both = (positives > 0) & (positives < ranked.total)
        result[block] = np.where(both, value(ranked), np.nan)
    return result


def average_precision_draws(
    labels: ArrayLike, scores: ArrayLike, draws: ClusterDraws, weights: ArrayLike | None = None
) -> NDArray[np.float64]:
    """(draws,) average precision with ties grouped; equals sklearn's with the multiplicities as sample weights.

    `weights` (n,) >= 0 of the pairs, if any, are multiplied by the multiplicities and do not change between draws.
    """

    def value(ranked: _RankedBlock) -> NDArray[np.float64]:
        true_positives = np.cumsum(ranked.positive, axis=0)
        gained = ranked.positive * true_positives
        terms = np.divide(gained, ranked.through, out=np.zeros_like(gained), where=ranked.through > 0)
        return terms.sum(axis=0) / np.maximum(true_positives[-1], _SMALL)

    return _per_draw(labels, scores, draws, value, weights)


def auroc_draws(labels: ArrayLike, scores: ArrayLike, draws: ClusterDraws) -> NDArray[np.float64]:
    """(draws,) AUROC, ties count half; equals sklearn's with the multiplicities as sample weights."""

    def value(ranked: _RankedBlock) -> NDArray[np.float64]:
        true_positives = np.cumsum(ranked.positive, axis=0)
        positives = true_positives[-1]
        negatives = ranked.total - positives
        above = ranked.before - (true_positives - ranked.positive)
        tied = ranked.through - true_positives - above
        won = (ranked.positive * (negatives - above - tied / 2)).sum(axis=0)
        return won / np.maximum(positives * negatives, 1)

    return _per_draw(labels, scores, draws, value)


def matthews_draws(threshold: float) -> Metric:
    """The metric (draws,) MCC of predicting 1 where the score is >= `threshold`; 0 where all predictions agree."""

    def metric(labels: ArrayLike, scores: ArrayLike, draws: ClusterDraws) -> NDArray[np.float64]:
        known, predicted = np.asarray(labels) == 1, np.asarray(scores) >= threshold
        facts = np.stack([known & predicted, predicted, known, np.ones_like(known)])
        sums = np.stack([np.bincount(draws.codes, weights=fact, minlength=len(draws.counts)) for fact in facts])
        hits, chosen, positives, total = sums @ draws.counts
        spread = np.sqrt(chosen * (total - chosen) * positives * (total - positives))
        value = np.divide(total * hits - chosen * positives, spread, out=np.zeros_like(spread), where=spread > 0)
        return np.where((positives > 0) & (positives < total), value, np.nan)

    return metric


def paired_difference(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    draws: ClusterDraws,
    metric: Metric = average_precision_draws,
) -> NDArray[np.float64]:
    """(draws,) `metric` of scores `first` (n,) minus that of `second` (n,), each draw the same for both."""
    known = np.asarray(labels, dtype=np.int8)
    return metric(known, np.asarray(first), draws) - metric(known, np.asarray(second), draws)


def interval(values: NDArray[np.float64], draws: ClusterDraws, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of `values` (draws,) at `level`.

    NaN below two clusters, where nothing varies, or where half of the draws or more hold one class only.
    """
    finite = values[np.isfinite(values)]
    if len(draws.counts) < 2 or 2 * finite.size <= values.size:
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
