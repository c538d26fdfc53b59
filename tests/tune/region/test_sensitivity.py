"""Sobol indices of functions in closed form, and PED-ANOVA inside a region."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from planted_region import LINES, SEEDS, SPACE, A, flat, plateau, searched

from tune.region.design import design_of
from tune.region.sensitivity import Sensitivity, ped_anova, sensitivity, sobol_indices
from tune.region.surrogate import fit_surrogate

UNIT: dict[str, BaseDistribution] = {name: FloatDistribution(0.0, 1.0) for name in "abc"}


def interaction(at: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((at[:, 0] - 0.5) + 2 * (at[:, 1] - 0.5) * (at[:, 2] - 0.5))


@pytest.fixture(scope="module")
def through_the_surrogate() -> Sensitivity:
    table = searched(interaction, points=128, noise=0.002, space=UNIT)
    design = design_of(table, UNIT, LINES, SEEDS)
    return sensitivity(design, fit_surrogate(design), np.ones(128, dtype=np.bool_))


def test_T11_1_indices_of_the_response_itself() -> None:
    (found,) = sobol_indices(interaction, 3, 4096)
    np.testing.assert_allclose(found.first, [0.75, 0.0, 0.0], atol=0.005)
    np.testing.assert_allclose(found.total, [0.75, 0.25, 0.25], atol=0.005)
    assert found.pairs[1, 2] == pytest.approx(0.25, abs=0.01)


def test_T11_1_indices_through_a_surrogate_of_128_points(through_the_surrogate: Sensitivity) -> None:
    rows = {row.key: row for row in through_the_surrogate.axes}
    for key, first, total in (("a", 0.75, 0.75), ("b", 0.0, 0.25), ("c", 0.0, 0.25)):
        assert rows[key].first.value == pytest.approx(first, abs=0.03)
        assert rows[key].total.value == pytest.approx(total, abs=0.03)
        assert rows[key].total.low - 0.01 <= total <= rows[key].total.high + 0.01


def test_the_pair_that_acts_together_comes_first(through_the_surrogate: Sensitivity) -> None:
    first = through_the_surrogate.pairs[0]
    assert (first.one, first.other) == ("b", "c")
    assert first.second.value == pytest.approx(0.25, abs=0.04)


def test_indices_are_the_same_at_every_call() -> None:
    one, other = (sobol_indices(interaction, 3, 64, seed=3)[0] for _ in range(2))
    np.testing.assert_array_equal(one.total, other.total)


def test_a_flat_response_has_no_indices_and_says_why() -> None:
    design = design_of(searched(flat, noise=0.0), SPACE, LINES, SEEDS)
    found = sensitivity(design, fit_surrogate(design), np.ones(24, dtype=np.bool_))
    assert found.axes == []
    assert "flat" in found.reason


def test_ped_anova_finds_the_setting_that_makes_points_good() -> None:
    found, why = ped_anova(design_of(searched(points=64), SPACE, LINES, SEEDS), 64)
    assert why == ""
    assert found is not None
    assert sum(found.values()) == pytest.approx(1.0)
    assert found[A] > 0.6


def test_ped_anova_says_how_many_points_it_needs() -> None:
    found, why = ped_anova(design_of(searched(plateau), SPACE, LINES, SEEDS), 9)
    assert found is None
    assert "9 points lie in the region; PED-ANOVA needs 10" in why
