"""Modes against each other on the same lines and seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from planted_region import LINES, SEEDS, flat, searched

from tune.region.design import design_of
from tune.region.modes import Modes, compare_modes, holm, paired

MODE = "objective.balance.mode"
NAMES = ["fixed", "pcgrad", "uw"]
SPACE: dict[str, BaseDistribution] = {MODE: CategoricalDistribution(NAMES)}


def compared(gains: dict[str, float], seed: int = 0, each: int = 8) -> Modes:
    """Modes whose points score `gains` above .7, with noise .004."""
    table = searched(flat, points=each * len(NAMES), seed=seed)
    table[MODE] = [NAMES[at % len(NAMES)] for at in range(len(table))]
    for name in table:
        if name.startswith("score/"):
            table[name] += table[MODE].map(gains)
    table["seconds_per_step"] = table[MODE].map({"fixed": 1.0, "pcgrad": 3.0, "uw": 1.0})
    return compare_modes(design_of(table, SPACE, LINES, SEEDS), MODE)


def test_a_planted_difference_is_found() -> None:
    found = compared({"fixed": 0.0, "pcgrad": 0.03, "uw": 0.0})
    assert found.modes[0].value == "pcgrad"
    for pairs in (found.untuned, found.tuned):
        led = [pair for pair in pairs if "pcgrad" in (pair.one, pair.other)]
        assert all(pair.p < 0.05 and 0.03 in pair.difference for pair in led)


def test_equal_modes_are_told_apart_in_about_one_search_of_twenty() -> None:
    found = [compared(dict.fromkeys(NAMES, 0.0), seed) for seed in range(60)]
    for pairs in ([own.untuned for own in found], [own.tuned for own in found]):
        assert np.mean([min(pair.p for pair in own) < 0.05 for own in pairs]) <= 0.1


def test_the_best_of_many_equal_points_is_not_scored_by_its_luck() -> None:
    luck = [compared(dict.fromkeys(NAMES, 0.0), seed, each=16).modes for seed in range(20)]
    lead = [mode.tuned - mode.untuned for modes in luck for mode in modes]
    assert abs(np.mean(lead)) < 0.001


def test_cost_stands_beside_gain() -> None:
    found = compared(dict.fromkeys(NAMES, 0.0))
    assert {mode.value: mode.seconds_per_step for mode in found.modes} == {"fixed": 1.0, "pcgrad": 3.0, "uw": 1.0}


def test_one_mode_with_a_complete_trial_is_compared_with_nothing_and_says_so() -> None:
    table = searched(flat, points=4).assign(**{MODE: "fixed"})
    found = compare_modes(design_of(table, SPACE, LINES, SEEDS), MODE)
    assert found.modes == []
    assert "two are needed" in found.reason


def test_the_interval_over_lines_is_students() -> None:
    found, p = paired(np.array([1.0, 2.0, 3.0]))
    assert (found.value, found.low, found.high) == pytest.approx((2.0, -0.4841, 4.4841), abs=1e-4)
    assert p == pytest.approx(0.0742, abs=1e-4)


def test_one_line_gives_no_interval() -> None:
    found, p = paired(np.array([1.0]))
    assert found.value == 1.0
    assert pd.isna(found.low)
    assert pd.isna(p)


def test_holms_correction_in_closed_form() -> None:
    assert holm([0.01, 0.04, 0.03, float("nan")])[:3] == pytest.approx([0.03, 0.06, 0.06])
