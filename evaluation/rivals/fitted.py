"""Rivals that learn from training lines what a distance, or an element seen there, tells. Cost: about a second each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.rivals.linear import fit_linear
from evaluation.rivals.pairs import NotApplicable, PairData

DISTANCE_BINS = 10
PRIOR_PAIRS = 4.0
"""Strength of the prior of an element's log-odds, in pairs."""


def distance_only(train: PairData, test: PairData) -> NDArray[np.float64]:
    """Logit of a logistic regression on log distance, its training deciles, and whether it is known."""
    train_log, test_log = train.log_distance(), test.log_distance()
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

    return fit_linear(features(train_log), train.labels, train.known()).decision_function(features(test_log))


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
