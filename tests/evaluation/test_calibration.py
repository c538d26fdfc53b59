"""Claims about temperature scaling, calibration error and the threshold (algorithms.md 9)."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from data_pipeline.errors import UserError
from evaluation import metrics
from evaluation.calibration import (
    BetweenLines,
    Calibration,
    CalibrationSettings,
    brier_score,
    choose_threshold,
    expected_calibration_error,
    fit_calibration,
    fit_platt,
    fit_temperature,
    negative_log_likelihood,
    reliability,
    threshold_at_recall,
)


def calibrated(n=200_000, spread=1.5, offset=0.0):
    """Labels drawn from the logits themselves."""
    generator = np.random.default_rng(3)
    logits = generator.normal(offset, spread, n)
    return (generator.random(n) < expit(logits)).astype(np.int8), logits


def test_T9_1_temperature_recovers_a_factor_of_three():
    labels, logits = calibrated()
    assert fit_temperature(labels, 3 * logits) == pytest.approx(3.0, abs=0.05)


def test_T9_1_calibration_leaves_ranking_metrics_unchanged():
    labels, logits = calibrated(5000)
    scaled = fit_calibration(labels, 3 * logits + 1).apply(3 * logits + 1)
    assert metrics.average_precision(labels, scaled) == metrics.average_precision(labels, logits)
    assert metrics.auroc(labels, scaled) == metrics.auroc(labels, logits)


@pytest.mark.parametrize("seed", range(6))
def test_T9_1_calibration_is_never_worse_than_the_identity_on_its_fit_set(seed):
    generator = np.random.default_rng(seed)
    labels = np.append([0, 1], generator.random(60) < 0.3)
    logits = generator.normal(0, 10.0 ** generator.uniform(-3, 2), 62) + generator.normal()
    temperature = fit_temperature(labels, logits)
    platt, bias = fit_platt(labels, logits)
    identity, scaled = negative_log_likelihood(labels, logits), negative_log_likelihood(labels, logits / temperature)
    assert scaled <= identity
    assert negative_log_likelihood(labels, logits / platt + bias) <= scaled


def test_platt_recovers_scale_and_intercept():
    labels, logits = calibrated()
    temperature, bias = fit_platt(labels, 3 * logits + 1)
    assert (temperature, bias) == pytest.approx((3.0, -1 / 3), abs=0.05)


def test_T9_2_constant_prevalence_is_calibrated_whatever_the_bins():
    labels = np.repeat([1, 0], [30, 70])
    for binning in ("width", "mass"):
        assert expected_calibration_error(labels, np.full(100, 0.3), binning=binning) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("binning", ["width", "mass"])
def test_T9_2_calibration_error_of_calibrated_and_of_tripled_logits(binning):
    labels, logits = calibrated()
    assert expected_calibration_error(labels, expit(logits), binning=binning) < 0.005
    assert expected_calibration_error(labels, expit(3 * logits), binning=binning) == pytest.approx(0.149, abs=0.005)


def test_calibration_error_of_no_pairs_is_undefined():
    assert np.isnan(expected_calibration_error([], []))


def test_certain_predictions_have_a_bin():
    assert reliability([0, 1], [0.0, 1.0]).tolist() == [[0, 1], [0, 1], [1, 1]]


def test_f1_threshold_of_calibrated_probabilities_is_half_the_best_f1():
    labels, logits = calibrated(offset=-1.5)
    p = expit(logits)
    threshold = choose_threshold(labels, p, "f1")
    assert threshold == pytest.approx(metrics.threshold_metrics(labels, p, threshold)["f1"] / 2, abs=0.02)


def test_mcc_threshold_is_the_best_of_all_cuts():
    labels, logits = calibrated(200)
    p = np.round(expit(logits), 2)
    chosen = metrics.threshold_metrics(labels, p, choose_threshold(labels, p, "mcc"))["mcc"]
    assert chosen == pytest.approx(max(metrics.threshold_metrics(labels, p, cut)["mcc"] for cut in p))


def test_break_even_threshold_balances_precision_and_recall():
    labels, logits = calibrated(5000)
    row = metrics.threshold_metrics(labels, expit(logits), choose_threshold(labels, expit(logits), "break_even"))
    assert row["precision"] == pytest.approx(row["recall"], abs=1e-3)


def test_threshold_between_neighbouring_floats_keeps_the_lower_one_out():
    low = 0.3
    high = np.nextafter(low, 1)
    assert low < choose_threshold([1, 0, 0], [high, low, low]) <= high


def test_constant_probabilities_have_a_threshold():
    assert choose_threshold([1, 0, 0], [0.4, 0.4, 0.4]) == 0.4


def test_validation_pairs_of_one_class_are_refused():
    with pytest.raises(UserError, match="3 validation pairs do not hold both labels"):
        fit_calibration([0, 0, 0], [0.1, 0.2, 0.3])


def test_threshold_at_recall_finds_seven_of_ten_and_is_the_highest_that_does():
    p = np.linspace(0.95, 0.05, 19)  # positives at even places
    labels = np.arange(19) % 2 == 0
    threshold = threshold_at_recall(labels, p, 0.7)
    assert (p[labels] >= threshold).sum() == 7
    assert threshold == pytest.approx((p[12] + p[13]) / 2)
    assert threshold_at_recall(labels, p, 1.0) == pytest.approx(0.05)


def test_a_tie_at_the_recall_is_taken_whole():
    assert threshold_at_recall([1, 0, 1, 1, 0], [0.9, 0.5, 0.5, 0.5, 0.1], 0.7) == pytest.approx(0.3)


def test_both_thresholds_are_frozen_whatever_the_criterion():
    labels, logits = calibrated(2000)
    best, other = (fit_calibration(labels, logits, CalibrationSettings(criterion=own)) for own in ("mcc", "f1"))
    assert best.threshold == best.at_mcc == other.at_mcc
    assert other.threshold != other.at_mcc
    found = best.apply(logits[labels == 1]) >= best.at_recall70
    assert 0.7 <= found.mean() < 0.7 + 2 / labels.sum()


def test_calibration_of_an_earlier_report_has_one_threshold():
    earlier = {"temperature": 2.0, "bias": 0.1, "threshold": 0.4, "criterion": "mcc"}
    assert Calibration.from_dict(earlier) == Calibration(2.0, 0.1, 0.4, "mcc", None, None)


def test_calibration_round_trips_through_its_dictionary():
    labels, logits = calibrated(500)
    fitted = fit_calibration(labels, logits, CalibrationSettings(criterion="f1", bias=False))
    assert Calibration.from_dict(fitted.to_dict()) == fitted
    assert (fitted.criterion, fitted.bias) == ("f1", 0.0)


def test_a_calibration_of_before_that_knows_no_prevalence_is_still_read():
    old = {"temperature": 2.0, "bias": 0.5, "threshold": 0.3, "criterion": "mcc"}
    assert Calibration.from_dict(old) == Calibration(2.0, 0.5, 0.3, "mcc", None, None)


def test_a_calibration_keeps_its_prevalence_and_the_spread_between_lines():
    labels, logits = calibrated(500)
    fitted = replace(fit_calibration(labels, logits), between=BetweenLines(3, "lines", 0.4, 0.3))
    assert fitted.prevalence == labels.mean()
    assert Calibration.from_dict(fitted.to_dict()) == fitted


def test_a_band_adds_the_support_and_the_lines_as_squares_around_the_shifted_score():
    # 4 logits at T = 2 are 2; with 3 lines the 80 % half-width is t(.9, 2 df) = 1.8856 times the spread.
    half = 1.8856181 * 0.3
    own = Calibration(2.0, 0.0, 0.5, "mcc", prevalence=0.2, between=BetweenLines(3, "lines", 0.4, 0.3))
    p, low, high = own.band([4.0], [2.0], [5.0], 0.7)
    assert p == pytest.approx(expit(2.7))
    assert low == pytest.approx(expit(2.7 - np.hypot(1.0, half)))
    assert high == pytest.approx(expit(2.7 + np.hypot(0.5, half)))
    assert own.band([4.0], [np.nan], [np.nan], 0.0)[1] == pytest.approx(expit(2.0 - half))
    assert replace(own, between=None).band([4.0], [2.0], [5.0], 0.0)[2] == pytest.approx(expit(2.5))


def test_brier_by_hand():
    assert brier_score([1, 0], [0.8, 0.4]) == pytest.approx((0.04 + 0.16) / 2)


@pytest.mark.parametrize("change", [{"temperature": 0.0}, {"criterion": "luck"}, {"extra": 1}])
def test_a_dictionary_that_is_no_calibration_is_refused(change):
    with pytest.raises(UserError, match="calibration"):
        Calibration.from_dict(Calibration().to_dict() | change)
