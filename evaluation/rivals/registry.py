"""The rivals that are printed beside the model, in the order of the tables: the simple ones first.

Each one is a function (train, test) -> scores, fitted on the pairs of the training lines only, if at all; higher means
more likely to interact. A rival that the data does not allow raises `NotApplicable` with the reason, and `score_rivals`
hands the reason back. All are deterministic. Cost: some seconds each for 70,000 pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import has_both_classes
from evaluation.rivals.activity import activity_by_contact, activity_by_distance
from evaluation.rivals.boosting import signal_boosting
from evaluation.rivals.fitted import distance_only, element_propensity
from evaluation.rivals.kmers import kmer_logistic
from evaluation.rivals.pairs import NotApplicable, PairData, Rival
from evaluation.rivals.places import nearest_gene, within_100_kb

UNTRAINED: dict[str, Rival] = {
    "within 100 kb": within_100_kb,
    "nearest gene": nearest_gene,
    "activity x distance": activity_by_distance,
    "ABC": activity_by_contact,
}
TRAINED: dict[str, Rival] = {
    "distance": distance_only,
    "propensity": element_propensity,
    "kmer": kmer_logistic,
    "boosting": signal_boosting,
}
RIVALS: dict[str, Rival] = {**UNTRAINED, **TRAINED}


def score_rivals(train: PairData, test: PairData) -> tuple[dict[str, NDArray[np.float64]], dict[str, str]]:
    """Scores {rival: (n,)} of the pairs of `test` by all that apply, and {rival: reason} of those left out."""
    asked, left_out = RIVALS, {}
    if not has_both_classes(train.labels[train.known()]):
        asked, left_out = UNTRAINED, dict.fromkeys(TRAINED, "the training pairs do not hold both labels")
    scores: dict[str, NDArray[np.float64]] = {}
    for name, rival in asked.items():
        try:
            scores[name] = rival(train, test)
        except NotApplicable as reason:
            left_out[name] = str(reason)
    return scores, left_out
