"""T13.1: each alarm of algorithms.md 13 fires on a constructed case and stays silent on a healthy run."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from model_episodes import episodes, training_module
from model_steps import scores_of

from evaluation.alarms import EPOCH_ALARMS, STEP_ALARMS, Alarm, AlarmState, Event, observe
from model.energy.forms import FORMS
from model.objective import monitors

HEALTHY_STEP = {
    "not_finite/loss/task": 0.0,
    "not_finite/gradient": 0.0,
    "bound_violated/task": 0.0,
    "bound_violated/corr": 0.0,
    "degenerate/corr": 0.0,
    "weight/corr": 0.4,
    "weight/proto": 0.1,
    "gradient_ratio/corr": 0.5,
    "temperature": 1.0,
    "interaction/sd": 0.3,
    "logits/sd_within": 1.2,
    "resistance/sd": 0.4,
    "environment/scale": 1.0,
    "collapsed/proto": 0.0,
    "idle/competition": 0.0,
    "win_least/competition": 0.48,
    "win_most/competition": 0.6,
}
HEALTHY_EPOCH = {
    "train/average_precision": 0.8,
    "gap": 0.1,
    "valid/average_precision": 0.7,
    "valid/prevalence": 0.2,
    "valid/threshold": 0.4,
    "valid/recall": 0.7,
    "valid/precision": 0.65,
    "valid/logit_sd": 1.1,
    "valid/environment_gain": 0.03,
    "valid/environment_gain_of_one_channel": 0.0,
    "valid/context_gain": 0.02,
    "leakage/above_chance": 0.05,
    "environment/scale": 1.0,
}


def run(alarms: tuple[Alarm, ...], figures: dict[str, float], steps: int, every: int = 1) -> list[Event]:
    """Events of `steps` steps that show the same `figures`, measured every so many steps."""
    state, events = AlarmState(), []
    for step in range(0, steps, every):
        state, new = observe(state, alarms, figures, step)
        events += new
    return events


def test_T13_1_a_healthy_run_is_silent() -> None:
    assert run(STEP_ALARMS, HEALTHY_STEP, 1000) == []
    assert run(EPOCH_ALARMS, HEALTHY_EPOCH, 50) == []


STEP_CASES = [
    ("not_finite", {"not_finite/loss/task": 1.0}, "loss/task"),
    ("bound_violated", {"bound_violated/corr": 1.0}, "corr"),
    ("degenerate", {"degenerate/corr": 1.0}, "corr"),
    ("drowned", {"gradient_ratio/corr": 0.049}, "corr"),
    ("dominating", {"gradient_ratio/corr": 5.1}, "corr"),
    ("temperature", {"temperature": 0.51}, ""),
    ("temperature", {"temperature": 1.99}, ""),
    ("diverging", {"interaction/sd": 4.0}, ""),
    ("constant_output", {"logits/sd_within": 0.04}, ""),
    ("dead_environment", {"resistance/sd": 0.009}, ""),
    ("collapsed", {"collapsed/proto": 1.0}, "proto"),
    ("idle_competition", {"idle/competition": 1.0}, "competition"),
]
EPOCH_CASES = [
    ("memorised", {"train/average_precision": 0.96}),
    ("gap", {"gap": 0.21}),
    ("low_threshold", {"valid/threshold": 0.04}),
    ("predicts_all", {"valid/recall": 0.85, "valid/precision": 0.22}),
    ("collapse", {"valid/recall": 0.99, "valid/average_precision": 0.22}),
    ("constant_valid", {"valid/logit_sd": 0.01}),
    ("single_channel", {"valid/environment_gain_of_one_channel": -0.01}),
    ("useless_environment", {"valid/environment_gain": 0.0005}),
    ("harmful_environment", {"valid/environment_gain": -0.03}),
    ("unused_context", {"valid/context_gain": -0.001}),
    ("leak", {"leakage/above_chance": 0.14}),
]


@pytest.mark.parametrize(("name", "sick", "place"), STEP_CASES)
def test_T13_1_a_step_alarm_fires_alone_and_after_its_number_of_steps(
    name: str, sick: dict[str, float], place: str
) -> None:
    needed = next(alarm.steps for alarm in STEP_ALARMS if alarm.name == name)
    assert run(STEP_ALARMS, HEALTHY_STEP | sick, needed - 1) == []
    (event,) = run(STEP_ALARMS, HEALTHY_STEP | sick, needed + 300)
    assert (event.alarm, event.place, event.step, event.on) == (name, place, needed - 1, True)
    assert "{" not in event.says


@pytest.mark.parametrize(("name", "sick"), EPOCH_CASES)
def test_T13_1_an_epoch_alarm_fires_alone(name: str, sick: dict[str, float]) -> None:
    assert [event.alarm for event in run(EPOCH_ALARMS, HEALTHY_EPOCH | sick, 3)] == [name]


def test_T13_1_every_alarm_has_a_constructed_case() -> None:
    assert {name for name, *_ in STEP_CASES} == {alarm.name for alarm in STEP_ALARMS}
    assert {name for name, *_ in EPOCH_CASES} == {alarm.name for alarm in EPOCH_ALARMS}


def test_behind_its_firewall_the_competition_may_be_drowned_but_dominates_nothing() -> None:
    acting = HEALTHY_STEP | {"weight/competition": 1.0}
    assert run(STEP_ALARMS, acting | {"gradient_ratio/competition": 81.0}, 1000) == []
    (event,) = run(STEP_ALARMS, acting | {"gradient_ratio/competition": 0.01}, 300)
    assert (event.alarm, event.place) == ("drowned", "competition")


def test_an_alarm_fires_at_the_same_step_whatever_the_steps_between_measurements() -> None:
    (event,) = run(STEP_ALARMS, HEALTHY_STEP | {"gradient_ratio/corr": 0.01}, 400, every=4)
    assert event.step == 200


def test_one_healthy_look_starts_the_count_again_and_turns_an_alarm_off() -> None:
    sick = HEALTHY_STEP | {"temperature": 0.5}
    state, events = AlarmState(), []
    for step, figures in enumerate([sick] * 19 + [HEALTHY_STEP] + [sick] * 25 + [HEALTHY_STEP]):
        state, new = observe(state, STEP_ALARMS, figures, step)
        events += new
    assert [(event.step, event.on) for event in events] == [(39, True), (45, False)]
    assert state == AlarmState()


def test_a_missing_or_undefined_figure_changes_nothing() -> None:
    state, _ = observe(AlarmState(), EPOCH_ALARMS, HEALTHY_EPOCH | {"gap": 0.5}, 0)
    for figures in ({}, {"gap": math.nan}):
        assert observe(state, EPOCH_ALARMS, figures, 1) == (state, [])


def test_a_term_that_is_not_in_action_is_neither_drowned_nor_collapsed() -> None:
    early = HEALTHY_STEP | {"gradient_ratio/corr": 0.0, "weight/corr": 0.0, "collapsed/proto": 1.0, "weight/proto": 0.0}
    assert run(STEP_ALARMS, early, 500) == []


def test_a_competition_that_has_not_begun_is_not_called_idle() -> None:
    early = {"idle/competition": 1.0, "win_least/competition": 0.5, "win_most/competition": 0.5}
    assert run(STEP_ALARMS, HEALTHY_STEP | early, 900) == []


def test_an_environment_that_is_not_let_in_yet_is_not_called_dead() -> None:
    assert run(STEP_ALARMS, HEALTHY_STEP | {"resistance/sd": 0.0, "environment/scale": 0.5}, 500) == []
    early = HEALTHY_EPOCH | {"valid/environment_gain": 0.0, "valid/context_gain": 0.0, "environment/scale": 0.0}
    assert run(EPOCH_ALARMS, early, 9) == []


def test_the_state_survives_as_json() -> None:
    state, _ = observe(AlarmState(), STEP_ALARMS, HEALTHY_STEP | {"temperature": 0.5}, 7)
    assert AlarmState.model_validate_json(state.model_dump_json()) == state
    assert state.since == {"temperature/": 7}


def test_T8_5_a_single_line_turns_the_degenerate_alarm_on_and_several_do_not() -> None:
    module = training_module()
    for lines, expected in (((1, 1), {"corr", "grl"}), ((0, 1, 2), set())):
        state, places = AlarmState(), set()
        for step in range(3):
            _, report = module(episodes(lines=lines, seed=step), step=step, epoch=3.0)
            state, events = observe(state, STEP_ALARMS, {name: float(value) for name, value in report.items()}, step)
            places |= {event.place for event in events if event.alarm == "degenerate"}
        assert places == expected


def test_a_loss_that_is_not_a_number_violates_its_bound() -> None:
    module = training_module()
    for parameter in module.model.energy.channels.parameters():
        parameter.data.fill_(math.nan)
    _, report = module(episodes(), step=1, epoch=3.0)
    assert float(report["bound_violated/task"]) == 1.0


@pytest.mark.parametrize(("spread", "fires"), [(1.0, False), (2.0, False), (4.0, True), (8.0, True)])
@pytest.mark.parametrize("form", ["gated", "interaction"])
def test_diverging_sees_gates_that_are_shut_or_wide_open_though_those_of_the_gated_form_have_a_bound(
    form: str, spread: float, fires: bool
) -> None:
    resistance = spread * torch.randn(8, 16, 4, generator=torch.Generator().manual_seed(0))
    apply, couplings = FORMS[form].apply, {"gated": [0.541325] * 4, "interaction": [1.5]}[form]
    gates, _ = apply(resistance, torch.zeros(8, 16), torch.tensor(couplings))
    logits = torch.zeros(8, 16)
    figures = {key: float(value) for key, value in monitors(replace(scores_of(logits), gates=gates), form).items()}
    state, events = AlarmState(), []
    for step in range(25):
        state, new = observe(state, STEP_ALARMS, figures, step)
        events += [event for event in new if event.alarm == "diverging"]
    assert bool(events) == fires
