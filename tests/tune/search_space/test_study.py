"""The study: how trials end, what survives a kill, and where the next trial goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState
from tiny_search import finish, folds, open_study

from tune.search_space.study import JOURNAL, folds_of


def test_a_trial_with_all_folds_is_complete_with_their_mean(tmp_path: Path) -> None:
    study = open_study(tmp_path, early_stop=False)
    number = study.propose().number
    verdicts = [study.report(number, folds(0.2, 0.4, 0.6, 0.8)[:count]) for count in range(1, 5)]
    assert verdicts == [False, False, False, True]
    (trial,) = study.trials()
    assert trial.state == TrialState.COMPLETE
    assert trial.value == pytest.approx(0.5)
    assert trial.intermediate_values == pytest.approx({1: 0.2, 2: 0.3, 3: 0.4, 4: 0.5})


def test_a_trial_that_is_behind_is_stopped_with_the_budget_it_reached(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    finish(study, 0.6)
    finish(study, 0.2)
    first, second = study.trials()
    assert (first.state, second.state) == (TrialState.COMPLETE, TrialState.PRUNED)
    assert [fold.score for fold in folds_of(second)] == [0.2]


def test_a_stopped_trial_is_never_the_best(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    finish(study, 0.6)
    number = study.propose().number
    assert not study.report(number, folds(0.9))
    assert study.report(number, folds(0.9, 0.1))
    assert study.optuna.best_trial.number == 0


def test_without_early_stopping_every_trial_takes_all_folds(tmp_path: Path) -> None:
    study = open_study(tmp_path, early_stop=False)
    for score in (0.6, 0.2, 0.1):
        finish(study, score)
    assert {trial.state for trial in study.trials()} == {TrialState.COMPLETE}


def test_grace_keeps_a_trial_for_that_many_folds(tmp_path: Path) -> None:
    study = open_study(tmp_path, grace=2)
    finish(study, 0.6)
    finish(study, 0.2)
    assert len(folds_of(study.trials()[1])) == 2


def test_a_failed_trial_keeps_its_reason_and_the_search_goes_on(tmp_path: Path) -> None:
    study = open_study(tmp_path, trials=2)
    study.fail(study.propose().number, "ValueError: not finite")
    finish(study, 0.5)
    failed, other = study.trials()
    assert (failed.state, failed.user_attrs["reason"]) == (TrialState.FAIL, "ValueError: not finite")
    assert other.state == TrialState.COMPLETE
    assert study.remaining() == 0


def test_a_failure_after_the_end_changes_nothing(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    number = finish(study, 0.5).number
    study.fail(number, "its process died")
    assert study.trials()[number].state == TrialState.COMPLETE


def test_an_interrupted_trial_is_taken_up_under_its_number_with_its_point(tmp_path: Path) -> None:
    before = open_study(tmp_path, trials=3, early_stop=False)
    finish(before, 0.5)
    interrupted = before.propose()
    before.report(interrupted.number, folds(0.3))
    after = open_study(tmp_path, trials=3, early_stop=False)
    assert after.remaining() == 2
    again = after.propose()
    assert again == interrupted
    assert not after.report(again.number, folds(0.3))
    after.report(again.number, folds(0.3, 0.5))
    after.report(again.number, folds(0.3, 0.5, 0.4, 0.4))
    assert after.trials()[1].value == pytest.approx(0.4)
    assert [fold.score for fold in folds_of(after.trials()[1])] == [0.3, 0.5, 0.4, 0.4]
    assert after.propose().number == 2


def test_rungs_of_successive_halving_survive_a_kill(tmp_path: Path) -> None:
    finish(open_study(tmp_path), 0.6)
    finish(open_study(tmp_path), 0.2)
    assert open_study(tmp_path).trials()[1].state == TrialState.PRUNED


@pytest.mark.parametrize("sampler", ["tpe", "sobol", "random"])
def test_a_resumed_search_visits_the_points_of_an_uninterrupted_one(tmp_path: Path, sampler: str) -> None:
    points: list[list[object]] = []
    for name, reopened in (("whole", False), ("killed", True)):
        folder = tmp_path / name
        folder.mkdir()
        study, visited = open_study(folder, sampler=sampler, startup=3), []
        for number in range(6):
            if reopened and number in (2, 4):
                study.propose()  # dies with the process
                study = open_study(folder, sampler=sampler, startup=3)
            visited.append(finish(study, 0.1 * number).point)
        points.append(visited)
    assert points[0] == points[1]
    assert len({str(point) for point in points[0]}) == 6


def test_sobol_puts_one_of_eight_trials_into_each_eighth_of_a_range(tmp_path: Path) -> None:
    study = open_study(tmp_path, sampler="sobol", early_stop=False, folds=1)
    rates = np.array([finish(study, 0.5).point["optimiser.lr"] for _ in range(8)], dtype=float)
    eighths = np.floor(8 * np.log(rates / 1e-4) / np.log(100)).astype(int)
    assert sorted(eighths) == list(range(8))


def test_sobol_draws_whole_numbers_and_choices_evenly(tmp_path: Path) -> None:
    parameters = {
        "model.energy.channels": {"low": 1, "high": 4, "integer": True},
        "episodes.query": {"choices": [16, 32]},
    }
    study = open_study(tmp_path, sampler="sobol", early_stop=False, folds=1, parameters=parameters)
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
