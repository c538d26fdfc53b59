"""Decoupling of z_I and z_E: mean squared cross-correlation over the episodes of all lines (algorithms.md 3.1).

z_E takes one value per episode, so the term matches the lines' means of z_I; with a single line it is exactly 0 with
zero gradient, which is reported as degenerate. It sees linear dependence only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.episode_model import ModelSettings
from model.scores import Scores
from model.step import GlobalStep
from model.terms.term import LossTerm, TermSettings, TermValue

EPSILON = 1e-8
"""Variance below which a dimension counts as constant (S2)."""


class CorrSettings(TermSettings):
    """Squared correlation between z_I and z_E."""

    debiased: bool = False
    """Subtract the value expected under independence, 1/(N-1); the term may then be slightly negative."""


def cross_correlation(a: Tensor, b: Tensor) -> Tensor:
    """(dI, dE) correlation matrix of a (N, dI) and b (N, dE); exactly 0 where a column is constant."""
    return _standardised(a).T @ _standardised(b) / a.shape[0]


def _standardised(x: Tensor) -> Tensor:
    # Relative to the first row, so that a constant column is exactly 0 whatever its mean rounds to.
    x = x - x[:1]
    x = x - x.mean(dim=0)
    return x / (x.square().mean(dim=0) + EPSILON).sqrt()


def correlation_loss(a: Tensor, b: Tensor, debiased: bool = False) -> Tensor:
    """() mean squared cross-correlation of a (N, dI) and b (N, dE), between 0 and 1 unless debiased."""
    loss = cross_correlation(a, b).square().mean()
    null = 1 / (a.shape[0] - 1)
    return (loss - null) / (1 - null) if debiased else loss


class Correlation(LossTerm):
    """Mean squared correlation of z_I with z_E over the query pairs of the step."""

    Settings = CorrSettings
    summary = "Decorrelation of z_I and z_E."
    family = "decoupling"

    def __init__(self, settings: CorrSettings) -> None:
        """No parameters."""
        super().__init__()
        self.settings = settings
        self.lower_bound = -1.0 if settings.debiased else 0.0

    @classmethod
    def of(cls, settings: CorrSettings, model: ModelSettings, lines: int) -> Correlation:
        """See `LossTerm.of`."""
        return cls(settings)

    def forward(self, step: GlobalStep, scores: Scores, epoch: float) -> TermValue:
        """The term; 0 with zero gradient, reported as degenerate, where the lines or z_E do not vary."""
        invariant = scores.invariant.flatten(0, 1)
        environment = scores.environment.unsqueeze(1).expand(-1, scores.invariant.shape[1], -1).flatten(0, 1)
        varied = (step.line != step.line[0]).any() & (environment != environment[:1]).any()
        loss = correlation_loss(invariant, environment, self.settings.debiased)
        return TermValue(
            loss=torch.where(varied, loss, torch.zeros_like(loss)), report={"degenerate": (~varied).float()}
        )
