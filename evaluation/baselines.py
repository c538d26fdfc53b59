"""Baselines that are printed beside the model: what distance, element identity, k-mers or signals alone achieve.

Each one is a function (train, test) -> scores, fitted on the pairs of the training lines only and listed in
`BASELINES`; higher means more likely to interact. A baseline that the data does not allow raises `NotApplicable` with
the reason, and `score_baselines` hands the reason back. All are deterministic. Cost: about a second each for 20,000
pairs; k-mers are counted once per element, and that fit sees at most 20,000 training pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from evaluation.metrics import has_both_classes

SEED = 0
KMER = 4
KMER_FIT_PAIRS = 20_000
DISTANCE_BINS = 10
PRIOR_PAIRS = 4.0
"""Strength of the prior of an element's log-odds, in pairs."""

_KMER_CHUNK = 2_000
"""Elements whose k-mers are counted at a time: 2,000 x 4,096 bases x 8 bytes = 64 MB."""


class NotApplicable(Exception):  # noqa: N818  (a statement about the data, not an error)
    """The data does not allow this baseline; the message says why."""


@dataclass(frozen=True)
class PairData:
    """N pairs as a baseline sees them; train and test of one call share the numbering of elements."""

    labels: NDArray[np.int8]
    """(N,) 1 interacts, 0 does not; every other value is unknown and is not trained on."""
    distance: NDArray[np.float32]
    """(N,) bp; NaN or negative where unknown."""
    enhancer: NDArray[np.int64]
    """(N,) row of `enhancer_packed`."""
    promoter: NDArray[np.int64]
    """(N,) row of `promoter_packed`."""
    line: NDArray[np.int64]
    """(N,) cell line code."""
    enhancer_packed: NDArray[np.uint8]
    """(Ne, Le/2) packed bases, memory-mapped or not; Le = 0 without sequences."""
    promoter_packed: NDArray[np.uint8]
    """(Np, Lp/2) likewise."""
    signals: NDArray[np.float32]
    """(N, S) line-specific numbers of the pair, NaN where missing; S = 0 without signals."""

    def known(self) -> NDArray[np.bool_]:
        """(N,) whether the label is known."""
        return (self.labels == 0) | (self.labels == 1)


Baseline = Callable[[PairData, PairData], NDArray[np.float64]]


def distance_only(train: PairData, test: PairData) -> NDArray[np.float64]:
    """Logit of a logistic regression on log distance, its training deciles, and whether it is known."""
    train_log, test_log = _log_distance(train), _log_distance(test)
    usable = train_log[train.known()]
    if np.isnan(usable).all() or np.isnan(test_log).all():
        raise NotApplicable("no pair of the training lines or of the test set has a known distance")
    edges = np.unique(np.nanquantile(usable, np.linspace(0, 1, DISTANCE_BINS + 1)[1:-1]))
    middle = float(np.nanmedian(usable))

    def features(log_distance: NDArray[np.float64]) -> NDArray[np.float64]:
        missing = np.isnan(log_distance)
        filled = np.where(missing, middle, log_distance)
        bins = np.eye(edges.size + 1)[np.searchsorted(edges, filled, side="right")]
        return np.column_stack([filled - middle, missing, bins])

    return _fit_linear(features(train_log), train.labels, train.known()).decision_function(features(test_log))


def element_propensity(train: PairData, test: PairData) -> NDArray[np.float64]:
    """Sum of the smoothed log-odds of the enhancer and of the promoter over the training pairs of all lines.

    An element without a training pair contributes the prior, so without a shared element all scores are equal.
    """
    known = train.known()
    positive = train.labels[known] == 1
    prior = float(positive.mean())
    score = np.full(test.labels.shape, -np.log(prior / (1 - prior)))
    for train_ids, test_ids in ((train.enhancer, test.enhancer), (train.promoter, test.promoter)):
        seen = train_ids[known]
        size = int(max(seen.max(), test_ids.max(initial=0))) + 1
        hits = np.bincount(seen, weights=positive, minlength=size) + PRIOR_PAIRS * prior
        misses = np.bincount(seen, weights=~positive, minlength=size) + PRIOR_PAIRS * (1 - prior)
        score += np.log(hits / misses)[test_ids]
    return score


def kmer_logistic(train: PairData, test: PairData) -> NDArray[np.float64]:
    """Logit of a logistic regression on the canonical 4-mer frequencies of both elements (272 features)."""
    if not (train.enhancer_packed.shape[1] and train.promoter_packed.shape[1]):
        raise NotApplicable("the store holds no sequences")
    chosen = np.flatnonzero(train.known())
    if chosen.size > KMER_FIT_PAIRS:
        chosen = np.sort(np.random.default_rng(SEED).choice(chosen, KMER_FIT_PAIRS, replace=False))
    sides = [
        (train.enhancer_packed, train.enhancer[chosen], test.enhancer_packed, test.enhancer),
        (train.promoter_packed, train.promoter[chosen], test.promoter_packed, test.promoter),
    ]
    train_features = np.hstack([_element_features(packed, ids) for packed, ids, _, _ in sides])
    test_features = np.hstack([_element_features(packed, ids) for _, _, packed, ids in sides])
    fitted = _fit_linear(train_features, train.labels[chosen], np.ones(chosen.size, dtype=bool))
    return fitted.decision_function(test_features)


