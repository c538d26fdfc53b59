"""What a search hands out: table, preset, importances, plots."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_search import LINES, finish, folds, open_study, propose, run_settings

from data_pipeline.settings import load
from distributed.settings import RunSettings
from tune.search_space.results import ranked, trial_table, write_preset, write_table
from tune.search_space.space import apply
from tune.search_space.study import SearchStudy

PAIR = {
    "optimiser.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "model.energy.channels": {"choices": [1, 2, 4]},
}


def mixed_study(folder: Path) -> SearchStudy:
    """A complete, a stopped, a failed and a running trial."""
    study = open_study(folder, parameters=PAIR, early_stop=True)
    finish(study, 0.6)
    finish(study, 0.2)
    study.fail(propose(study).name, "ValueError: not finite")
    study.report(propose(study).name, folds(0.7))
    return study


def test_the_table_has_a_row_per_trial_with_state_budget_and_scores(tmp_path: Path) -> None:
    write_table(trial_table(mixed_study(tmp_path), LINES), tmp_path)
    table = pd.read_parquet(tmp_path / "trials.parquet")
    assert list(table["state"]) == ["complete", "stopped", "failed", "running"]
    assert list(table["folds"]) == [4, 1, 0, 1]
    assert list(table["seconds"]) == [6.0, 1.5, 0.0, 1.5]
    assert np.allclose(table["score"], [0.6, 0.2, np.nan, 0.7], equal_nan=True)
    assert np.allclose(table["score/B"], [0.6, np.nan, np.nan, np.nan], equal_nan=True)
    assert table["reason"][2] == "ValueError: not finite"
    assert list(table["runs"][1]) == ["trial-0001/A-s0"]
    assert {"optimiser.lr", "model.energy.channels"} <= set(table.columns)


def test_only_complete_trials_are_ranked_whatever_a_running_one_has_so_far(tmp_path: Path) -> None:
    assert list(ranked(trial_table(mixed_study(tmp_path), LINES))["number"]) == [0]


def test_the_preset_gives_the_trials_settings_back(tmp_path: Path) -> None:
    base, point = run_settings("optimiser.clip=0.5"), {"optimiser.lr": 3e-4, "model.energy.channels": 2}
    preset = write_preset(point, "Told.", base, tmp_path / "best.yaml")
    assert load(RunSettings, [preset]) == apply(base, point)
    assert load(RunSettings, [preset], ["fold.valid_line=sim3"]).fold.valid_line == "sim3"


def test_a_searched_value_that_is_the_default_stands_in_the_preset(tmp_path: Path) -> None:
    preset = write_preset({"optimiser.lr": RunSettings().optimiser.lr}, "Told.", run_settings(), tmp_path / "best.yaml")
    assert "lr: 0.001" in preset.read_text()


def test_a_row_has_the_score_of_every_cell_and_medians_of_what_runs_observed(tmp_path: Path) -> None:
    study = open_study(tmp_path, folds=2, seeds=2)
    cells = [
        replace(fold, step_seconds=0.1 + fold.seed, shares={"grl": 0.2 + fold.seed})
        for seed in (0, 1)
        for fold in folds(0.4 + seed / 10, 0.6 + seed / 10, seed=seed)
    ]
    study.report(propose(study).name, cells)
    (row,) = trial_table(study, LINES[:2]).to_dict("records")
    assert {key: row[key] for key in row if str(key).startswith("score")} == pytest.approx(
        {
            "score": 0.55,
            "score/A": 0.45,
            "score/B": 0.65,
            "score/A@0": 0.4,
            "score/B@0": 0.6,
            "score/A@1": 0.5,
            "score/B@1": 0.7,
        }
    )
    assert (row["share/grl"], row["step_seconds"]) == pytest.approx((0.7, 0.6))
    assert list(row["runs"]) == [f"trial-0000/{line}-s{seed}" for seed in (0, 1) for line in "AB"]


def test_a_trial_that_repeats_a_point_is_never_ranked(tmp_path: Path) -> None:
    study = open_study(tmp_path, trials=1, confirm=2, repeat=lambda: {"best": {"optimiser.lr": 1e-3}})
    finish(study, 0.5)
    finish(study, 0.9)
    table = trial_table(study, LINES)
    assert list(table["kind"]) == ["trial", "confirm"]
    assert list(table["repeats"]) == ["", "best"]
    assert list(ranked(table)["score"]) == [0.5]
