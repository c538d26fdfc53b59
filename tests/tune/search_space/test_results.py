"""What a search hands out: table, preset, importances, plots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_search import LINES, finish, folds, open_study, run_settings

from data_pipeline.settings import load
from distributed.settings import RunSettings
from tune.search_space.plots import plot_history, plot_settings
from tune.search_space.results import FEWEST_FOR_IMPORTANCE, importances, ranked, trial_table, write_preset, write_table
from tune.search_space.space import apply
from tune.search_space.study import SearchStudy

PAIR = {
    "optimiser.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "model.energy.channels": {"choices": [1, 2, 4]},
}


def mixed_study(folder: Path) -> SearchStudy:
    """A complete, a stopped, a failed and a running trial."""
    study = open_study(folder, parameters=PAIR)
    finish(study, 0.6)
    finish(study, 0.2)
    study.fail(study.propose().number, "ValueError: not finite")
    study.report(study.propose().number, folds(0.7))
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
    assert list(table["runs"][1]) == ["trial-0001-A"]
    assert {"optimiser.lr", "model.energy.channels"} <= set(table.columns)


def test_only_complete_trials_are_ranked_whatever_a_running_one_has_so_far(tmp_path: Path) -> None:
    assert list(ranked(trial_table(mixed_study(tmp_path), LINES))["number"]) == [0]


def test_the_preset_gives_the_trials_settings_back(tmp_path: Path) -> None:
    base, point = run_settings("optimiser.clip=0.5"), {"optimiser.lr": 3e-4, "model.energy.channels": 2}
    preset = write_preset(point, 0.5, LINES, base, tmp_path)
    assert load(RunSettings, [preset]) == apply(base, point)
    assert load(RunSettings, [preset], ["fold.valid_line=sim3"]).fold.valid_line == "sim3"


def test_a_searched_value_that_is_the_default_stands_in_the_preset(tmp_path: Path) -> None:
    preset = write_preset({"optimiser.lr": RunSettings().optimiser.lr}, 0.5, LINES, run_settings(), tmp_path)
    assert "lr: 0.001" in preset.read_text()


def test_importances_are_not_given_for_few_complete_trials(tmp_path: Path) -> None:
    assert importances(mixed_study(tmp_path)) is None


@pytest.mark.parametrize("sampler", ["sobol", "tpe"])
def test_importances_find_the_setting_that_matters(tmp_path: Path, sampler: str) -> None:
    parameters = {key: {"low": 0.1, "high": 2.0} for key in ("objective.terms.grl.ratio", "objective.terms.corr.ratio")}
    study = open_study(
        tmp_path, parameters=parameters, sampler=sampler, startup=32, trials=32, folds=1, early_stop=False
    )
    for _ in range(max(32, FEWEST_FOR_IMPORTANCE)):
        proposal = study.propose()
        study.report(proposal.number, folds(0.9 - 0.2 * abs(float(proposal.point["objective.terms.grl.ratio"]) - 0.4)))
    shares = importances(study)
    assert shares is not None
    assert next(iter(shares)) == "objective.terms.grl.ratio"
    assert shares["objective.terms.grl.ratio"] > 0.7


def test_plots_are_drawn_for_every_mix_of_trials(tmp_path: Path) -> None:
    study = mixed_study(tmp_path)
    table = trial_table(study, LINES)
    for name, part in (("all", table), ("none_complete", table[table["state"] != "complete"])):
        plot_settings(part, study.space, tmp_path / f"settings_{name}.png")
        plot_history(part, tmp_path / f"history_{name}.png")
    assert len(list(tmp_path.glob("*.png"))) == 4
