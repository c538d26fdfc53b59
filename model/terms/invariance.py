"""Invariance of z_I across cell lines: a line classifier behind a gradient reversal (algorithms.md 4).

The logged loss is the classifier's cross-entropy (at least 0; ln C means it knows nothing). The balancer's weight acts
on the reversed gradient only; the classifier itself learns at rate 1.
The reversed loss is bounded at chance: the encoder raises the cross-entropy up to ln C and no further, or it would run
away to features that fool this classifier without telling less of the line. It fades out below chance, because an
optimiser with momentum does not stop where its gradient does. A fresh classifier is what to judge by.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from model.episode_model import ModelSettings
from model.scores import Scores
from model.step import GlobalStep
from model.terms.adversary import LineClassifier, standardised
from model.terms.term import LossTerm, TermSettings, TermValue, ValueKind


class GrlSettings(TermSettings):
    """Domain-adversarial invariance by gradient reversal."""

    hidden: int = Field(default=64, ge=1, le=4096)
    """Hidden units of the line classifier."""
    balanced: bool = True
    """Whether each line counts the same, however many episodes of it are in the step."""
    fade: float = Field(default=0.3, ge=0.0, le=1.0)
    """Share of ln C below chance over which the reversal fades to 0, whatever the balancer; 0 reverses fully up to
    chance."""
    reversal_epochs: float = Field(default=2.0, ge=0.0, le=10000.0)
    """Epochs from `start` over which the reversal grows to 1 as 2/(1+e^(-10p))-1, under every balancer; 0 reverses
    fully from the start."""

    @property
    def value_kind(self) -> ValueKind:
        """The classifier's cross-entropy rises to ln C as z_I forgets the line."""
        return "adversarial"

    def growth_at(self, epoch: float) -> float:
        """The schedule of the reversal, from the term's start."""
        if self.reversal_epochs == 0:
            return 1.0
        return reversal_schedule((epoch - self.begins) / self.reversal_epochs)


def reversal_schedule(progress: float) -> float:
    """2/(1+e^(-10 p)) - 1 for progress p in [0, 1]."""
    return 2 / (1 + math.exp(-10 * min(max(progress, 0.0), 1.0))) - 1


class GradientReversal(LossTerm):
    """Cross-entropy of the line from z_I, with the gradient into z_I reversed.

    Chance is ln C, the mean cross-entropy of a classifier that knows nothing, under any weights of lines and pairs.
    """

    Settings = GrlSettings
    summary = "Line-adversarial invariance of z_I."
    family = "invariance"
    lower_bound = 0.0

    def __init__(self, settings: GrlSettings, invariant: int, lines: int) -> None:
        """`invariant` = dI, `lines` = C training lines."""
        super().__init__()
        self.settings = settings
        self.classifier = LineClassifier(invariant, settings.hidden, lines)
        self.chance = math.log(max(lines, 1))

    @classmethod
    def of(cls, settings: GrlSettings, model: ModelSettings, lines: int) -> GradientReversal:
        """See `LossTerm.of`."""
        return cls(settings, model.energy.invariant_width, lines)

    def forward(self, step: GlobalStep, scores: Scores, epoch: float) -> TermValue:
        """Cross-entropy over the query pairs of the training lines; 0 without any."""
        target = step.line.clamp(min=0).unsqueeze(1).expand(scores.logits.shape)
        weight = line_weights(step.line, self.settings.balanced).unsqueeze(1) * self.emphasis(step, scores)
        seen = self.inputs(standardised(scores.invariant), step, scores)
        log_q = self.classifier(seen.detach())
        own = _weighted_mean(_cross_entropy(log_q, target), weight)
        fooled = _weighted_mean(_cross_entropy(self.classifier(seen, frozen=True), target), weight)
        bounded = fooled.clamp(max=self.chance)
        hit = (log_q.detach().argmax(dim=-1) == target).float()
        return TermValue(
            # The value is the classifier's, the gradient into z_I the reversed one.
            loss=own + (bounded.detach() - bounded),
            own=own,
            strength=self._faded(fooled.detach()),
            report={"accuracy": _weighted_mean(hit, weight), "degenerate": (step.line == step.line[0]).all().float()},
        )

    def _faded(self, fooled: Tensor) -> Tensor:
        """() 1 where the classifier knows much, 0 from chance on."""
        reach = max(self.settings.fade * self.chance, 1e-6)
        return ((self.chance - fooled) / reach).clamp(0.0, 1.0)

    def inputs(self, invariant: Tensor, step: GlobalStep, scores: Scores) -> Tensor:
        """(E, n, width) what the classifier sees of z_I (E, n, dI)."""
        return invariant

    def emphasis(self, step: GlobalStep, scores: Scores) -> Tensor:
        """(E, n) weight of each pair beside its line's, without gradient."""
        return torch.ones_like(scores.logits.detach())


def line_weights(line: Tensor, balanced: bool) -> Tensor:
    """(E,) weight of an episode of line (E,): 0 below 0, and if `balanced` the same for every line."""
    known = (line >= 0).float()
    return known / (line.unsqueeze(1) == line.unsqueeze(0)).sum(dim=1) if balanced else known


def _cross_entropy(log_q: Tensor, target: Tensor) -> Tensor:
    return F.nll_loss(log_q.flatten(0, 1), target.flatten(), reduction="none").view(target.shape)


def _weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=1e-12)
