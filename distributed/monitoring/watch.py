"""The watch over a running training: alarms, means over an epoch's steps, and responses, as one state that resumes.

Rank 0 keeps the watch; its state is part of the checkpoint and is handed to every worker at an epoch's end, so that all
carry out the same responses, and a resumed run raises and answers the same alarms as one that was never interrupted.
Cost: some comparisons per step on numbers that are there already.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from data_pipeline.settings import Settings
from distributed.monitoring.responses import DECOUPLING, Adjustments, Reply, ResponseSettings, Situation, respond
from evaluation import EPOCH_ALARMS, STEP_ALARMS, Alarm, AlarmState, Event, observe
from model.curriculum import environment_scale
from model.episode_model import ModelSettings
from model.objective import ObjectiveSettings

STATES = ("bound_violated/", "degenerate/", "collapsed/", "idle/", "environment/")
"""Figures of a step that are no quantities; of every other one the mean over the epoch is recorded."""
REMEMBERED = ("valid/average_precision", "leakage/above_chance", *(f"mean/loss/{name}" for name in DECOUPLING))
"""Figures of an epoch's end that responses look back to."""


class WatchState(Settings):
    """What the watch remembers."""

    steps: AlarmState = AlarmState()
    """Alarms on steps."""
    epochs: AlarmState = AlarmState()
    """Alarms on epochs' ends."""
    sums: dict[str, tuple[float, int]] = Field(default_factory=dict)
    """Sum and number of each averaged figure in the present epoch."""
    history: list[dict[str, float]] = Field(default_factory=list)
    """Remembered figures of every epoch's end."""
    adjustments: Adjustments = Adjustments()
    """What responses have changed."""
    answered: dict[str, int] = Field(default_factory=dict)
    """Response -> epochs done when it last answered."""

    @property
    def active(self) -> dict[str, int]:
        """`alarm/place` of all alarms that are on -> step at which they turned on."""
        return {**self.steps.active, **self.epochs.active}


class Watch:
    """The rules of the watch for one run; all state goes in and out."""

    def __init__(
        self,
        model: ModelSettings,
        objective: ObjectiveSettings,
        responses: ResponseSettings,
        weight_decay: float,
        patience: int,
        has_environment: bool,
    ) -> None:
        """`weight_decay`, `patience`: as set for the run; without an environment nobody asks whether it is alive."""
        self._model, self._objective, self._responses = model, objective, responses
        self._weight_decay, self._patience = weight_decay, patience
        self._step_alarms: tuple[Alarm, ...] = tuple(
            alarm for alarm in STEP_ALARMS if has_environment or alarm.name != "dead_environment"
        )

    def step(self, state: WatchState, figures: Mapping[str, float], step: int) -> tuple[WatchState, list[Event]]:
        """The state after a step with the report `figures`, and the alarms that turned on or off.

        What a step that taught nothing shows is left out of the means.
        """
        unfit = not_finite(figures)
        alarms, events = observe(state.steps, self._step_alarms, {**figures, **unfit}, step)
        sums = dict(state.sums)
        for name, value in figures.items():
            if not name.startswith(STATES) and math.isfinite(value) and not any(unfit.values()):
                before, count = sums.get(name, (0.0, 0))
                sums[name] = (before + value, count + 1)
        return state.model_copy(update={"steps": alarms, "sums": sums}), events

    def epoch(
        self, state: WatchState, figures: Mapping[str, float], step: int, done: float
    ) -> tuple[WatchState, dict[str, float], list[Event], list[Reply]]:
        """The state after an epoch that ended with `step`, all its figures, alarms turned on or off, and replies.

        `done` is the number of epochs since the start, which a run may end within.
        """
        means = {f"mean/{name}": total / count for name, (total, count) in state.sums.items()}
        scale = environment_scale(self._objective.curriculum, done)
        everything = {**figures, **means, "environment/scale": scale}
        alarms, events = observe(state.epochs, EPOCH_ALARMS, everything, step)
        history = [*state.history, {name: everything[name] for name in REMEMBERED if name in everything}]
        state = state.model_copy(update={"epochs": alarms, "sums": {}, "history": history})
        now = Situation(history, state.active, self._model, self._objective, self._weight_decay, self._patience)
        adjustments, replies = respond(self._responses, now, state.adjustments, state.answered)
        answered = {**state.answered, **{reply.response: len(history) for reply in replies}}
        state = state.model_copy(update={"adjustments": adjustments, "answered": answered})
        return state, everything, events, replies


def not_finite(figures: Mapping[str, float]) -> dict[str, float]:
    """`not_finite/<loss>` of every loss of a step, and `not_finite/gradient`: 1 where it is not finite, else 0.

    The gradient counts where every loss is finite: after one that is not, there is none.
    """
    losses = {name: value for name, value in figures.items() if name.startswith("loss/")}
    unfit = {f"not_finite/{name}": float(not math.isfinite(value)) for name, value in losses.items()}
    gradient = math.isfinite(figures.get("gradient_norm", 0.0))
    return unfit | {"not_finite/gradient": float(not gradient and not any(unfit.values()))}


def numbers(report: Mapping[str, Tensor]) -> dict[str, float]:
    """A step's report as numbers, fetched from the device at once."""
    device = next(iter(report.values())).device
    values = torch.stack([value.detach().float().to(device) for value in report.values()])
    return dict(zip(report, values.tolist(), strict=True))
