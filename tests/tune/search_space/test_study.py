"""The study: how trials end, what survives a kill, and where the next trial goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState
from tiny_search import finish, folds, open_study, propose

from tune.search_space.storage import JOURNAL
from tune.search_space.study import SearchStudy, folds_of


def test_a_trial_with_all_folds_is_complete_with_their_mean(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    name = propose(study).name
    verdicts = [study.report(name, folds(0.2, 0.4, 0.6, 0.8)[:count]) for count in range(1, 5)]
    assert verdicts == [False, False, False, True]
    (trial,) = study.trials()
    assert trial.state == TrialState.COMPLETE
    assert trial.value == pytest.approx(0.5)
    assert [fold.score for fold in folds_of(trial)] == [0.2, 0.4, 0.6, 0.8]


def test_a_trial_that_is_behind_is_stopped_with_the_budget_it_reached(tmp_path: Path) -> None:
    study = open_study(tmp_path, early_stop=True)
    finish(study, 0.6)
    finish(study, 0.2)
    first, second = study.trials()
    assert (first.state, second.state) == (TrialState.COMPLETE, TrialState.PRUNED)
    assert [fold.score for fold in folds_of(second)] == [0.2]


def test_a_stopped_trial_is_never_the_best(tmp_path: Path) -> None:
    study = open_study(tmp_path, early_stop=True)
    finish(study, 0.6)
    name = propose(study).name
    assert not study.report(name, folds(0.9))
    assert study.report(name, folds(0.9, 0.1))
    assert study.optuna.best_trial.number == 0


def test_without_early_stopping_every_trial_takes_all_folds(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    for score in (0.6, 0.2, 0.1):
        finish(study, score)
    assert {trial.state for trial in study.trials()} == {TrialState.COMPLETE}


def test_grace_keeps_a_trial_for_that_many_folds(tmp_path: Path) -> None:
    study = open_study(tmp_path, early_stop=True, grace=2)
    finish(study, 0.6)
    finish(study, 0.2)
    assert len(folds_of(study.trials()[1])) == 2


def test_a_failed_trial_keeps_its_reason_and_the_search_goes_on(tmp_path: Path) -> None:
    study = open_study(tmp_path, trials=2)
    study.fail(propose(study).name, "ValueError: not finite")
    finish(study, 0.5)
    failed, other = study.trials()
    assert (failed.state, failed.user_attrs["reason"]) == (TrialState.FAIL, "ValueError: not finite")
    assert other.state == TrialState.COMPLETE
    assert study.remaining() == 0


def test_a_failure_after_the_end_changes_nothing(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    name = finish(study, 0.5).name
    study.fail(name, "its process died")
    assert study.trials()[0].state == TrialState.COMPLETE


def test_an_interrupted_trial_is_taken_up_under_its_number_with_its_point(tmp_path: Path) -> None:
    before = open_study(tmp_path, trials=3)
    finish(before, 0.5)
    interrupted = propose(before)
    before.report(interrupted.name, folds(0.3))
    after = open_study(tmp_path, trials=3)
    assert after.remaining() == 2
    again = propose(after)
    assert again == interrupted
    assert not after.report(again.name, folds(0.3))
    after.report(again.name, folds(0.3, 0.5))
    after.report(again.name, folds(0.3, 0.5, 0.4, 0.4))
    assert after.trials()[1].value == pytest.approx(0.4)
    assert [fold.score for fold in folds_of(after.trials()[1])] == [0.3, 0.5, 0.4, 0.4]
    assert propose(after).number == 2


def test_rungs_of_successive_halving_survive_a_kill(tmp_path: Path) -> None:
    finish(open_study(tmp_path, early_stop=True), 0.6)
    finish(open_study(tmp_path, early_stop=True), 0.2)
    assert open_study(tmp_path, early_stop=True).trials()[1].state == TrialState.PRUNED


@pytest.mark.parametrize("sampler", ["tpe", "sobol", "random", "gp", "cmaes"])
def test_a_resumed_search_visits_the_points_of_an_uninterrupted_one(tmp_path: Path, sampler: str) -> None:
    points: list[list[object]] = []
    for name, reopened in (("whole", False), ("killed", True)):
        folder = tmp_path / name
        folder.mkdir()
        study, visited = open_study(folder, sampler=sampler, startup=3), []
        for number in range(6):
            if reopened and number in (2, 4):
                propose(study)  # dies with the process
                study = open_study(folder, sampler=sampler, startup=3)
            visited.append(finish(study, 0.1 * number).point)
        points.append(visited)
    assert points[0] == points[1]
    assert (
        len({str(point) for point in points[0]}) >= 4
    )  # a Gaussian process may ask for the same end of the range again


def test_sobol_puts_one_of_eight_trials_into_each_eighth_of_a_range(tmp_path: Path) -> None:
    study = open_study(tmp_path, sampler="sobol", folds=1)
    rates = np.array([finish(study, 0.5).point["optimiser.lr"] for _ in range(8)], dtype=float)
    eighths = np.floor(8 * np.log(rates / 1e-4) / np.log(100)).astype(int)
    assert sorted(eighths) == list(range(8))


def test_sobol_draws_whole_numbers_and_choices_evenly(tmp_path: Path) -> None:
    parameters = {
        "model.energy.channels": {"low": 1, "high": 4, "integer": True},
        "episodes.query": {"choices": [16, 32]},
    }
    study = open_study(tmp_path, sampler="sobol", folds=1, parameters=parameters)
    points = [finish(study, 0.5).point for _ in range(16)]
    assert sorted(point["model.energy.channels"] for point in points) == sorted([1, 2, 3, 4] * 4)
    assert sorted(point["episodes.query"] for point in points) == sorted([16, 32] * 8)


def test_a_journal_with_a_torn_last_line_opens_without_it(tmp_path: Path) -> None:
    finish(open_study(tmp_path), 0.5)
    with (tmp_path / JOURNAL).open("a") as journal:
        journal.write('{"op_code": 4, "wor')
    study = open_study(tmp_path)
    finish(study, 0.7)
    assert [trial.state for trial in open_study(tmp_path).trials()] == [TrialState.COMPLETE] * 2


def test_more_trials_can_be_asked_of_a_finished_search(tmp_path: Path) -> None:
    study = open_study(tmp_path, trials=1)
    finish(study, 0.5)
    assert study.remaining() == 0
    assert open_study(tmp_path, trials=3).remaining() == 2


def test_points_are_tried_again_with_fresh_seeds_when_all_trials_have_ended(tmp_path: Path) -> None:
    point = {"optimiser.lr": 1e-3}
    study = open_study(tmp_path, trials=2, seeds=2, confirm=3, repeat=lambda: {"default": {}, "best": point})
    first, second = propose(study), propose(study)
    assert (first.seeds, second.seeds) == ((0, 1), (0, 1))
    assert study.propose() is None  # a trial that runs may yet be the best
    study.fail(first.name, "ValueError: not finite")
    study.report(second.name, [fold for seed in (0, 1) for fold in folds(*[0.5] * 4, seed=seed)])
    assert study.remaining() == 2
    again = [finish(study, 0.4) for _ in range(2)]
    assert [(one.name, one.point, one.seeds) for one in again] == [
        ("confirm-0000", {}, (2, 3, 4)),
        ("confirm-0001", point, (2, 3, 4)),
    ]
    assert study.propose() is None
    assert study.remaining() == 0
    assert len(study.trials()) == 2


def test_what_is_tried_again_survives_a_kill(tmp_path: Path) -> None:
    def opened() -> SearchStudy:
        return open_study(tmp_path, trials=1, confirm=1, repeat=lambda: {"default": {}, "best": {"optimiser.lr": 1e-3}})

    finish(opened(), 0.5)
    before = propose(opened())
    after = opened()
    assert after.remaining() == 2
    assert [finish(after, 0.4).name for _ in range(2)] == [before.name, "confirm-0001"]
    assert after.remaining() == 0


def test_the_settings_of_the_runs_are_tried_first_and_the_design_follows_unchanged(tmp_path: Path) -> None:
    plain, started = (tmp_path / name for name in ("plain", "started"))
    plain.mkdir()
    started.mkdir()
    without = open_study(plain, start=None)
    point = {"optimiser.lr": 2e-3}
    study = open_study(started, start=point)
    assert propose(study).point == point
    assert [propose(study).point for _ in range(4)] == [propose(without).point for _ in range(4)]


def test_a_setting_is_drawn_only_where_what_it_waits_for_is(tmp_path: Path) -> None:
    parameters = {
        "objective.balance.mode": {"choices": ["fixed_ramp", "gradnorm_ema"], "shares": [1, 3]},
        "objective.balance.beta": {"when": {"objective.balance.mode": ["gradnorm_ema"]}},
    }
    study = open_study(tmp_path, parameters=parameters, trials=16)
    points = [finish(study, 0.5).point for _ in range(16)]
    assert sorted(point["objective.balance.mode"] for point in points) == ["fixed_ramp"] * 4 + ["gradnorm_ema"] * 12
    assert all(
        ("objective.balance.beta" in point) == (point["objective.balance.mode"] != "fixed_ramp") for point in points
    )
    assert open_study(tmp_path, parameters=parameters, trials=16).trials()[3].params == points[3]


def test_several_objectives_are_mean_worst_line_and_calibration(tmp_path: Path) -> None:
    study = open_study(tmp_path, sampler="nsga2", trials=3, seeds=2, folds=2)
    cells = [replace(fold, calibration_error=0.1) for seed in (0, 1) for fold in folds(0.4, 0.8 + seed / 10, seed=seed)]
    study.report(propose(study).name, cells)
    assert study.trials()[0].values == pytest.approx([0.625, 0.4, 0.1])


def test_a_study_in_a_database_goes_on_where_it_was(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    finish(open_study(tmp_path, storage=url), 0.6)
    interrupted = propose(open_study(tmp_path, storage=url))
    after = open_study(tmp_path, storage=url)
    assert propose(after) == interrupted
    assert [trial.state for trial in after.trials()] == [TrialState.COMPLETE, TrialState.RUNNING]
