"""The declared responses to failures, R100-R108, as deterministic functions of what an epoch's end recorded.

At an epoch's end each response looks at the history of figures and at the alarms that are on. Under `advise` it only
says what to change; under `act` those that can be carried out inside a running training change the `Adjustments`, which
are part of the checkpoint, so that a resumed run continues under the same ones, and equal on all workers. What acts:
weight decay on the couplings (R100) and on t (R103), emphasis of a term (R101, R102), dropout, weight decay and
patience (R104). The others need another model and so a new run: they always advise (R105-R107). R108, the threshold
chosen on the validation line, is how every evaluation works.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field
from torch import nn

from data_pipeline.settings import Settings
from model.balancing import acts
from model.episode_model import ModelSettings
from model.objective import ObjectiveSettings
from model.terms import names_of

Name = Literal[
    "interaction", "decoupling", "sparsity", "temperature", "overfit", "fallback", "hard_constraint", "competition"
]
QUIET_EPOCHS = 3
"""Epochs for which a response keeps silent after it answered."""
DECOUPLING = names_of("decoupling")
INVARIANCE = names_of("invariance", "decoupling")
SPARSITY = names_of("sparsity")
LOSS_OF_AP = 0.05
"""Validation AP lost since a mechanism began to act, from which it counts as harmful."""


class ResponseSettings(Settings):
    """What happens when a declared failure shows."""

    mode: Literal["off", "advise", "act"] = "advise"
    """`advise` writes what to change into the log and the report; `act` also changes it where the run can go on."""
    silent: tuple[Name, ...] = ()
    """Responses switched off one by one."""


class Adjustments(Settings):
    """What responses have changed so far; the defaults change nothing."""

    emphasis: dict[str, float] = Field(default_factory=dict)
    """Factor on the weight and ratio of a term."""
    dropout: float = 0.0
    """Least probability of every dropout layer."""
    weight_decay: float = 0.0
    """Least weight decay of matrices."""
    coupling_decay: float = 0.0
    """Weight decay of w and lambda; under AdamW they stay below about its inverse."""
    temperature_decay: float = 0.0
    """Weight decay of t; |t| stays below about its inverse."""
    patience: int = 0
    """Patience of early stopping; 0: as set."""


@dataclass(frozen=True)
class Situation:
    """What a response may look at."""

    history: Sequence[Mapping[str, float]]
    """Figures of every epoch's end so far; the last entry is now. Means over the epoch's steps are `mean/<key>`."""
    active: Mapping[str, int]
    """`alarm/place` of the alarms that are on."""
    model: ModelSettings
    objective: ObjectiveSettings
    weight_decay: float
    """As set for the run."""
    patience: int
    """As set for the run."""

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return len(self.history)

    def on(self, alarm: str) -> bool:
        """Whether an alarm of this name is on, at any place."""
        return any(key.split("/")[0] == alarm for key in self.active)

    def lost_since(self, start: float) -> bool:
        """Whether the validation AP of two epochs or more after `start` stayed below the best before it."""
        scores = [figures.get("valid/average_precision", math.nan) for figures in self.history]
        before, after = scores[: math.ceil(start)], scores[math.ceil(start) + 1 :]
        return bool(before) and len(after) >= 2 and max(after) < max(before) - LOSS_OF_AP

    def acting(self, names: Sequence[str], epochs: int) -> list[str]:
        """Those of the terms `names` that have had a say for at least `epochs`; a monitor of weight 0 never has."""
        own, mode = self.objective.policies(), self.objective.balance.mode
        since = self.epochs - epochs
        return [name for name in names if own[name].begins <= since and acts(mode, own[name], self.epochs)]


@dataclass(frozen=True)
class Answer:
    """What a response says, and what it would change; unchanged adjustments mean that it can only advise."""

    says: str
    adjusted: Adjustments


@dataclass(frozen=True)
class Reply:
    """An answer as it is recorded."""

    requirement: str
    response: str
    acted: bool
    says: str


def _interaction(now: Situation, made: Adjustments) -> Answer | None:
    if not now.on("diverging"):
        return None
    if made.coupling_decay == 0:
        return Answer(
            "the interaction diverges: weight decay 2 on the couplings holds them below about .5",
            made.model_copy(update={"coupling_decay": 2.0}),
        )
    advice = "model.energy.form=gated, whose gates stay within (0, 2)"
    if now.model.energy.form == "gated":
        advice = "model.energy.resistance=linear, or a smaller optimiser.lr: the gates are shut or wide open"
    return Answer(
        f"the interaction diverges in spite of weight decay on the couplings: start a new run with {advice}", made
    )


def _decoupling(now: Situation, made: Adjustments) -> Answer | None:
    if "leakage/above_chance" in now.history[-1] and not now.on("leak"):
        return None
    for name in now.acting(DECOUPLING, 3):
        losses = [figures.get(f"mean/loss/{name}", math.nan) for figures in now.history[-3:]]
        if not losses[-1] > 0.95 * losses[0]:
            continue
        factor = made.emphasis.get(name, 1.0)
        if factor < 4.0:
            more = min(4.0, 1.5 * factor)
            return Answer(
                f"{name} has not fallen for 3 epochs: weigh it {more:.3g} times what objective.terms.{name} says",
                made.model_copy(update={"emphasis": {**made.emphasis, name: more}}),
            )
        return Answer(
            f"{name} does not fall at 4 times its weight either: start a new run with objective.terms.club.on=true or "
            "model.erasure=leace",
            made,
        )
    return None


def _sparsity(now: Situation, made: Adjustments) -> Answer | None:
    for name in now.acting(SPARSITY, 2):
        if not now.lost_since(now.objective.policies()[name].begins):
            continue
        less = made.emphasis.get(name, 1.0) / 2
        says = f"validation AP fell since {name} acts: weigh it {less:.3g} times what objective.terms.{name} says"
        return Answer(says, made.model_copy(update={"emphasis": {**made.emphasis, name: less}}))
    return None


def _temperature(now: Situation, made: Adjustments) -> Answer | None:
    if not now.on("temperature"):
        return None
    if made.temperature_decay == 0:
        return Answer(
            "the temperature is at its bound: L2 on t (weight decay .5) brings it back inside",
            made.model_copy(update={"temperature_decay": 0.5}),
        )
    return Answer("the temperature stays at its bound in spite of L2 on t: look at the scale of the channels u_k", made)


def _overfit(now: Situation, made: Adjustments) -> Answer | None:
    if not now.on("memorised") and not now.on("gap"):
        return None
    if made.dropout > 0:
        return Answer(
            "the overfit goes on at dropout .3: start a new run with a smaller model.trunk.size or more training lines",
            made,
        )
    decay = min(1e-2, max(1e-3, 10 * now.weight_decay))
    patience = min(now.patience, 2)
    return Answer(
        f"the training pairs are fitted far better than unseen ones: dropout .3, weight decay {decay:.3g} and patience "
        f"{patience} from here on",
        made.model_copy(update={"dropout": 0.3, "weight_decay": max(decay, now.weight_decay), "patience": patience}),
    )


def _fallback(now: Situation, made: Adjustments) -> Answer | None:
    start, form = now.objective.curriculum.warm_epochs, now.model.energy.form
    hard = now.on("diverging") and made.coupling_decay > 0
    if form != "interaction" or not (hard or now.lost_since(start)):
        return None
    return Answer(
        "the interaction energy is hard to optimise, it diverges or ranks the validation line worse than before the "
        "environment was let in: start a new run with model.energy.form=lin_inter_fallback, because a run cannot "
        "change its form",
        made,
    )


def _hard_constraint(now: Situation, made: Adjustments) -> Answer | None:
    soft = now.acting(INVARIANCE, 5)
    if not soft or not now.on("leak") or now.model.erasure != "off":
        return None
    return Answer(
        f"z_I still tells the line after 5 epochs of {', '.join(soft)}: a soft constraint does not do; start a new run "
        "with model.erasure=leace",
        made,
    )


def _competition(now: Situation, made: Adjustments) -> Answer | None:
    if not now.on("idle_competition"):
        return None
    return Answer(
        "the competition idles, no line has a winner: look at the win rate per line, and start a new run with one data "
        "flow only (competition off)",
        made,
    )


RESPONSES: dict[Name, tuple[str, Callable[[Situation, Adjustments], Answer | None]]] = {
    "fallback": ("R105", _fallback),
    "interaction": ("R100", _interaction),
    "decoupling": ("R101", _decoupling),
    "sparsity": ("R102", _sparsity),
    "temperature": ("R103", _temperature),
    "overfit": ("R104", _overfit),
    "hard_constraint": ("R106", _hard_constraint),
    "competition": ("R107", _competition),
}
"""Requirement and rule of each response; the fallback comes first, so that it waits an epoch for what R100 does."""


def respond(
    settings: ResponseSettings, now: Situation, made: Adjustments, answered: Mapping[str, int]
) -> tuple[Adjustments, list[Reply]]:
    """The adjustments after this epoch's end and what was answered.

    `answered` has the number of epochs done when each response last answered; within `QUIET_EPOCHS` it keeps silent.
    """
    replies: list[Reply] = []
    if settings.mode == "off":
        return made, replies
    for name, (requirement, rule) in RESPONSES.items():
        quiet = now.epochs - answered.get(name, -QUIET_EPOCHS) < QUIET_EPOCHS
        answer = None if quiet or name in settings.silent else rule(now, made)
        if answer is None:
            continue
        acts = settings.mode == "act" and answer.adjusted != made
        made = answer.adjusted if acts else made
        replies.append(Reply(requirement, name, acts, answer.says))
    return made, replies


def apply_adjustments(engine: Any, made: Adjustments, weight_decay: float) -> None:
    """Put `made` into effect on a DeepSpeed engine around a `TrainingModule`; doing it again changes nothing.

    `weight_decay` is the run's. Dropout layers are only ever raised, so a run keeps its own where it is higher.
    """
    decays = {"coupling": made.coupling_decay, "temperature": made.temperature_decay}
    decays["matrices"] = max(weight_decay, made.weight_decay)
    for group in engine.optimizer.param_groups:
        if group["role"] in decays:
            group["weight_decay"] = decays[group["role"]]
    engine.module.set_emphasis(made.emphasis)
    for layer in engine.module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = max(layer.p, made.dropout)
