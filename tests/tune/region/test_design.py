"""Which trials make a design, and where their points lie."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from planted_region import LINES, SEEDS, SPACE, A, searched

from data_pipeline.errors import UserError
from tune.region.design import design_of, unit_of, value_of


def test_only_complete_trials_of_the_design_with_every_cell_enter() -> None:
    table = searched(points=8)
    table.loc[1, "state"] = "stopped"
    table.loc[2, "state"] = "failed"
    table.loc[3, "state"] = "running"
    table.loc[4, "role"] = "confirm"
    table.loc[5, "score/K562@1"] = np.nan
    assert design_of(table, SPACE, LINES, SEEDS).numbers == [0, 6, 7]


def test_a_stopped_trial_never_enters_whatever_scores_it_has() -> None:
    table = searched(points=8)
    alone = design_of(table[table["number"] != 5], SPACE, LINES, SEEDS)
    table.loc[5, "state"] = "stopped"
    table.loc[5, [name for name in table if name.startswith("score/")]] = 0.99
    with_it = design_of(table, SPACE, LINES, SEEDS)
    np.testing.assert_array_equal(with_it.scores, alone.scores)
    np.testing.assert_array_equal(with_it.points, alone.points)


def test_failed_trials_keep_their_point_and_reason() -> None:
    table = searched(points=8)
    table.loc[2, ["state", "reason"]] = ["failed", "the loss is not finite"]
    (failed,) = design_of(table, SPACE, LINES, SEEDS).failed
    assert (failed.number, failed.reason) == (2, "the loss is not finite")
    assert failed.point[A] == table.loc[2, A]


@pytest.mark.parametrize(
    ("own", "value", "at"),
    [
        (FloatDistribution(0.01, 1.0, log=True), 0.1, 0.5),
        (FloatDistribution(-1.0, 3.0), 0.0, 0.25),
        (IntDistribution(1, 9), 5, 0.5),
    ],
)
def test_a_value_and_its_position_lead_to_each_other(own: FloatDistribution, value: float, at: float) -> None:
    assert unit_of(own, value) == pytest.approx(at)
    assert value_of(own, at) == pytest.approx(value)


def test_a_setting_that_is_not_active_has_no_position() -> None:
    table = searched(points=4)
    table.loc[1, A] = np.nan
    assert np.isnan(design_of(table, SPACE, LINES, SEEDS).points[:, 0]).tolist() == [False, True, False, False]


def test_categorical_settings_are_kept_beside_the_numeric_ones() -> None:
    table = searched(points=4).assign(mode=["a", "b", "a", "b"])
    design = design_of(table, {**SPACE, "mode": CategoricalDistribution(["a", "b"])}, LINES, SEEDS)
    assert design.points.shape == (4, 2)
    assert design.choices == {"mode": ["a", "b", "a", "b"]}


def test_a_table_without_a_searched_setting_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=A.replace(".", r"\.")):
        design_of(searched().drop(columns=A), SPACE, LINES, SEEDS)


def test_an_empty_table_is_an_empty_design() -> None:
    design = design_of(pd.DataFrame(columns=["number", "state"]), SPACE, LINES, SEEDS)
    assert (design.points.shape, design.scores.shape) == ((0, 2), (0, 4, 2))
