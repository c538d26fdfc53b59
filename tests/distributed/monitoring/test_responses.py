"""Claims about the responses R100-R107 and the watch that calls them."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from model_episodes import episodes, training_module

from data_pipeline.settings import load
from distributed.monitoring.responses import (
    QUIET_EPOCHS,
    RESPONSES,
    Adjustments,
    Reply,
    ResponseSettings,
    Situation,
    apply_adjustments,
    respond,
)
from distributed.monitoring.watch import Watch, WatchState, numbers
from distributed.settings import RunSettings
from evaluation.epoch_end import validation_figures
from model.episode_model import ModelSettings
from model.objective import ObjectiveSettings
from model.parameters import parameter_groups

PRESETS = Path(__file__).resolve().parents[3] / "configs/train"
ACT = ResponseSettings(mode="act")


def situation(
    *active: str,
    history: list[dict[str, float]] | None = None,
    objective: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
) -> Situation:
    return Situation(
        history=history or [{"valid/average_precision": 0.5}] * 8,
        active=dict.fromkeys(active, 0),
        model=ModelSettings.model_validate(model or {}),
        objective=ObjectiveSettings.model_validate(objective or {}),
        weight_decay=1e-3,
        patience=3,
    )


def scores(*values: float) -> list[dict[str, float]]:
    return [{"valid/average_precision": value} for value in values]


STUCK = [{"mean/loss/corr": 0.3, "valid/average_precision": 0.5}] * 8
SPARSE: dict[str, Any] = {"terms": {"sparse": {"on": True, "start": 2.0}}}
INTERACTION = {"energy": {"form": "interaction"}}
HARD = {"coupling_decay": 2.0}
CASES: list[tuple[str, Situation, dict[str, Any], dict[str, Any]]] = [
    ("R100", situation("diverging/"), {}, HARD),
    ("R101", situation("leak/", history=STUCK), {}, {"emphasis": {"corr": 1.5}}),
    (
        "R102",
        situation(history=scores(0.6, 0.6, 0.5, 0.5, 0.5), objective=SPARSE | {"curriculum": {"warm_epochs": 0}}),
        {},
        {"emphasis": {"sparse": 0.5}},
    ),
    ("R103", situation("temperature/"), {}, {"temperature_decay": 0.5}),
    ("R104", situation("memorised/"), {}, {"dropout": 0.3, "weight_decay": 1e-2, "patience": 2}),
    ("R104", situation("gap/"), {}, {"dropout": 0.3, "weight_decay": 1e-2, "patience": 2}),
    ("R105", situation(history=scores(0.6, 0.6, 0.5, 0.5, 0.5), model=INTERACTION), {}, {}),
    ("R105", situation("diverging/", model=INTERACTION), HARD, HARD),
    ("R106", situation("leak/", history=scores(*[0.5] * 8)), {}, {}),
    ("R107", situation("idle_competition/competition"), {}, {}),
]


@pytest.mark.parametrize(("requirement", "now", "before", "after"), CASES)
def test_each_response_answers_its_failure(
    requirement: str, now: Situation, before: dict[str, Any], after: dict[str, Any]
) -> None:
    adjusted, replies = respond(ACT, now, Adjustments(**before), {})
    (reply,) = [reply for reply in replies if reply.requirement == requirement]
    assert adjusted == Adjustments(**after)
    assert reply.acted == (before != after)


@pytest.mark.parametrize(("requirement", "now", "before", "after"), CASES)
def test_advice_changes_nothing_and_says_the_same(
    requirement: str, now: Situation, before: dict[str, Any], after: dict[str, Any]
) -> None:
    made = Adjustments(**before)
    adjusted, replies = respond(ResponseSettings(), now, made, {})
    assert adjusted == made
    assert not any(reply.acted for reply in replies)
    assert [reply.says for reply in replies] == [reply.says for reply in respond(ACT, now, made, {})[1]]


def test_a_healthy_run_needs_no_response() -> None:
    rising = [{"valid/average_precision": 0.4 + 0.02 * n, "mean/loss/corr": 0.5 / (n + 1)} for n in range(9)]
    assert respond(ACT, situation(history=rising), Adjustments(), {}) == (Adjustments(), [])


def test_every_requirement_from_100_to_107_has_one_response() -> None:
    assert sorted(number for number, _ in RESPONSES.values()) == [f"R{number}" for number in range(100, 108)]
    assert {case[0] for case in CASES} == {number for number, _ in RESPONSES.values()}


def test_responses_can_be_switched_off_together_and_one_by_one() -> None:
    now = situation("temperature/", "memorised/")
    assert respond(ResponseSettings(mode="off"), now, Adjustments(), {}) == (Adjustments(), [])
    _, replies = respond(ResponseSettings(silent=("overfit",)), now, Adjustments(), {})
    assert [reply.response for reply in replies] == ["temperature"]


def test_a_response_keeps_silent_for_some_epochs_after_it_answered() -> None:
    now = situation("temperature/")
    assert respond(ACT, now, Adjustments(), {"temperature": now.epochs - QUIET_EPOCHS + 1})[1] == []
    assert respond(ACT, now, Adjustments(), {"temperature": now.epochs - QUIET_EPOCHS})[1] != []


def test_raising_a_decoupling_term_ends_at_four_times_and_with_advice() -> None:
    made, said = Adjustments(), []
    for _ in range(5):
        made, replies = respond(ACT, situation("leak/", history=STUCK), made, {})
        said += [reply for reply in replies if reply.response == "decoupling"]
    assert made.emphasis == {"corr": 4.0}
    assert [reply.acted for reply in said] == [True, True, True, True, False]


def test_a_decoupling_term_is_not_raised_where_nothing_leaks() -> None:
    quiet = [figures | {"leakage/above_chance": 0.02} for figures in STUCK]
    assert respond(ACT, situation(history=quiet), Adjustments(), {})[1] == []


GRADNORM, FIXED = {"balance": {"mode": "gradnorm_ema"}}, {"balance": {"mode": "fixed_ramp"}}


@pytest.mark.parametrize(
    ("objective", "answers"),
    [
        # Each mode reads one of the two strengths; the other may be anything.
        (GRADNORM | {"terms": {"corr": {"weight": 0.5, "ratio": 0.0}}}, False),
        (GRADNORM | {"terms": {"corr": {"weight": 0.0, "ratio": 0.5}}}, True),
        (FIXED | {"terms": {"corr": {"weight": 0.0, "ratio": 0.5}}}, False),
        (FIXED | {"terms": {"corr": {"weight": 0.5, "ratio": 0.0}}}, True),
        (FIXED | {"terms": {"corr": {"weight": 0.0, "ramp": 0.1}}}, True),
        (FIXED | {"terms": {"corr": {"weight": 0.5, "cap": 0.0}}}, False),
        (FIXED | {"terms": {"corr": {"on": False}}}, False),
        # Two epochs of acting are not the three that a decoupling term is given.
        (FIXED | {"terms": {"corr": {"start": 6.0}}}, False),
    ],
)
def test_nothing_is_answered_for_a_term_that_has_no_say(objective: dict[str, Any], answers: bool) -> None:
    silent = {"terms": objective.get("terms", {}) | {"grl": {"on": False}}}
    found = {}
    for name, history in (("R101", STUCK), ("R106", STUCK)):
        replies = respond(ACT, situation("leak/", history=history, objective=objective | silent), Adjustments(), {})[1]
        found[name] = any(reply.requirement == name for reply in replies)
    # R106 asks for five epochs of a soft constraint.
    assert found == {"R101": answers, "R106": answers}


def test_a_monitor_of_weight_nought_is_never_raised() -> None:
    settings = load(RunSettings, [PRESETS / "default.yaml"], ["objective.terms.grl.on=false"])
    now = situation("leak/", history=STUCK, objective=settings.objective.model_dump())
    assert respond(ACT, now, Adjustments(), {}) == (Adjustments(), [])


def test_a_sparsity_monitor_is_not_blamed_for_a_lost_score() -> None:
    sparse = {"terms": {"sparse": {"on": True, "start": 2.0, "ratio": 0.0}}}
    now = situation(history=scores(0.6, 0.6, 0.5, 0.5, 0.5), objective=sparse | {"curriculum": {"warm_epochs": 0}})
    assert respond(ACT, now, Adjustments(), {}) == (Adjustments(), [])


def engine_of(module: torch.nn.Module) -> Any:
    """What `apply_adjustments` touches of a DeepSpeed engine."""
    optimiser = torch.optim.AdamW(parameter_groups(module, 1e-3), lr=1e-2)
    return SimpleNamespace(module=module, optimizer=optimiser)


def test_adjustments_reach_weight_decay_dropout_and_emphasis_and_applying_them_twice_changes_nothing() -> None:
    engine = engine_of(training_module(trunk={"size": "tiny", "dropout": 0.1}))
    made = Adjustments(
        emphasis={"corr": 1.5}, dropout=0.3, weight_decay=1e-2, coupling_decay=2.0, temperature_decay=0.5
    )
    for _ in range(2):
        apply_adjustments(engine, made, 1e-3)
        decays = {group["role"]: group["weight_decay"] for group in engine.optimizer.param_groups}
        assert decays == {"matrices": 1e-2, "others": 0.0, "temperature": 0.5, "coupling": 2.0, "adversary": 0.0}
        assert {layer.p for layer in engine.module.modules() if isinstance(layer, torch.nn.Dropout)} == {0.3}
        assert engine.module.emphasis == {"grl": 1.0, "corr": 1.5}


def test_no_adjustment_leaves_the_run_as_it_was_set() -> None:
    engine = engine_of(training_module(trunk={"size": "tiny", "dropout": 0.1}))
    before = [layer.p for layer in engine.module.modules() if isinstance(layer, torch.nn.Dropout)]
    apply_adjustments(engine, Adjustments(), 1e-3)
    assert [layer.p for layer in engine.module.modules() if isinstance(layer, torch.nn.Dropout)] == before
    assert [group["weight_decay"] for group in engine.optimizer.param_groups] == [1e-3, 0.0, 0.0, 0.0, 0.0]


def test_weight_decay_on_t_brings_a_temperature_back_from_its_bound() -> None:
    engine = engine_of(training_module())
    t = engine.module.model.energy.readout.t
    t.data.fill_(6.0)
    apply_adjustments(engine, Adjustments(temperature_decay=0.5), 1e-3)
    for _ in range(2000):
        t.grad = -torch.ones_like(t)  # a loss that always wants it higher
        engine.optimizer.step()
    assert 0.515 < float(0.5 + 1.5 * torch.sigmoid(t.detach())) < 1.985


def watch(**changes: Any) -> Watch:
    settings: dict[str, Any] = {"responses": ResponseSettings(mode="act"), "has_environment": True} | changes
    return Watch(ModelSettings(), ObjectiveSettings(), weight_decay=1e-3, patience=3, **settings)


def told(
    state: WatchState, rules: Watch, start: int, stop: int
) -> tuple[WatchState, list[Reply], list[dict[str, float]]]:
    """Ten steps an epoch, at a temperature that sits on its bound."""
    replies: list[Reply] = []
    records = []
    for step in range(start, stop):
        report = {"loss/total": 1.0, "temperature": 0.5, "gradient_ratio/corr": 0.1 * (step % 10)}
        state, _ = rules.step(state, report, step)
        if step % 10 == 9:
            state, figures, _, new = rules.epoch(state, {"valid/average_precision": 0.5}, step, (step + 1) / 10)
            replies += new
            records.append(figures)
    return state, replies, records


def test_a_watch_resumed_in_the_middle_of_an_epoch_is_the_uninterrupted_one() -> None:
    whole, replies, records = told(WatchState(), watch(), 0, 60)
    half, first, early = told(WatchState(), watch(), 0, 27)
    resumed, second, late = told(WatchState.model_validate_json(half.model_dump_json()), watch(), 27, 60)
    assert (resumed, first + second, early + late) == (whole, replies, records)
    assert whole.adjustments == Adjustments(temperature_decay=0.5)


def test_an_epoch_records_the_mean_gradient_share_of_every_term() -> None:
    _, _, records = told(WatchState(), watch(), 0, 20)
    assert [record["mean/gradient_ratio/corr"] for record in records] == pytest.approx([0.45, 0.45])


def test_a_model_without_environment_is_not_asked_whether_it_is_alive() -> None:
    dead = {"loss/total": 1.0, "resistance/sd": 0.0, "environment/scale": 1.0}
    for has, expected in ((True, 1), (False, 0)):
        state, rules = WatchState(), watch(has_environment=has)
        for step in range(250):
            state, _ = rules.step(state, dead, step)
        assert len(state.active) == expected


@pytest.mark.parametrize(
    ("figures", "place"),
    [
        ({"loss/total": 1.0, "loss/task": math.nan}, "loss/task"),
        ({"loss/total": math.inf, "loss/task": 1.0, "gradient_norm": math.nan}, "loss/total"),
        ({"loss/total": 1.0, "gradient_norm": math.inf}, "gradient"),
    ],
)
def test_what_is_not_finite_is_said_by_name_at_once_and_left_out_of_the_means(
    figures: dict[str, float], place: str
) -> None:
    state, events = watch().step(WatchState(), figures, 3)
    says = f"{place} is not finite: the step teaches nothing"
    assert [(event.alarm, event.place, event.step, event.says) for event in events] == [("not_finite", place, 3, says)]
    assert state.sums == {}
    state, events = watch().step(state, {"loss/total": 1.0, "loss/task": 1.0, "gradient_norm": 1.0}, 4)
    assert [(event.place, event.on) for event in events] == [(place, False)]
    assert state.sums == dict.fromkeys(("loss/total", "loss/task", "gradient_norm"), (1.0, 1))


def test_numbers_are_those_of_the_report() -> None:
    _, report = training_module()(episodes(), step=0, epoch=3.0)
    assert numbers(report) == pytest.approx({name: float(value) for name, value in report.items()}, nan_ok=True)


@pytest.mark.parametrize("ranks", [True, False])
def test_validation_figures_tell_the_environments_gain_under_the_name_that_fits_the_model(ranks: bool) -> None:
    generator = np.random.default_rng(1)
    labels = (generator.random(400) < 0.3).astype(np.int8)
    neutral = labels + generator.normal(size=400)
    figures = validation_figures(labels, neutral + labels, neutral, ranks)
    name = "valid/environment_gain" if ranks else "valid/environment_gain_of_one_channel"
    assert figures[name] == figures["valid/average_precision"] - figures["valid/neutral_average_precision"] > 0
    assert {"valid/recall", "valid/precision", "valid/f1", "valid/threshold"} <= set(figures)
