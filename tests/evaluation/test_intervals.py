"""Claims about the cluster bootstrap (algorithms.md 9)."""

import numpy as np
import pytest
from sklearn import metrics as sk

from evaluation.intervals import (
    auroc_draws,
    average_precision_draws,
    cluster_ids,
    draw_clusters,
    interval,
    matthews_draws,
    paired_difference,
)


def clustered_pairs(clusters=100, size=30, seed=0):
    """Pairs whose score quality is shared within a cluster."""
    generator = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(clusters), size)
    labels = (generator.random(cluster.size) < 0.3).astype(np.int8)
    quality = generator.normal(1.0, 2.0, clusters)[cluster]
    return labels, quality * labels + generator.normal(size=cluster.size), cluster


@pytest.mark.parametrize("decimals", [8, 0])
@pytest.mark.parametrize(
    ("metric", "reference"),
    [
        (average_precision_draws, sk.average_precision_score),
        (auroc_draws, sk.roc_auc_score),
        (
            matthews_draws(0.5),
            lambda y, s, sample_weight: sk.matthews_corrcoef(y, s >= 0.5, sample_weight=sample_weight),
        ),
    ],
)
def test_each_draw_equals_sklearn_with_sample_weights(metric, reference, decimals):
    labels, scores, cluster = clustered_pairs(20, 15)
    scores = np.round(scores, decimals)
    draws = draw_clusters(cluster, draws=40)
    expected = [reference(labels, scores, sample_weight=draws.counts[draws.codes, i]) for i in range(40)]
    np.testing.assert_allclose(metric(labels, scores, draws), expected, rtol=1e-12)


def test_every_draw_holds_as_many_clusters_as_there_are():
    draws = draw_clusters(["b", "a", "b", "c"], draws=130)
    assert draws.codes.tolist() == [1, 0, 1, 2]
    assert (draws.counts.sum(axis=0) == 3).all()
    assert draws.counts.mean() == pytest.approx(1.0)


def test_draws_are_a_function_of_clusters_and_seed():
    first, again, other = (draw_clusters(np.arange(50), 20, seed) for seed in (1, 1, 2))
    assert (first.counts == again.counts).all()
    assert (first.counts != other.counts).any()


def test_T9_5_cluster_bootstrap_is_wider_than_the_iid_one_on_clustered_data():
    labels, scores, cluster = clustered_pairs()
    by_cluster = average_precision_draws(labels, scores, draw_clusters(cluster, 400))
    by_pair = average_precision_draws(labels, scores, draw_clusters(np.arange(cluster.size), 400))
    assert by_cluster.std() > 1.5 * by_pair.std()


def test_T9_5_paired_differences_use_the_same_draws():
    labels, scores, cluster = clustered_pairs()
    other = scores + np.random.default_rng(5).normal(0, 0.1, scores.size)
    draws = draw_clusters(cluster, 300)
    paired = paired_difference(labels, scores, other, draws)
    separate = average_precision_draws(labels, scores, draws) - average_precision_draws(
        labels, other, draw_clusters(cluster, 300, seed=9)
    )
    assert (paired_difference(labels, scores, scores, draws) == 0).all()
    assert paired.std() < 0.2 * separate.std()


def test_blocks_of_draws_do_not_change_the_result():
    labels, scores, cluster = clustered_pairs(400, 30)
    many, few = draw_clusters(cluster, 300), draw_clusters(cluster, 50)
    assert sum(1 for _ in many.blocks(int(2 * labels.sum() + 1))) > 1
    assert (average_precision_draws(labels, scores, many)[:50] == average_precision_draws(labels, scores, few)).all()


def test_interval_covers_the_sample_value():
    labels, scores, cluster = clustered_pairs()
    draws = draw_clusters(cluster, 300)
    low, high = interval(average_precision_draws(labels, scores, draws), draws)
    assert low < sk.average_precision_score(labels, scores) < high


def test_a_draw_of_one_class_is_left_out_of_the_interval():
    labels, cluster = np.array([1, 0, 0, 1, 0, 0]), np.array([0, 0, 1, 2, 2, 3])
    draws = draw_clusters(cluster, 500)
    values = average_precision_draws(labels, np.array([0.9, 0.2, 0.3, 0.4, 0.5, 0.1]), draws)
    assert np.isnan(values).any()
    assert np.isfinite(interval(values, draws)).all()


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_interval(label):
    draws = draw_clusters([0, 1, 2], 20)
    for metric in (average_precision_draws, auroc_draws, matthews_draws(0.5)):
        assert np.isnan(interval(metric(np.full(3, label, np.int8), np.arange(3.0), draws), draws)).all()


def test_one_cluster_has_no_interval():
    draws = draw_clusters([7, 7, 7], 20)
    assert np.isnan(interval(average_precision_draws(np.array([1, 0, 1]), np.arange(3.0), draws), draws)).all()


def test_clusters_are_chromosomes_from_eight_on_and_promoters_below():
    promoters = np.arange(16)
    assert np.unique(cluster_ids(np.arange(16) % 8, promoters)).size == 8
    assert (cluster_ids(np.arange(16) % 7, promoters) == promoters).all()


def test_chromosome_and_promoter_clusters_never_meet():
    assert not set(cluster_ids(np.arange(8), np.arange(8))) & set(cluster_ids(np.zeros(8), np.arange(8)))
