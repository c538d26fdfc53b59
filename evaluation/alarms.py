"""The alarms of algorithms.md 13 as pure functions: what each looks at, when it fires, and what it says.

Step alarms read the report of a training step, epoch alarms the figures at an epoch's end, row alarms a row of the
evaluation table; the last two share their thresholds. `observe` carries a small state from one look to the next: an
alarm turns on when its condition has held for its number of steps in a row, and off when the condition is next seen not
to hold. A figure that is missing or not a number changes nothing. Cost: none to speak of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from data_pipeline.settings import Settings

Figures = Mapping[str, float]

MEMORISED, GAP, LOW_THRESHOLD = 0.95, 0.2, 0.05
DROWNED, DOMINATING = 0.05, 5.0
WALLED = ("competition",)
"""What cannot crowd the task out of any shared place: its ratio is measured where its own lesson is learnt."""
CONSTANT, DEAD = 0.05, 0.01
LEAK = 0.13
"""Accuracy above chance from which z_I counts as telling the line."""
SAME_RANKING = 1e-3
"""AP difference up to which two rankings count as equal: float32 rounding swaps near-ties."""
TEMPERATURES = (0.5, 2.0)
HARM = 0.02
"""AP that the environment may cost the validation line at an epoch's end before it is said; there is no interval."""


@dataclass(frozen=True)
class Alarm:
    """One alarm."""

    name: str
    key: str
    """The figure it looks at; one that ends in '/' stands for all figures that begin with it, one place each."""
    says: str
    """Sentence with {place} and {value}."""
    fires: Callable[[float, Figures, str], bool]
    """Of the figure, all figures and the place."""
    steps: int = 1
    """Steps in a row for which it must fire; 2 of an epoch alarm are two epochs' ends in a row."""


class AlarmState(Settings):
    """What alarms remember; plain numbers, so that a checkpoint can hold it."""

    since: dict[str, int] = Field(default_factory=dict)
    """`alarm/place` -> step at which the condition began to hold."""
    active: dict[str, int] = Field(default_factory=dict)
    """`alarm/place` -> step at which the alarm turned on."""


@dataclass(frozen=True)
class Event:
    """An alarm that turned on or off."""

    step: int
    alarm: str
    place: str
    on: bool
    says: str


def _in_action(figures: Figures, place: str) -> bool:
    return figures.get(f"weight/{place}", 0.0) != 0


def _counted(figures: Figures, place: str) -> bool:
    """Whether any win was counted: all rates stand at exactly 1/2 until then."""
    return any(figures.get(f"{name}/{place}", 0.5) != 0.5 for name in ("win_least", "win_most"))


STEP_ALARMS: tuple[Alarm, ...] = (
    Alarm("not_finite", "not_finite/", "{place} is not finite: the step teaches nothing", lambda value, *_: value > 0),
    Alarm(
        "bound_violated",
        "bound_violated/",
        "the loss of {place} is below the bound it declares, or not a number",
        lambda value, *_: value > 0,
    ),
    Alarm(
        "degenerate",
        "degenerate/",
        "the batch is degenerate for {place}: its loss and gradient are exactly 0 (a single line, or a constant input)",
        lambda value, *_: value > 0,
        steps=2,
    ),
    Alarm(
        "drowned",
        "gradient_ratio/",
        "{place} is drowned: its gradient is {value:.2g} of the task's, below .05",
        lambda value, figures, place: value < DROWNED and _in_action(figures, place),
        steps=200,
    ),
    Alarm(
        "dominating",
        "gradient_ratio/",
        "{place} dominates: its gradient is {value:.2g} times the task's, above 5",
        lambda value, _, place: value > DOMINATING and place not in WALLED,
        steps=200,
    ),
    Alarm(
        "temperature",
        "temperature",
        "the temperature T = {value:.3g} is at its bound",
        lambda value, *_: not TEMPERATURES[0] + 0.015 < value < TEMPERATURES[1] - 0.015,
        steps=20,
    ),
    Alarm(
        "diverging",
        "interaction/sd",
        "the interaction diverges: the standard deviation of w R (of the gates, in forms without a bound on them) is "
        "{value:.3g}, above 3",
        lambda value, *_: value > 3.0,
        steps=20,
    ),
    Alarm(
        "constant_output",
        "logits/sd_within",
        "the output is constant: the logits within a line have a standard deviation of {value:.2g}, below .05",
        lambda value, *_: value < CONSTANT,
        steps=200,
    ),
    Alarm(
        "dead_environment",
        "resistance/sd",
        "the environment is dead: R_E of the lines has a standard deviation of {value:.2g}, below .01",
        lambda value, figures, _: value < DEAD and figures.get("environment/scale", 0.0) == 1.0,
        steps=200,
    ),
    Alarm(
        "collapsed",
        "collapsed/",
        "{place} has collapsed: its loss is that of chance",
        lambda value, figures, place: value > 0 and _in_action(figures, place),
        steps=200,
    ),
    Alarm(
        "idle_competition",
        "idle/",
        "{place} idles: every line's win rate is within .5 +- .07",
        lambda value, figures, place: value > 0 and _counted(figures, place),
        steps=500,
    ),
)
"""On the report of a step, with `not_finite/` added by whoever turns it into numbers."""

