"""Claims about ranking and threshold metrics (algorithms.md 2 and 9)."""

import math

import numpy as np
import pytest

from evaluation import metrics


@pytest.mark.parametrize(("positives", "expected"), [(16, 0.549), (8, 0.324)])
def test_T2_4_batch_average_precision_of_random_scores_is_biased_up(positives, expected):
    # E[AP] of a random ranking of P in N is (P-1)/(N-1) + (N-P)/(N-1) H_N/N, above the prevalence P/N
    labels = np.repeat([1, 0], [positives, 32 - positives])
    generator = np.random.default_rng(1)
    batches = [metrics.average_precision(labels, generator.random(32)) for _ in range(1500)]
    assert np.mean(batches) == pytest.approx(expected, abs=0.01)
    assert np.mean(batches) > positives / 32 + 0.04


def test_T9_3_average_precision_is_the_step_sum_not_the_trapezoid():
    labels, scores = [1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6]
    assert metrics.average_precision(labels, scores) == pytest.approx(5 / 6)
    assert metrics.auroc(labels, scores) == pytest.approx(0.75)


@pytest.mark.parametrize("labels", [[1, 0, 0, 0], [0, 0, 0, 1]])
def test_T9_3_all_tied_scores_give_the_prevalence_whatever_the_order(labels):
    row = metrics.ranking_metrics(labels, [0.5] * 4)
    assert (row["ap"], row["lift"], row["auroc"]) == pytest.approx((0.25, 1.0, 0.5))


def test_threshold_metrics_equal_their_definitions_from_the_confusion_counts():
    row = metrics.threshold_metrics([1, 1, 1, 0, 0, 0, 0, 0], [0.9, 0.5, 0.1, 0.6, 0.1, 0.1, 0.1, 0.1], threshold=0.5)
    assert row["precision"] == pytest.approx(2 / 3)
    assert row["recall"] == pytest.approx(2 / 3)
    assert row["f1"] == pytest.approx(2 / 3)
    assert row["balanced_accuracy"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert row["mcc"] == pytest.approx((2 * 4 - 1 * 1) / math.sqrt(3 * 3 * 5 * 5))


@pytest.mark.parametrize("label", [0, 1])
def test_a_group_of_one_class_has_no_metric_and_raises_no_warning(label):
    row = metrics.ranking_metrics([label] * 5, range(5)) | metrics.threshold_metrics([label] * 5, [0.5] * 5, 0.5)
    assert all(math.isnan(row[name]) for name in ("ap", "auroc", *metrics.THRESHOLD_METRICS))
    assert row["prevalence"] == label


def test_an_empty_group_has_no_metric_and_raises_no_warning():
    row = metrics.ranking_metrics([], [])
    assert row["n"] == 0
    assert all(math.isnan(row[name]) for name in ("prevalence", "ap", "lift", "auroc"))


def test_precision_is_undefined_where_nothing_is_predicted():
    row = metrics.threshold_metrics([0, 1], [0.1, 0.2], threshold=0.9)
    assert math.isnan(row["precision"])
    assert (row["recall"], row["mcc"]) == (0.0, 0.0)


def test_lines_are_summarised_by_mean_worst_and_a_t_interval():
    summary = metrics.summarise_lines([0.5, float("nan"), 0.6, 0.7], ["A", "B", "C", "D"])
    assert (summary.mean, summary.worst, summary.worst_line, summary.lines) == (pytest.approx(0.6), 0.5, "A", 3)
    assert summary.high - summary.mean == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)


def test_one_line_has_a_mean_but_no_interval():
    summary = metrics.summarise_lines([0.5], ["A"])
    assert summary.mean == 0.5
    assert math.isnan(summary.low)


def test_weighted_average_precision_counts_a_positive_as_much_as_it_weighs() -> None:
    labels, scores = [1, 0, 1, 0], [4.0, 3.0, 2.0, 1.0]
    # Recall goes up by 1/4 at precision 1, then by 3/4 at precision (1 + 3) / (1 + 3 + 1), a negative weighing 1.
    assert metrics.average_precision(labels, scores, [1, 1, 3, 1]) == pytest.approx(0.25 + 0.75 * 4 / 5)
    assert metrics.average_precision(labels, scores, [1, 1, 1, 1]) == metrics.average_precision(labels, scores)


def test_the_threshold_at_a_recall_is_the_highest_score_that_reaches_it() -> None:
    labels, scores = [1] * 10 + [0] * 10, [*range(20, 10, -1), *range(10, 0, -1)]
    assert metrics.threshold_at_recall(labels, scores, 0.7) == 14
    assert metrics.threshold_at_recall(labels, scores, 0.71) == 13
    assert metrics.threshold_at_recall(labels, scores, 1.0) == 11
    # One positive of weight 9 on top, nine of weight 1 below: half of the weight is reached by the first.
    assert metrics.threshold_at_recall(labels, scores, 0.5, [9] + [1] * 19) == 20
    assert math.isnan(metrics.threshold_at_recall([0, 0], [1.0, 2.0], 0.7))


def test_precision_and_recall_at_a_frozen_threshold_are_weighted() -> None:
    labels, scores, weights = [1, 0, 1, 0], [4.0, 3.0, 2.0, 1.0], [0.5, 1, 1.5, 1]
    assert metrics.precision_and_recall(labels, scores, 3.0, weights) == pytest.approx((0.5 / 1.5, 0.25))
    assert metrics.precision_and_recall(labels, scores, 2.0) == pytest.approx((2 / 3, 1.0))
    precision, recall = metrics.precision_and_recall(labels, scores, 9.0)
    assert math.isnan(precision)
    assert recall == 0
