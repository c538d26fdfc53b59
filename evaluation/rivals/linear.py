"""The logistic regression that several rivals are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


def fit_linear(features: NDArray[np.floating], labels: NDArray[np.int8], known: NDArray[np.bool_]) -> Pipeline:
    """Logistic regression on standardised `features` (N, F) of the pairs whose `labels` (N,) are `known` (N,)."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    return model.fit(features[known], labels[known])