def signal_boosting(train: PairData, test: PairData) -> NDArray[np.float64]:
    """Logit of gradient-boosted trees on the signals and log distance; missing values are a branch of their own."""
    if not train.signals.shape[1]:
        raise NotApplicable("the store holds no signals")
    if np.isnan(train.signals[train.known()]).all() or np.isnan(test.signals).all():
        raise NotApplicable("no pair of the training lines or of the test set has signals")
    known = train.known()
    features = np.column_stack([train.signals, _log_distance(train)])[known]
    # a column without a value in training has no bin edges
    filled = ~np.isnan(features).all(axis=0)
    trees = HistGradientBoostingClassifier(random_state=SEED).fit(features[:, filled], train.labels[known])
    test_features = np.column_stack([test.signals, _log_distance(test)])
    return trees.decision_function(test_features[:, filled])


BASELINES: dict[str, Baseline] = {
    "distance": distance_only,
    "propensity": element_propensity,
    "kmer": kmer_logistic,
    "boosting": signal_boosting,
}


def score_baselines(train: PairData, test: PairData) -> tuple[dict[str, NDArray[np.float64]], dict[str, str]]:
    """Scores {baseline: (n,)} of the pairs of `test` by all that apply, and {baseline: reason} of those left out."""
    if not has_both_classes(train.labels[train.known()]):
        return {}, dict.fromkeys(BASELINES, "the training pairs do not hold both labels")
    scores: dict[str, NDArray[np.float64]] = {}
    left_out: dict[str, str] = {}
    for name, baseline in BASELINES.items():
        try:
            scores[name] = baseline(train, test)
        except NotApplicable as reason:
            left_out[name] = str(reason)
    return scores, left_out


def kmer_frequencies(packed: NDArray[np.uint8], k: int = KMER) -> NDArray[np.float32]:
    """(n, K) share of each canonical k-mer (a k-mer and its reverse complement are one) in packed rows (n, L/2) uint8.

    Windows that hold an ambiguous base or padding are not counted; a row without any countable window is zero.
    """
    columns = _canonical_column(k)
    width = int(columns.max()) + 1
    result = np.zeros((len(packed), width), dtype=np.float32)
    for start in range(0, len(packed), _KMER_CHUNK):
        block = np.asarray(packed[start : start + _KMER_CHUNK])
        base = _BASE_OF_NIBBLE[np.stack([block >> 4, block & 15], axis=-1).reshape(len(block), -1)]
        windows = base.shape[1] - k + 1
        if windows < 1:
            continue
        code = np.zeros((len(block), windows), dtype=np.int64)
        clean = np.ones((len(block), windows), dtype=bool)
        for offset in range(k):
            letter = base[:, offset : offset + windows]
            clean &= letter >= 0
            code = code * 4 + np.maximum(letter, 0)
        cell = (columns[code] + np.arange(len(block))[:, None] * width)[clean]
        counts = np.bincount(cell, minlength=len(block) * width).reshape(len(block), width)
        result[start : start + len(block)] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return result


_BASE_OF_NIBBLE = np.full(16, -1, dtype=np.int8)
_BASE_OF_NIBBLE[[1, 2, 4, 8]] = [0, 1, 2, 3]


def _canonical_column(k: int) -> NDArray[np.int64]:
    """(4^k,) column 0..K-1 of each k-mer code (base 4, first base highest), shared with its reverse complement."""
    codes = np.arange(4**k)
    mirrored = np.zeros_like(codes)
    for position in range(k):
        mirrored = mirrored * 4 + 3 - (codes // 4**position) % 4
    return np.unique(np.minimum(codes, mirrored), return_inverse=True)[1]


def _element_features(packed: NDArray[np.uint8], ids: NDArray[np.int64]) -> NDArray[np.float32]:
    distinct, position = np.unique(ids, return_inverse=True)
    return kmer_frequencies(packed[distinct])[position]


def _log_distance(pairs: PairData) -> NDArray[np.float64]:
    distance = np.asarray(pairs.distance, dtype=np.float64)
    return np.log1p(np.where(distance >= 0, distance, np.nan))


def _fit_linear(features: NDArray[np.floating], labels: NDArray[np.int8], known: NDArray[np.bool_]) -> Pipeline:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    return model.fit(features[known], labels[known])
