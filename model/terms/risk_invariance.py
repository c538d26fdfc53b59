"""Invariance of the risk across cell lines: IRMv1, V-REx and GroupDRO as terms beside the task (algorithms.md 4).

All three look at the cross-entropy of the query logits against known labels. IRMv1 asks that no line would rather have
its logits rescaled: g_e = d/dw R_e(w s) at w = 1 is mean (sigma(s) - y) s in closed form, and the penalty is the
product of g_e on two disjoint halves of the episode's query, an unbiased estimate of (E g_e)^2. V-REx is the variance
of the lines' risks. GroupDRO adds the risk of a line mixture that leans to the worst. With few lines the first two have
high variance (algorithms.md 4, pitfalls).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from model.episode_model import ModelSettings
from model.lines import line_means, per_pair
from model.scores import Scores
from model.step import GlobalStep
from model.terms.term import LossTerm, TermSettings, TermValue, ValueKind


class IrmSettings(TermSettings):
    """Invariant risk minimisation, version 1."""

    on: bool = False
    """Whether the term exists at all."""
    estimator: Literal["split", "whole"] = "split"
    """`split` multiplies the slopes of two halves (unbiased, may be negative), `whole` squares that of all pairs."""

    @property
    def value_kind(self) -> ValueKind:
        """The product of two halves can be negative."""
        return "signed" if self.estimator == "split" else "vanishing"


class VrexSettings(TermSettings):
    """Variance of the lines' risks."""

    on: bool = False
    """Whether the term exists at all."""


class DroSettings(TermSettings):
    """Distributionally robust optimisation over lines."""

    on: bool = False
    """Whether the term exists at all."""
    rate: float = Field(default=0.01, ge=0.0, le=10.0)
    """eta: per step, the log weight of a line grows by this much times its risk."""

    @property
    def value_kind(self) -> ValueKind:
        """A mean of cross-entropies."""
        return "positive"


