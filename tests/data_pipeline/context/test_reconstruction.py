"""Landscapes from means over pairs' elements and windows."""

from __future__ import annotations

import numpy as np
import pytest

from data_pipeline.context.landscape import Landscape
from data_pipeline.context.reconstruction import Stretches, reconstruct


@pytest.fixture(scope="module")
def planted() -> tuple[Landscape, Stretches, Stretches]:
    """A landscape of two signals that is level between elements, with the means of all windows up to 300 kb and of the
    elements."""
    rng = np.random.default_rng(1)
    start = 1_000_000 + np.cumsum(rng.integers(5_000, 40_000, 60))
    end = start + rng.integers(300, 2_000, 60)
    points = np.stack([start, end], axis=1).ravel()
    level = rng.exponential(2.0, (len(points) - 1, 2)) * (rng.random((len(points) - 1, 2)) < 0.7)
    integral = np.concatenate([np.zeros((1, 2)), np.cumsum(level * np.diff(points)[:, None], axis=0)])
    truth = Landscape(points, integral)
    left, right = np.triu_indices(60, k=1)
    near = start[right] - end[left] < 300_000
    first, last = end[left[near]], start[right[near]]
    return truth, Stretches(first, last, truth.density(first, last)), Stretches(start, end, truth.density(start, end))


def test_a_planted_landscape_comes_back_from_windows_and_elements(
    planted: tuple[Landscape, Stretches, Stretches],
) -> None:
    truth, windows, elements = planted
    found = reconstruct(windows, elements)
    assert found is not None
    edges = np.arange(1_050_000, 1_900_000, 10_000)
    expected = truth.mass(edges[:-1], edges[1:])
    # The pull towards the mean has a millionth of a window's weight.
    np.testing.assert_allclose(found.mass(edges[:-1], edges[1:]), expected, atol=1e-3 * expected.mean())
    np.testing.assert_allclose(found.density(windows.start, windows.end), windows.mean, atol=1e-4)


def test_windows_decide_where_an_element_was_measured_on_another_interval(
    planted: tuple[Landscape, Stretches, Stretches],
) -> None:
    _, windows, elements = planted
    found = reconstruct(windows, Stretches(elements.start, elements.end, elements.mean * 1.5))
    assert found is not None
    np.testing.assert_allclose(found.density(windows.start, windows.end), windows.mean, atol=0.02)


def test_unknown_means_and_empty_windows_say_nothing(planted: tuple[Landscape, Stretches, Stretches]) -> None:
    _, windows, elements = planted
    known = reconstruct(windows, elements)
    mean = np.concatenate([windows.mean, [[np.nan, 5.0], [9.0, 9.0]]])
    more = Stretches(np.append(windows.start, [7, 900]), np.append(windows.end, [9_000, 800]), mean)
    found = reconstruct(more, elements)
    assert known is not None
    assert found is not None
    np.testing.assert_array_equal(found.integral, known.integral)


def test_signals_never_fall_below_zero_and_nothing_known_is_no_landscape() -> None:
    start, end = np.array([0, 0]), np.array([10_000, 20_000])
    windows = Stretches(start, end, np.array([[3.0], [1.0]]))  # together they would ask for -1 in the second half
    nothing = Stretches(np.array([5]), np.array([9]), np.array([[np.nan]]))
    found = reconstruct(windows, nothing)
    assert found is not None
    assert (np.diff(found.integral[:, 0]) >= 0).all()
    assert reconstruct(nothing, nothing) is None