EPOCH_ALARMS: tuple[Alarm, ...] = (
    Alarm(
        "memorised",
        "train/average_precision",
        "training average precision is {value:.3f}, above .95: the training pairs are memorised",
        lambda value, *_: value > MEMORISED,
    ),
    Alarm(
        "gap",
        "gap",
        "training average precision is {value:.3f} above that of the validation line, more than .2",
        lambda value, *_: value > GAP,
    ),
    Alarm(
        "low_threshold",
        "valid/threshold",
        "the validation threshold is {value:.3f} after temperature scaling, below .05",
        lambda value, *_: value < LOW_THRESHOLD,
        steps=2,
    ),
    Alarm(
        "predicts_all",
        "valid/recall",
        "recall on the validation line is {value:.2f} because more than two thirds of the pairs are called interacting",
        lambda value, figures, _: predicts_all(
            value, figures.get("valid/precision", math.nan), figures.get("valid/prevalence", math.nan)
        ),
        steps=2,
    ),
    Alarm(
        "collapse",
        "valid/recall",
        "recall on the validation line is {value:.2f} with average precision at the prevalence: the model collapsed",
        lambda value, figures, _: collapsed(
            value, figures.get("valid/average_precision", math.nan), figures.get("valid/prevalence", math.nan)
        ),
        steps=2,
    ),
    Alarm(
        "constant_valid",
        "valid/logit_sd",
        "the output is constant: the validation line's logits have a standard deviation of {value:.2g}, below .05",
        lambda value, *_: value < CONSTANT,
        steps=2,
    ),
    Alarm(
        "single_channel",
        "valid/environment_gain_of_one_channel",
        "a single channel must rank as U_I does, but average precision differs by {value:+.4f}",
        lambda value, *_: abs(value) > SAME_RANKING,
    ),
    Alarm(
        "useless_environment",
        "valid/environment_gain",
        "the environment changes the validation line's average precision by {value:+.4f} over U_I alone: nothing",
        lambda value, figures, _: abs(value) <= SAME_RANKING and figures.get("environment/scale", 0.0) == 1.0,
        steps=2,
    ),
    Alarm(
        "harmful_environment",
        "valid/environment_gain",
        "the environment changes the validation line's average precision by {value:+.3f} against U_I alone",
        lambda value, *_: value < -HARM,
        steps=2,
    ),
    Alarm(
        "unused_context",
        "valid/context_gain",
        "a support set of the wrong line ranks the validation line as well as its own ({value:+.4f})",
        lambda value, figures, _: value <= 0 and figures.get("environment/scale", 0.0) == 1.0,
        steps=2,
    ),
    Alarm(
        "leak",
        "leakage/above_chance",
        "a fresh probe tells the line from z_I {value:.2f} above chance, more than .13",
        lambda value, *_: value > LEAK,
        steps=2,
    ),
)
"""On the figures of an epoch's end."""


def predicts_all(recall: float, precision: float, prevalence: float) -> bool:
    """Whether the threshold calls most pairs interacting: more than two thirds of them, at a recall above .8.

    In a balanced set that is the rule of algorithms.md 13, precision below .6; at a prevalence of .2 a precision of .6
    is a good one, so the share of pairs called (recall prevalence / precision) is asked instead.
    """
    return recall > 0.8 and recall * prevalence > precision * 2 / 3


def collapsed(recall: float, average_precision: float, prevalence: float) -> bool:
    """Whether the scores carry nothing and all pairs are called interacting."""
    return abs(average_precision - prevalence) < 0.03 and recall > 0.98


def observe(state: AlarmState, alarms: Sequence[Alarm], figures: Figures, step: int) -> tuple[AlarmState, list[Event]]:
    """The state after seeing `figures` at `step`, and the alarms that turned on or off by it."""
    since, active, events = dict(state.since), dict(state.active), []
    for alarm, place, value in _looks(alarms, figures):
        key = f"{alarm.name}/{place}"
        says = alarm.says.format(place=place, value=value)
        if not alarm.fires(value, figures, place):
            since.pop(key, None)
            if active.pop(key, None) is not None:
                events.append(Event(step, alarm.name, place, False, says))
        elif step - since.setdefault(key, step) + 1 >= alarm.steps and key not in active:
            active[key] = step
            events.append(Event(step, alarm.name, place, True, says))
    return AlarmState(since=since, active=active), events


def _looks(alarms: Sequence[Alarm], figures: Figures) -> Iterator[tuple[Alarm, str, float]]:
    for alarm in alarms:
        several = alarm.key.endswith("/")
        names = [name for name in figures if name.startswith(alarm.key)] if several else [alarm.key]
        for name in names:
            value = figures.get(name, math.nan)
            if not math.isnan(value):
                yield alarm, name.removeprefix(alarm.key) if several else "", value
