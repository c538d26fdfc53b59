"""The noise floor and the luck of the winner."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from planted_region import LINES, SEEDS, SPACE, flat, searched
from scipy.stats import t as student_t

from tune.region.design import design_of
from tune.region.noise import NoiseFloor, noise_floor

FRESH = [10, 11, 12, 13]


def confirmed(table: pd.DataFrame, number: int, scores: list[float]) -> pd.DataFrame:
    """`table` with trial `number` run again, a trial per fresh seed, each with one score on all lines."""
    rows = []
    for at, (seed, score) in enumerate(zip(FRESH, scores, strict=True)):
        row = {key: table.loc[number, key] for key in SPACE}
        row |= {"number": 100 + at, "state": "complete", "role": "confirm"}
        rows.append(row | {f"score/{line}@{seed}": score for line in LINES})
    return pd.concat([table, pd.DataFrame(rows)], ignore_index=True)


def floor(table: pd.DataFrame, seeds: list[int] = SEEDS) -> NoiseFloor:
    return noise_floor(design_of(table, SPACE, LINES, seeds), table, lambda _: 0.5)


def test_the_floor_of_the_design_is_the_noise_that_was_planted() -> None:
    found = floor(searched(flat, points=256, noise=0.01))
    # Two seeds on four lines: .01 / sqrt(4) per seed.
    assert found.sd == pytest.approx(0.005, rel=0.1)
    assert found.paired == pytest.approx(student_t.ppf(0.975, 255) * np.sqrt(2) * 0.01 / np.sqrt(8), rel=0.1)


def test_repeats_of_one_point_give_the_spread_over_its_fresh_seeds() -> None:
    found = floor(confirmed(searched(flat), 3, [0.70, 0.71, 0.72, 0.73]))
    assert found.sd == pytest.approx(np.std([0.70, 0.71, 0.72, 0.73], ddof=1))
    assert found.freedom == 3


def test_optimism_is_the_score_of_the_search_minus_that_of_fresh_seeds() -> None:
    table = searched(flat)
    (own,) = floor(confirmed(table, 3, [0.60, 0.61, 0.62, 0.61])).confirmations
    search = float(table.loc[3, [f"score/{line}@{seed}" for line in LINES for seed in SEEDS]].astype(float).mean())
    assert own.search == pytest.approx(search)
    assert own.optimism.value == pytest.approx(search - 0.61)
    assert own.optimism.low < own.optimism.value < own.optimism.high


def test_a_confirmed_setting_outside_the_design_is_held_against_what_the_surrogate_expected() -> None:
    table = confirmed(searched(flat), 3, [0.60, 0.61, 0.62, 0.61])
    table.loc[table["role"] == "confirm", list(SPACE)] = 0.123
    (own,) = floor(table).confirmations
    assert own.search == 0.5


def test_confirming_trials_do_not_move_the_design() -> None:
    table = searched(flat)
    more = confirmed(table, 3, [0.60, 0.61, 0.62, 0.61])
    assert design_of(more, SPACE, LINES, SEEDS).numbers == design_of(table, SPACE, LINES, SEEDS).numbers


def test_one_seed_and_no_repeat_leaves_the_noise_unknown_and_says_so() -> None:
    found = floor(searched(flat, seeds=[0]), [0])
    assert np.isnan(found.sd)
    assert "not known" in found.reason
