from __future__ import annotations

import numpy as np
import pytest

from evaluation.geometry import bimodality, canonical_correlations, hull_distance, hull_test, recovery

VERTICES = np.random.default_rng(0).normal(size=(8, 3))


def test_T10_2_a_convex_combination_is_inside_the_hull() -> None:
    rng = np.random.default_rng(1)
    points = rng.dirichlet(np.ones(8), size=100) @ VERTICES
    assert hull_test(VERTICES, points).inside.all()


def test_T10_2_a_vertex_pushed_out_is_outside_the_hull() -> None:
    centre = VERTICES.mean(axis=0)
    farthest = np.linalg.norm(VERTICES - centre, axis=1).argmax()
    found = hull_test(VERTICES, centre + 1.2 * (VERTICES[[farthest]] - centre))
    assert not found.inside[0]
    assert found.distance[0] > 0


def test_T10_2_as_many_dimensions_as_the_hull_are_reported_as_not_testable() -> None:
    found = hull_test(VERTICES[:4], VERTICES[4:])
    assert not found.testable
    assert "outside" in found.reason
    assert np.isnan(found.p).all()
    assert hull_test(VERTICES[:4], VERTICES[4:], components=2).testable
    assert not hull_test(VERTICES[:2], VERTICES[4:], components=0).testable


def test_the_distance_to_a_triangle_is_the_one_of_school() -> None:
    triangle = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert hull_distance(triangle, np.array([1.0, 1.0])) == pytest.approx(np.sqrt(0.5), abs=1e-6)
    assert hull_distance(triangle, np.array([2.0, 0.0])) == pytest.approx(1.0, abs=1e-6)
    assert hull_distance(1e4 + 1e-3 * triangle, 1e4 + 1e-3 * np.array([2.0, 0.0])) == pytest.approx(1e-3, rel=1e-4)


def test_a_point_like_the_training_points_is_not_farther_out_than_they_are() -> None:
    rng = np.random.default_rng(1)
    cloud = rng.normal(size=(41, 6))
    like, far = hull_test(cloud[:40], cloud[40:], components=2), hull_test(cloud[:40], cloud[40:] + 50, components=2)
    assert like.p[0] > 0.05
    assert far.p[0] == pytest.approx(1 / 41)


def test_T10_3_an_exponential_sample_is_not_called_bimodal() -> None:
    quantiles = -np.log1p(-(np.arange(100) + 0.5) / 100)
    assert bimodality(quantiles).coefficient > 5 / 9
    drawn = [bimodality(np.random.default_rng(seed).exponential(size=100)) for seed in range(100)]
    assert not bimodality(quantiles).bimodal
    assert np.mean([found.coefficient > 5 / 9 for found in drawn]) > 0.5
    assert np.mean([found.bimodal for found in drawn]) <= 0.05


def test_T10_3_two_separate_modes_are_called_bimodal() -> None:
    rng = np.random.default_rng(1)
    found = bimodality(np.concatenate([rng.normal(-3, 1, 24), rng.normal(3, 1, 24)]))
    assert found.testable
    assert found.bimodal


def test_T10_3_few_or_equal_values_are_not_testable() -> None:
    assert not bimodality(np.concatenate([np.full(3, -1.0), np.full(3, 1.0)])).testable
    assert not bimodality(np.ones(100)).testable


def test_canonical_correlations_do_not_change_under_linear_maps() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    mapped = a @ rng.normal(size=(3, 3)) + 5.0
    assert canonical_correlations(mapped, b) == pytest.approx(canonical_correlations(a, b), abs=1e-10)
    assert canonical_correlations(a, a[:, :2]) == pytest.approx([1.0, 1.0])


def test_planted_environments_are_recovered_and_noise_is_not() -> None:
    rng = np.random.default_rng(1)
    planted = rng.normal(size=(12, 2))
    learnt = planted @ rng.normal(size=(2, 16)) + 0.05 * rng.normal(size=(12, 16))
    found, chance = recovery(learnt, planted), recovery(rng.normal(size=(12, 16)), planted)
    assert found.correlations.min() > 0.95
    assert found.p < 0.01
    assert chance.p > 0.05


def test_a_dead_environment_recovers_nothing() -> None:
    rng = np.random.default_rng(1)
    found = recovery(np.zeros((6, 4)), rng.normal(size=(6, 2)))
    assert len(found.correlations) == 0
    assert found.p == 1.0
