"""Gradient-boosted trees (LightGBM) on the signals and the distance: the rival that nets have to beat on such numbers.

Its settings lie in configs/rivals/lightgbm.yaml, tuned once, on training lines alone, by bench/tune_lightgbm.py: a
rival counts only where it is as well tuned as the model. The score is the mean logit of several seeds. Missing values
are a branch of their own. Deterministic for a number of threads; about 10 s of CPU for 70,000 pairs, 25 numbers and
three seeds. LightGBM is imported when trees are asked for: it takes a second, and commands answer before.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_pipeline.settings import Settings, load
from evaluation.rivals.pairs import NotApplicable, PairData

BOOSTING = Path(__file__).resolve().parents[2] / "configs/rivals/lightgbm.yaml"
"""The settings that reports and benchmarks take."""

LEAVES_OF_SMALL_SETS = 50
"""No leaf must hold more than this share of the training pairs, 1/50, or small sets would give no tree at all."""


class BoostingSettings(Settings):
    """How the trees are grown; names as in LightGBM."""

    num_leaves: int = Field(ge=2, le=1024)
    """Most leaves of a tree."""
    min_data_in_leaf: int = Field(ge=1)
    """Fewest pairs in a leaf, and never more than a fiftieth of the training pairs."""
    learning_rate: float = Field(gt=0, le=1)
    """Shrinkage of each tree."""
    rounds: int = Field(ge=1, le=10_000)
    """Trees."""
    lambda_l2: float = Field(ge=0)
    """Penalty on squared leaf values."""
    feature_fraction: float = Field(gt=0, le=1)
    """Share of the columns that each tree sees."""
    bagging_fraction: float = Field(gt=0, le=1)
    """Share of the pairs that each tree sees, drawn anew for each."""
    seeds: int = Field(3, ge=1, le=100)
    """Runs whose logits are averaged."""
    threads: int = Field(1, ge=1)
    """Threads; results may differ in the last digits between numbers of them."""


@cache
def tuned_settings() -> BoostingSettings:
    """The settings of `BOOSTING`; raises `UserError` where the file cannot be read."""
    return load(BoostingSettings, [BOOSTING])


def signal_boosting(train: PairData, test: PairData) -> NDArray[np.float64]:
    """Logit of gradient-boosted trees (LightGBM, tuned) on the signals and log distance."""
    if not train.signals.shape[1]:
        raise NotApplicable("the store holds no signals")
    if np.isnan(train.signals[train.known()]).all() or np.isnan(test.signals).all():
        raise NotApplicable("no pair of the training lines or of the test set has signals")
    known = train.known()
    features = np.column_stack([train.signals, train.log_distance()])[known]
    return boosted_logits(
        features, train.labels[known], np.column_stack([test.signals, test.log_distance()]), tuned_settings()
    )


def boosted_logits(
    features: NDArray[np.floating],
    labels: NDArray[np.int8],
    test_features: NDArray[np.floating],
    settings: BoostingSettings,
) -> NDArray[np.float64]:
    """(n,) mean logit over seeds of trees fitted to `features` (N, F), NaN where missing, and `labels` (N,) 0/1."""
    import lightgbm

    asked = settings.model_dump(exclude={"rounds", "seeds", "threads"})
    asked["min_data_in_leaf"] = max(1, min(settings.min_data_in_leaf, len(labels) // LEAVES_OF_SMALL_SETS))
    fixed = {"objective": "binary", "bagging_freq": 1, "verbosity": -1, "num_threads": settings.threads}
    # Without these two the order of sums, and with it the trees, may change from run to run.
    fixed |= {"deterministic": True, "force_row_wise": True}
    total = np.zeros(len(test_features))
    for seed in range(settings.seeds):
        data = lightgbm.Dataset(np.asarray(features, dtype=np.float32), label=np.asarray(labels))
        trees = lightgbm.train(asked | fixed | {"seed": seed}, data, num_boost_round=settings.rounds)
        total += trees.predict(
            np.asarray(test_features, dtype=np.float32), raw_score=True, num_threads=settings.threads
        )
    return total / settings.seeds
