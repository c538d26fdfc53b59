"""Conditional invariance: the line classifier sees z_I together with the class (CDAN, algorithms.md 4).

Its input is the product z_I (x) p of z_I with the class probabilities p = (1 - y, y), so it can match the lines class
by class where their prevalences differ. p carries no gradient. Certain pairs count more (weight 1 + e^-H of the entropy
H of p). Everything else is the plain reversal's: cross-entropy over all lines, at least 0, and a bound at ln C. Where
prevalences differ the class alone tells something of the line, and a classifier that learns nothing from z_I ends that
much below ln C, at H(c|class): there the bound holds the reversal within I(c; class) of chance.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from model.scores import Scores
from model.step import GlobalStep
from model.terms.invariance import GradientReversal, GrlSettings


class CdanSettings(GrlSettings):
    """Domain-adversarial invariance given the class."""

    on: bool = False
    """Whether the term exists at all."""
    condition: Literal["prediction", "label"] = "prediction"
    """The class is the model's own probability, or the known label (unlabelled pairs then do not count)."""
    entropy_weight: bool = True
    """Whether certain pairs count more, by 1 + e^-H."""


def class_probabilities(logits: Tensor) -> Tensor:
    """(..., 2) probabilities of no interaction and of interaction, without gradient."""
    positive = torch.sigmoid(logits.detach())
    return torch.stack([1 - positive, positive], dim=-1)


def outer(z: Tensor, probabilities: Tensor) -> Tensor:
    """z (..., d) with probabilities (..., k) -> (..., k d): one copy of z per class, scaled by its probability."""
    return (probabilities.unsqueeze(-1) * z.unsqueeze(-2)).flatten(-2)


def certainty(probabilities: Tensor) -> Tensor:
    """(...) 1 + e^-H in nats, between 1.5 for a fair coin and 2 for a certain pair."""
    return 1 + torch.exp(torch.special.xlogy(probabilities, probabilities).sum(dim=-1))


class ConditionalReversal(GradientReversal):
    """Cross-entropy of the line from z_I (x) p, with the gradient into z_I reversed."""

    Settings = CdanSettings
    summary = "Line-adversarial invariance of z_I given the class."
    family = "invariance"

    settings: CdanSettings

    def __init__(self, settings: CdanSettings, invariant: int, lines: int) -> None:
        """`invariant` = dI, `lines` = C training lines."""
        super().__init__(settings, 2 * invariant, lines)

    def inputs(self, invariant: Tensor, step: GlobalStep, scores: Scores) -> Tensor:
        """(E, n, 2 dI)."""
        return outer(invariant, self._classes(step, scores))

    def emphasis(self, step: GlobalStep, scores: Scores) -> Tensor:
        """(E, n) 1 + e^-H, and 0 for a pair whose class is asked for and unknown."""
        weight = torch.ones_like(scores.logits.detach())
        if self.settings.entropy_weight:
            weight = certainty(self._classes(step, scores))
        return weight if self.settings.condition == "prediction" else weight * ~step.labels.isnan()

    def _classes(self, step: GlobalStep, scores: Scores) -> Tensor:
        if self.settings.condition == "prediction":
            return class_probabilities(scores.logits)
        positive = step.labels.nan_to_num(0.0)
        return torch.stack([1 - positive, positive], dim=-1)
