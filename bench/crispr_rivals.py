"""What the model of bench/crispr.py is compared with: untrained rules, and learners on the very same columns.

A learner is chosen by the training table's own folds of chromosomes and scores a pair by a fit that saw none of its
chromosomes; a rule learns nothing. Missing values are those of the training median for the regression and a branch of
their own for trees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from evaluation import average_precision

Scores = NDArray[np.float64]
SEEDS = 3
STRENGTHS = (0.01, 0.1, 1.0)
"""Inverse penalties of the logistic regression."""
TREES = (
    {"num_leaves": 4, "min_data_in_leaf": 100, "learning_rate": 0.04, "num_iterations": 200},
    {"num_leaves": 8, "min_data_in_leaf": 100, "learning_rate": 0.03, "num_iterations": 250},
    {"num_leaves": 12, "min_data_in_leaf": 200, "learning_rate": 0.06, "num_iterations": 200},
    {"num_leaves": 4, "min_data_in_leaf": 50, "learning_rate": 0.03, "num_iterations": 500},
)
"""Boosted trees to choose among; what they share is in `_boosted`."""


@dataclass(frozen=True)
class Pairs:
    """N pairs of a table."""

    labels: NDArray[np.int8]
    """(N,) 1 regulated, 0 not."""
    counts: Scores
    """(N,) how much a pair counts: the weight of a positive, 1 of a negative."""
    distance: Scores
    """(N,) bp."""
    columns: pd.DataFrame
    """(N, S) signals as the store has them, NaN where missing."""
    fold: NDArray[np.int64]
    """(N,) fold of the pair's chromosome."""
    cluster: NDArray[np.int64]
    """(N,) cluster of the bootstrap."""
    line: NDArray[np.str_]
    """(N,) cell line."""

    def by_line(self) -> dict[str, NDArray[np.bool_]]:
        """All pairs and those of each line, as (N,) bool."""
        lines = {str(line): self.line == line for line in np.unique(self.line)}
        return {"all": np.ones(len(self.labels), dtype=bool)} | lines

    def features(self) -> Scores:
        """(N, S + 1) log of the distance and of the signals, sign kept."""
        values = self.columns.to_numpy(np.float64)
        return np.column_stack([np.log1p(self.distance), np.sign(values) * np.log1p(np.abs(values))])


@dataclass(frozen=True)
class Rival:
    """A way to score pairs."""

    scores: Callable[[Pairs, Pairs, Any], Scores]
    """(training, asked, chosen settings) -> (N,) scores of the asked pairs."""
    settings: tuple[Any, ...] = (None,)
    """What to choose among."""

    def choose(self, training: Pairs) -> Any:
        """The settings with the best weighted AP over the training table's folds."""
        if len(self.settings) == 1:
            return self.settings[0]
        found = [
            average_precision(training.labels, self.scores(training, training, own), training.counts)
            for own in self.settings
        ]
        return self.settings[int(np.argmax(found))]


def _by_fold(fit: Callable[[Scores, NDArray[np.int8], Any], Callable[[Scores], Scores]]) -> Callable[..., Scores]:
    def scores(training: Pairs, asked: Pairs, settings: Any) -> Scores:
        known, wanted = training.features(), asked.features()
        found = np.empty(len(asked.labels))
        for fold in np.unique(asked.fold):
            own = training.fold != fold
            found[asked.fold == fold] = fit(known[own], training.labels[own], settings)(wanted[asked.fold == fold])
        return found

    return scores


def _logistic(features: Scores, labels: NDArray[np.int8], strength: float) -> Callable[[Scores], Scores]:
    # A column without a value in training is kept out, as the median of nothing.
    model = make_pipeline(
        SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(C=strength, max_iter=3000)
    )
    decide: Callable[[Scores], Scores] = model.fit(features, labels).decision_function
    return decide


def _boosted(features: Scores, labels: NDArray[np.int8], settings: dict[str, Any]) -> Callable[[Scores], Scores]:
    shared = {"objective": "binary", "verbose": -1, "num_threads": 1, "lambda_l2": 5.0, "feature_fraction": 0.6,
              "bagging_fraction": 0.7, "bagging_freq": 1, "deterministic": True}  # fmt: skip
    trees = [
        lightgbm.train(shared | settings | {"seed": seed}, lightgbm.Dataset(features, labels)) for seed in range(SEEDS)
    ]
    return lambda wanted: np.mean([own.predict(wanted, raw_score=True) for own in trees], axis=0)


RIVALS: dict[str, Rival] = {
    "activity x distance": Rival(lambda _, asked, __: asked.columns["activity_by_distance"].fillna(0).to_numpy()),
    "distance": Rival(lambda _, asked, __: -asked.distance),
    "logistic regression": Rival(_by_fold(_logistic), STRENGTHS),
    "boosted trees": Rival(_by_fold(_boosted), TREES),
}
"""Every rival by the name in the table."""
