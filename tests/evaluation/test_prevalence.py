"""The prevalence from unlabelled scores: closed forms and planted shifts."""

import numpy as np
import pytest
from scipy.special import expit, logit

from evaluation.prevalence import MOST, estimate_shift, intercept_error


def scored(n, prevalence, seed=0, apart=2.0):
    """Labels and log-odds that are calibrated at .2: normal scores of unit variance, `apart` by class."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(n) < prevalence).astype(np.int8)
    x = apart * labels + generator.normal(size=n)
    # log-likelihood ratio of N(apart, 1) to N(0, 1), plus the log-odds of .2
    return labels, apart * x - apart**2 / 2 + logit(0.2)


@pytest.mark.parametrize("prevalence", [0.05, 0.2, 0.5])
def test_a_planted_prevalence_is_found_without_a_label_and_the_shifted_scores_are_calibrated(prevalence):
    labels, logits = scored(8000, prevalence)
    found = estimate_shift(logits, 0.2)
    assert found.converged
    assert found.prevalence == pytest.approx(labels.mean(), abs=0.015)
    assert found.offset == pytest.approx(logit(found.prevalence) - logit(0.2))
    assert expit(logits + found.offset).mean() == pytest.approx(found.prevalence, abs=1e-6)


def test_two_kinds_of_scores_have_the_closed_form():
    # Half the pairs say 3 to 1 for, half 3 to 1 against, at prior 1/2: no shift. With 3 of 5 for, the likelihood
    # (1/4 + pi/2)^3 (3/4 - pi/2)^2 is largest at pi = .7.
    assert estimate_shift(np.array([np.log(3), -np.log(3)]), 0.5).offset == pytest.approx(0.0)
    assert estimate_shift(np.log(3) * np.array([1, 1, 1, -1, -1]), 0.5).prevalence == pytest.approx(0.7, abs=1e-6)


def test_scores_that_all_agree_stay_half_a_pair_from_all_and_none():
    assert estimate_shift(np.full(10, 3.0), 0.5).prevalence == pytest.approx(0.95)
    assert estimate_shift(np.full(10, -3.0), 0.5).prevalence == pytest.approx(0.05)


def test_many_scores_are_binned_without_moving_the_estimate():
    _, logits = scored(3 * MOST, 0.1)
    every_third = estimate_shift(np.sort(logits)[1::3], 0.2).prevalence
    assert estimate_shift(logits, 0.2).prevalence == pytest.approx(every_third, abs=1e-4)


def test_the_order_of_the_scores_says_nothing():
    _, logits = scored(500, 0.3)
    assert estimate_shift(logits, 0.2) == estimate_shift(logits[::-1], 0.2)


def test_the_error_of_an_intercept_is_the_shift_that_sets_the_mean_right():
    labels, logits = scored(2000, 0.2)
    error = intercept_error(labels, logits + 0.8)
    assert expit(logits + 0.8 + error).mean() == pytest.approx(labels.mean())
    assert error == pytest.approx(-0.8, abs=0.15)
    # By hand: two equal scores, one of two interacts, so the right log-odds are 0.
    assert intercept_error(np.array([1, 0]), np.array([1.5, 1.5])) == pytest.approx(-1.5)
