"""eq and within-group average precision, by hand, beside sklearn, and in bootstrap draws."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from evaluation.candidates import (
    equal_prevalence_precision,
    equal_prevalence_weights,
    groups_with_both_classes,
    within_precision,
    within_precision_draws,
)
from evaluation.intervals import average_precision_draws, draw_clusters

# Enhancer 7 has 1 of 2 positive, enhancer 9 has 1 of 4, enhancer 3 only negatives, enhancer 4 only a positive.
LABELS = np.array([1, 0, 1, 0, 0, 0, 0, 0, 1])
GROUPS = np.array([7, 7, 9, 9, 9, 9, 3, 3, 4])
SCORES = np.array([0.9, 0.8, 0.4, 0.7, 0.3, 0.2, 0.95, 0.1, 0.99])


def random_pairs(n=400, seed=0):
    generator = np.random.default_rng(seed)
    labels = (generator.random(n) < 0.3).astype(np.int8)
    scores = np.round(labels + generator.normal(size=n), 1)  # with ties
    return labels, scores, generator.integers(0, 40, n), generator.integers(0, 9, n)


def test_weights_by_hand_give_every_enhancer_one_prevalence_and_one_class_the_weight_of_that_class():
    weights = equal_prevalence_weights(LABELS, GROUPS)
    assert weights == pytest.approx([0.1, 0.9, 0.1, 0.3, 0.3, 0.3, 0.45, 0.45, 0.1])
    for enhancer in (7, 9):
        own = np.equal(GROUPS, enhancer)
        assert weights[own & (LABELS == 1)].sum() / weights[own].sum() == pytest.approx(0.1)


def test_eq_by_hand():
    # Ranked: 4+ (.1), 3- (.45), 7+ (.1), 7- (.9), 9- (.3), 9+ (.1), ...
    expected = (1 + 0.2 / 0.65 + 0.3 / 1.95) / 3
    assert equal_prevalence_precision(LABELS, SCORES, GROUPS) == pytest.approx(expected)


def test_a_score_that_knows_only_the_number_of_candidates_earns_the_prevalence_of_all_enhancers():
    labels, groups = np.array([1, 0] * 50 + [1, 0, 0, 0, 0] * 40), np.repeat(np.arange(90), [2] * 50 + [5] * 40)
    density = -np.bincount(groups)[groups]
    assert average_precision_score(labels, density) > labels.mean() + 0.05
    assert equal_prevalence_precision(labels, density, groups) == pytest.approx(0.1)


def test_within_by_hand_is_the_mean_over_enhancers_with_both_classes():
    assert within_precision(LABELS, SCORES, GROUPS) == pytest.approx((1 + 1 / 2) / 2)
    assert groups_with_both_classes(LABELS, GROUPS) == 2


def test_within_is_sklearns_average_precision_of_each_group_with_ties():
    labels, scores, groups, _ = random_pairs()
    mine = [groups == group for group in range(40)]
    expected = [average_precision_score(labels[own], scores[own]) for own in mine if 0 < labels[own].sum() < own.sum()]
    assert within_precision(labels, scores, groups) == pytest.approx(np.mean(expected))


def test_an_offset_per_enhancer_changes_nothing_within():
    labels, scores, groups, _ = random_pairs()
    assert within_precision(labels, scores + 10 * groups, groups) == pytest.approx(
        within_precision(labels, scores, groups)
    )


@pytest.mark.parametrize("labels", [np.zeros(9, int), np.ones(9, int), np.array([1, 1, 1, 1, 1, 1, 0, 0, 1])])
def test_without_a_group_of_both_classes_there_is_no_figure(labels):
    assert np.isnan(within_precision(labels, SCORES, GROUPS))
    if np.ptp(labels) == 0:
        assert np.isnan(equal_prevalence_precision(labels, SCORES, GROUPS))


def test_draws_of_whole_enhancers_are_the_figures_of_the_pairs_repeated():
    labels, scores, groups, _ = random_pairs()
    draws = draw_clusters(groups % 11, 20, seed=3)
    within = within_precision_draws(labels, scores, groups, draws)
    equal = average_precision_draws(labels, scores, draws, equal_prevalence_weights(labels, groups))
    for draw in range(20):
        times = draws.counts[draws.codes, draw]
        rows = np.repeat(np.arange(labels.size), times)
        # Copies of an enhancer are enhancers of their own.
        copy = np.concatenate([np.arange(count) for count in times])
        expected = within_precision(labels[rows], scores[rows], groups[rows] * 100 + copy)
        assert within[draw] == pytest.approx(expected)
        weights = equal_prevalence_weights(labels, groups)[rows]
        assert equal[draw] == pytest.approx(average_precision_score(labels[rows], scores[rows], sample_weight=weights))


def test_draws_of_clusters_that_cut_enhancers_weigh_their_pairs():
    labels, scores, groups, clusters = random_pairs()
    draws = draw_clusters(clusters, 5, seed=1)
    found = within_precision_draws(labels, scores, groups, draws)
    for draw in range(5):
        times, values, importance = draws.counts[draws.codes, draw], [], []
        for group in range(40):
            own = (groups == group) & (times > 0)
            if 0 < labels[own].sum() < own.sum():
                values.append(average_precision_score(labels[own], scores[own], sample_weight=times[own]))
                importance.append(times[groups == group].mean())
        assert found[draw] == pytest.approx(np.average(values, weights=importance))
