"""Ranking and threshold metrics of one group of pairs, and their summary over cell lines.

Average precision is the step sum with tied scores grouped (algorithms.md 9), never the trapezoid, and stands beside its
prevalence and lift. It is taken over whole lines: averaged over small batches it is biased upwards (algorithms.md 2,
T2.4), so nothing here averages over batches. A group with one class has no ranking and no threshold metric: these are
NaN, without a warning. Cost: one sort per group.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    matthews_corrcoef,
    precision_recall_fscore_support,
    roc_auc_score,
)

RANKING_METRICS = ("ap", "lift", "auroc")
THRESHOLD_METRICS = ("mcc", "f1", "precision", "recall", "balanced_accuracy")


@dataclass(frozen=True)
class LineSummary:
    """One metric over C cell lines: mean, worst line, and the mean's 95% t-interval with C-1 degrees of freedom."""

    mean: float
    worst: float
    worst_line: str
    low: float
    high: float
    lines: int


def has_both_classes(labels: ArrayLike) -> bool:
    """Whether `labels` (n,) holds at least one 0 and one 1."""
    positives = np.count_nonzero(np.asarray(labels) == 1)
    return bool(0 < positives < np.size(labels))


def average_precision(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """AP = sum_k (R_k - R_{k-1}) P_k with ties grouped; `labels` (n,) 0/1, `scores` (n,) finite; NaN for one class.

    `weights` (n,) >= 0 say how much each pair counts; once each where there are none.
    """
    if not has_both_classes(labels):
        return float("nan")
    return float(average_precision_score(labels, scores, sample_weight=weights))


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve, ties count half; `labels` (n,) 0/1, `scores` (n,) finite; NaN for one class."""
    return float(roc_auc_score(labels, scores)) if has_both_classes(labels) else float("nan")


def ranking_metrics(labels: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """`n`, `positives`, `prevalence` (NaN if n=0), `ap`, `lift` (AP / prevalence) and `auroc` of one group."""
    known = np.asarray(labels)
    positives = int(np.count_nonzero(known == 1))
    prevalence = positives / known.size if known.size else float("nan")
    ap = average_precision(known, scores)
    lift = ap / prevalence if positives else float("nan")
    return {
        "n": known.size,
        "positives": positives,
        "prevalence": prevalence,
        "ap": ap,
        "lift": lift,
        "auroc": auroc(known, scores),
    }


def threshold_metrics(labels: ArrayLike, probabilities: ArrayLike, threshold: float) -> dict[str, float]:
    """MCC, F1, precision, recall and balanced accuracy of predicting 1 where `probabilities` >= `threshold`.

    All are NaN for one class; precision is NaN where nothing is predicted positive, and MCC is then 0 by convention.
    """
    if not has_both_classes(labels):
        return dict.fromkeys(THRESHOLD_METRICS, float("nan"))
    known = np.asarray(labels).astype(np.int8)
    predicted = (np.asarray(probabilities) >= threshold).astype(np.int8)
    precision, recall, f1, _ = precision_recall_fscore_support(known, predicted, average="binary", zero_division=np.nan)
    return {
        "mcc": float(matthews_corrcoef(known, predicted)),
        "f1": float(f1),
        "precision": float(precision),
        "recall": float(recall),
        "balanced_accuracy": float(balanced_accuracy_score(known, predicted)),
    }


def threshold_at_recall(labels: ArrayLike, scores: ArrayLike, recall: float, weights: ArrayLike | None = None) -> float:
    """The highest score of `scores` (n,) at which the weighted recall is at least `recall`; NaN for one class."""
    if not has_both_classes(labels):
        return float("nan")
    score, positive = np.asarray(scores, dtype=np.float64), np.asarray(labels) == 1
    weight = np.ones(score.size) if weights is None else np.asarray(weights, dtype=np.float64)
    order = np.argsort(-score[positive], kind="stable")
    reached = np.cumsum(weight[positive][order])
    # Sums of weights round: 7 of 10 is 70%.
    place = np.searchsorted(reached, recall * reached[-1] * (1 - 1e-9))
    return float(score[positive][order][min(int(place), order.size - 1)])


def precision_and_recall(
    labels: ArrayLike, scores: ArrayLike, threshold: float, weights: ArrayLike | None = None
) -> tuple[float, float]:
    """Weighted precision and recall of predicting 1 where `scores` (n,) >= `threshold`; NaN where undefined."""
    known, chosen = np.asarray(labels) == 1, np.asarray(scores) >= threshold
    weight = np.ones(known.size) if weights is None else np.asarray(weights, dtype=np.float64)
    hits, called, positives = (float(weight[mask].sum()) for mask in (known & chosen, chosen, known))
    nan = float("nan")
    return hits / called if called else nan, hits / positives if positives else nan


def summarise_lines(values: ArrayLike, lines: Iterable[object]) -> LineSummary:
    """Summary of a higher-is-better metric `values` (C,), one per line of `lines`; NaN values are left out.

    The interval is NaN below two lines; everything is NaN and the worst line empty if no value is left.
    """
    all_values: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    names = [str(line) for line, value in zip(lines, all_values, strict=True) if np.isfinite(value)]
    finite = all_values[np.isfinite(all_values)]
    nan = float("nan")
    if finite.size == 0:
        return LineSummary(nan, nan, "", nan, nan, 0)
    mean, worst = float(finite.mean()), int(finite.argmin())
    half = nan
    if finite.size > 1:
        half = float(stats.t.ppf(0.975, finite.size - 1) * finite.std(ddof=1) / np.sqrt(finite.size))
    return LineSummary(mean, float(finite[worst]), names[worst], mean - half, mean + half, finite.size)
