"""Loss terms: what every term receives, returns and declares, and the settings each one shares.

A term is an `nn.Module` that maps a global step and its scores to a `TermValue`. It declares its settings, a sentence
for tables and pages, its family, by which responses find it, and a lower bound that is checked at run time
(algorithms.md 1.4); it takes its weight from the balancer. `registry.TERMS` lists them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from pydantic import Field
from torch import Tensor, nn

from data_pipeline.settings import Settings, searched
from model.episode_model import ModelSettings
from model.scores import Scores
from model.step import GlobalStep

ValueKind = Literal["positive", "vanishing", "signed", "adversarial"]
"""What a loss's value means to a balancer that looks at values.

`positive`: it stays above zero and lower is better. `vanishing`: it can reach 0. `signed`: it can be negative.
`adversarial`: an adversary's loss, whose good end is chance.
"""


Family = Literal[
    "invariance", "decoupling", "ranking", "environment", "sparsity", "compression", "competition", "monitor"
]
"""What a term is after: `invariance` of z_I across lines, `decoupling` of z_I from line or environment (which is
invariance by other means), `ranking` inside a line, codes of the `environment`, `sparsity` or `compression` of z_I,
the `competition` of student and opportunist; a `monitor` is no loss."""


class TermSettings(Settings):
    """Weight of one loss term beside the task loss, whose weight is 1."""

    on: bool = True
    """Whether the term exists at all."""
    weight: float = Field(default=0.5, ge=0.0, le=100.0, json_schema_extra=searched(0.01, 4.0, log=True))
    """Weight at `start` under balance.mode=fixed_ramp."""
    ramp: float = Field(default=0.0, ge=0.0, le=100.0)
    """Added to the weight per epoch after `start`."""
    cap: float = Field(default=4.0, ge=0.0, le=100.0)
    """Largest weight under fixed_ramp."""
    ratio: float = Field(default=0.5, ge=0.0, le=10.0, json_schema_extra=searched(0.01, 4.0, log=True))
    """Under gradnorm_ema: the term's gradient norm at the shared representation, relative to the task's."""
    start: float | None = Field(default=None, ge=0.0, le=10000.0)
    """Epoch from which the term counts; it is computed and logged before. null: `objective.start`."""

    @property
    def value_kind(self) -> ValueKind:
        """What the loss's value means to a balancer that looks at values; a term says so where 0 is not its end."""
        return "vanishing"

    @property
    def begins(self) -> float:
        """`start` of a term whose settings the objective has completed (`ObjectiveSettings.policies`)."""
        assert self.start is not None
        return self.start

    def growth_at(self, epoch: float) -> float:
        """Share of its strength the term has at a (fractional) epoch, whatever the balancer: 1, or a ramp up to it."""
        return 1.0

    def weight_at(self, epoch: float) -> float:
        """Weight under fixed_ramp at a (fractional) epoch."""
        return 0.0 if epoch < self.begins else min(self.cap, self.weight + self.ramp * (epoch - self.begins))

    def ratio_at(self, epoch: float) -> float:
        """Target gradient ratio at a (fractional) epoch."""
        return 0.0 if epoch < self.begins else self.ratio


class WalledSettings(Settings):
    """Weight of a loss behind a firewall: it reaches no place that the task reaches, so no balancer can weigh it."""

    weight: float = Field(default=0.5, ge=0.0, le=100.0, json_schema_extra=searched(0.01, 4.0, log=True))
    """Its weight from `start` on, under every balancer."""
    start: float | None = Field(default=None, ge=0.0, le=10000.0)
    """Epoch from which it counts; null: `objective.start`."""

    @property
    def begins(self) -> float:
        """`start`, completed by the objective."""
        assert self.start is not None
        return self.start


@dataclass(frozen=True)
class TermValue:
    """What a term says about a step."""

    loss: Tensor
    """() the term; its gradient at the shared representation is what the balancer measures."""
    own: Tensor | None = None
    """() the same loss on detached inputs, for a term with an adversary of its own: it keeps the adversary's rate of
    learning at 1 whatever the term's weight."""
    strength: Tensor | None = None
    """() share of its coefficient the term keeps in this step, without gradient; None: all of it. A rule that measures
    gradients would undo what a term does to its own, so this multiplies what the rule gives; weight and gradient share
    are reported without it, or a term at its end would look drowned."""
    report: dict[str, Tensor] = field(default_factory=dict)
    """Detached () monitors, named without the term."""


class LossTerm(nn.Module, ABC):
    """Base of all terms: `forward(step, scores, epoch) -> TermValue`."""

    Settings: ClassVar[type[TermSettings]]
    """Its settings, `objective.terms.NAME`."""
    summary: ClassVar[str]
    """What it is, in a sentence, for the settings page and the rows of an ablation."""
    family: ClassVar[Family]
    """What it is after."""
    lower_bound: float
    """No value below this is right."""

    @classmethod
    @abstractmethod
    def of(cls, settings: Any, model: ModelSettings, lines: int) -> Self:
        """The term of its own `settings`, for a model and C training lines."""

    @abstractmethod
    def forward(self, step: GlobalStep, scores: Scores, epoch: float) -> TermValue:
        """The term's value on a global step; `epoch` is fractional."""