def slopes(logits: Tensor, labels: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(E,) d/dw of each episode's mean cross-entropy of w s at w = 1, and (E,) bool where it has any weight.

    logits (E, n), labels (E, n) in {0, 1} (anything finite where the weight is 0), weight (E, n) in {0, 1}.
    """
    count = weight.sum(dim=1)
    slope = ((torch.sigmoid(logits) - labels) * logits * weight).sum(dim=1) / count.clamp(min=1.0)
    return slope, count > 0


def line_risks(step: GlobalStep, scores: Scores, lines: int) -> tuple[Tensor, Tensor]:
    """(C,) mean cross-entropy over each line's labelled query pairs, and (C,) bool lines that have any."""
    known = ~step.labels.isnan()
    loss = F.binary_cross_entropy_with_logits(scores.logits, step.labels.nan_to_num(0.0), reduction="none")
    return line_means(loss.flatten(), known.float().flatten(), per_pair(step.line, loss.shape[1]), lines)


class InvariantRisk(LossTerm):
    """IRMv1: the mean over episodes of the product of two halves' slopes.

    A slope is at least -0.2785 but has no upper bound, so neither has the product of two a lower one; its expectation
    is never negative. The `whole` estimator is a square, biased upwards by the variance of the slope.
    """

    Settings = IrmSettings
    summary = "Invariant risk minimisation (IRMv1)."
    family = "invariance"

    def __init__(self, settings: IrmSettings) -> None:
        """No parameters."""
        super().__init__()
        self.settings = settings
        self.lower_bound = -math.inf if settings.estimator == "split" else 0.0

    @classmethod
    def of(cls, settings: IrmSettings, model: ModelSettings, lines: int) -> InvariantRisk:
        """See `LossTerm.of`."""
        return cls(settings)

    def forward(self, step: GlobalStep, scores: Scores, epoch: float) -> TermValue:
        """The penalty; 0, reported as degenerate, where no episode has a labelled pair in either half."""
        known, labels = (~step.labels.isnan()).float(), step.labels.nan_to_num(0.0)
        # Alternating labelled pairs, so that both halves are as large as they can be.
        odd = (known.cumsum(dim=1) % 2 == 1).float()
        halves = (known * odd, known * (1 - odd)) if self.settings.estimator == "split" else (known, known)
        (first, has_first), (second, has_second) = (slopes(scores.logits, labels, half) for half in halves)
        usable = (has_first & has_second & (step.line >= 0)).float()
        loss = (first * second * usable).sum() / usable.sum().clamp(min=1.0)
        slope = (0.5 * (first + second).detach().abs() * usable).sum() / usable.sum().clamp(min=1.0)
        return TermValue(loss=loss, report={"slope": slope, "degenerate": (usable.sum() == 0).float()})


class RiskVariance(LossTerm):
    """V-REx: population variance of the lines' risks."""

    Settings = VrexSettings
    summary = "Variance of the lines' risks."
    family = "invariance"
    lower_bound = 0.0

    def __init__(self, settings: VrexSettings, lines: int) -> None:
        """`lines` = C training lines."""
        super().__init__()
        self.lines = lines

    @classmethod
    def of(cls, settings: VrexSettings, model: ModelSettings, lines: int) -> RiskVariance:
        """See `LossTerm.of`."""
        return cls(settings, lines)

    def forward(self, step: GlobalStep, scores: Scores, epoch: float) -> TermValue:
        """The variance; 0 with zero gradient, reported as degenerate, with fewer than two labelled lines."""
        risks, present = line_risks(step, scores, self.lines)
        return TermValue(loss=population_variance(risks, present), report={"degenerate": (present.sum() < 2).float()})


def population_variance(values: Tensor, present: Tensor) -> Tensor:
    """() variance of values (C,) over the entries where `present` (C,) bool; 0 for fewer than two."""
    weight = present.float() / present.sum().clamp(min=1)
    mean = (weight * values).sum()
    variance = (weight * (values - mean).square()).sum()
    return torch.where(present.sum() >= 2, variance, torch.zeros_like(variance))


class GroupRobust(LossTerm):
    """GroupDRO: sum_e q_e R_e, with q_e proportional to e^(eta times the sum of R_e so far).

    Added to the task with weight w this minimises mean R + w sum q R: the mean keeps every line in, the mixture leans
    to the worst. Not below 0. q is kept in a buffer; among the lines of a step it is renormalised.
    """

    Settings = DroSettings
    summary = "Risk of a mixture of lines that leans to the worst."
    family = "invariance"
    lower_bound = 0.0
    q: Tensor

    def __init__(self, settings: DroSettings, lines: int) -> None:
        """`lines` = C training lines, which start with equal weight."""
        super().__init__()
        self.settings, self.lines = settings, lines
        self.register_buffer("q", torch.full((lines,), 1.0 / lines))

    @classmethod
    def of(cls, settings: DroSettings, model: ModelSettings, lines: int) -> GroupRobust:
        """See `LossTerm.of`."""
        return cls(settings, lines)

    def forward(self, step: GlobalStep, scores: Scores, epoch: float) -> TermValue:
        """The mixture's risk, with q already moved by this step as in the source; q is kept in training mode only."""
        risks, present = line_risks(step, scores, self.lines)
        q = tilted(self.q, risks.detach(), present, self.settings.rate)
        if self.training:
            self.q.copy_(q)
        mixture = q * present
        mixture = mixture / mixture.sum().clamp(min=torch.finfo(q.dtype).tiny)
        return TermValue(
            loss=(mixture * risks).sum(),
            report={"largest_weight": q.max(), "degenerate": (present.sum() < 2).float()},
        )


def tilted(q: Tensor, risks: Tensor, present: Tensor, rate: float) -> Tensor:
    """(C,) q_e e^(rate R_e) / Z over lines (C,); a line not `present` takes no part but in Z."""
    return torch.softmax(q.clamp(min=torch.finfo(q.dtype).tiny).log() + rate * risks * present, dim=0)
