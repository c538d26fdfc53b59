"""A signal along the genome as its integral."""

from __future__ import annotations

import numpy as np
import pytest

from data_pipeline.context.landscape import Landscape, stepwise


def test_stretches_are_exact_at_grid_points_and_add_up_where_they_overlap() -> None:
    rng = np.random.default_rng(0)
    start = rng.integers(0, 9_000, 60)
    end = start + rng.integers(1, 1_500, 60)
    value = rng.exponential(3.0, 60)
    bases = np.zeros(12_000)
    for first, last, own in zip(start, end, value, strict=True):
        bases[first:last] += own
    made = stepwise(start, end, value, 100)
    reached = np.concatenate([[0.0], np.cumsum(bases)])
    np.testing.assert_allclose(made.integral[:, 0], reached[made.points], rtol=1e-12)
    assert made.points[-1] >= end.max()


def test_a_stretch_that_ends_on_a_grid_point_keeps_all_of_its_mass() -> None:
    made = stepwise(np.array([500]), np.array([1500]), np.array([2.0]), 500)
    assert made.mass(np.array([0, 500, 1500]), np.array([9999, 1000, 2000]))[:, 0].tolist() == [2000, 1000, 0]


def test_a_small_signal_is_not_lost_behind_many_large_ones() -> None:
    start = 100_000_000 + 100 * np.arange(200_000)
    value = np.full(len(start), 1e4 / 3)
    late = start[-1] + 10_000
    made = stepwise(np.append(start, late), np.append(start + 100, late + 500), np.append(value, 1e-3), 500)
    assert made.mass(np.array([late - 5_000]), np.array([late + 5_000])) == pytest.approx(0.5, rel=1e-3)


def test_mass_and_mean_are_those_of_the_stretch_and_nothing_lies_outside() -> None:
    made = Landscape(np.array([1000, 2000, 4000]), np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 8.0]]))
    start, end = np.array([0, 1500, 1000, 3000, 9000, 5, 3000]), np.array([9999, 2000, 4000, 3500, 9999, 9, 3000])
    mass = made.mass(start, end)
    assert mass[:, 0].tolist() == [10, 5, 10, 0, 0, 0, 0]
    assert mass[:, 1].tolist() == [8, 0, 8, 2, 0, 0, 0]
    np.testing.assert_allclose(made.density(start, end)[:, 1], [8 / 9999, 0, 8 / 3000, 2 / 500, 0, 0, 0])


def test_bins_begin_at_the_chromosome_and_hold_everything() -> None:
    made = stepwise(np.array([1200, 25_000]), np.array([1300, 25_500]), np.array([1.0, 2.0]), 100)
    assert made.bins(10_000)[:, 0].tolist() == [100, 0, 1000, 0]


def test_landscapes_with_points_of_their_own_are_joined_without_loss() -> None:
    one = stepwise(np.array([100]), np.array([1100]), np.array([3.0]), 100)
    other = stepwise(np.array([250]), np.array([7000]), np.array([1.0]), 50)
    joined = Landscape.joined([None, one, other])
    start = np.arange(0, 8000, 70)
    for column, part in ((1, one), (2, other)):
        np.testing.assert_allclose(joined.mass(start, start + 300)[:, column], part.mass(start, start + 300)[:, 0])
        np.testing.assert_array_equal(joined.alone(column).integral[:, 0], joined.integral[:, column])
    assert not joined.integral[:, 0].any()
