"""Invariance of moments across cell lines: CORAL on z_I, Fishr on the gradients of a linear head (algorithms.md 4).

CORAL matches the lines' means and covariances of z_I. Fishr matches the lines' variances of per-pair gradients; for a
linear read-out of z_I added to the logits at weight zero these are (sigma(s) - y) [z_I; 1] in closed form, so no
per-sample backward pass is needed. Both are sums of squares, never negative, and 0 on fewer than two lines.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from model.episode_model import ModelSettings
from model.lines import line_means, membership, per_pair
from model.scores import Scores
from model.step import GlobalStep
from model.terms.term import LossTerm, TermSettings, TermValue


class CoralSettings(TermSettings):
    """Correlation alignment of z_I between lines."""

    on: bool = False
    """Whether the term exists at all."""
    covariance: bool = True
    """Whether covariances are matched too; false matches the means only."""


class FishrSettings(TermSettings):
    """Matching of gradient variances between lines."""

    on: bool = False
    """Whether the term exists at all."""
    memory: float = Field(default=0.95, ge=0.0, lt=1.0)
    """How much of a line's running variance a step keeps."""


def between_lines(values: Tensor, present: Tensor) -> Tensor:
    """() mean over pairs of present lines of the mean squared difference of values (C, ...); 0 without a pair.

    present (C,) bool. Differences are taken pair by pair, so that equal lines give exactly 0.
    """
    first, second = torch.triu_indices(len(values), len(values), offset=1, device=values.device)
    both = (present[first] & present[second]).float()
    gaps = (values[first] - values[second]).square().flatten(1).mean(dim=1)
    return (both * gaps).sum() / both.sum().clamp(min=1.0)


def line_moments(z: Tensor, line: Tensor, lines: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means (C, d), covariances (C, d, d) with N-1, lines with a mean and with a covariance (C,) bool.

    z (N, d), line (N,) int64, below 0 left out.
    """
    ones = torch.ones(len(z), device=z.device, dtype=z.dtype)
    means, present = line_means(z, ones, line, lines)
    centred = z - means[line.clamp(min=0)]
    count = torch.bincount(line.clamp(min=0), weights=(line >= 0).to(z.dtype), minlength=lines)
    own = membership(line, lines).to(z.dtype).T.unsqueeze(2) * centred
    return means, own.transpose(1, 2) @ centred / (count - 1).clamp(min=1.0).view(-1, 1, 1), present, count > 1


class MomentMatching(LossTerm):
    """CORAL: mean squared difference of means plus that of covariances, over pairs of lines."""

    Settings = CoralSettings
    summary = "Equal means and covariances of z_I in all lines."
    family = "invariance"
    lower_bound = 0.0

    def __init__(self, settings: CoralSettings, lines: int) -> None:
        """`lines` = C training lines."""
        super().__init__()
        self.settings, self.lines = settings, lines

    @classmethod
    def of(cls, settings: CoralSettings, model: ModelSettings, lines: int) -> MomentMatching:
        """See `LossTerm.of`."""
        return cls(settings, lines)

    def forward(self, step: GlobalStep, scores: Scores, epoch: float) -> TermValue:
        """The term over all query pairs, labelled or not."""
        line = per_pair(step.line, scores.invariant.shape[1])
        means, covariances, present, spread = line_moments(scores.invariant.flatten(0, 1), line, self.lines)
        loss = between_lines(means, present)
        if self.settings.covariance:
            loss = loss + between_lines(covariances, spread)
        return TermValue(loss=loss, report={"degenerate": (present.sum() < 2).float()})


def head_gradients(invariant: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """(N, d+1) gradients of each pair's cross-entropy in a linear read-out w, b of z_I added to its logit, at zero.

    invariant (N, d), logits (N,), labels (N,) in {0, 1}.
    """
    error = torch.sigmoid(logits) - labels
    return error.unsqueeze(1) * torch.cat([invariant, torch.ones_like(invariant[:, :1])], dim=1)


class GradientVariance(LossTerm):
    """Fishr: mean over lines of the squared distance of a line's gradient variance from the mean of the lines.

    The variances are running means; a line absent from the step counts with its last one, without gradient.
    """

    Settings = FishrSettings
    summary = "Equal gradient variances in all lines."
    family = "invariance"
    lower_bound = 0.0
    variance: Tensor
    seen: Tensor

    def __init__(self, settings: FishrSettings, invariant: int, lines: int) -> None:
        """`invariant` = dI, `lines` = C training lines."""
        super().__init__()
        self.settings, self.lines = settings, lines
        self.register_buffer("variance", torch.zeros(lines, invariant + 1))
        self.register_buffer("seen", torch.zeros(lines, dtype=torch.bool))

    @classmethod
    def of(cls, settings: FishrSettings, model: ModelSettings, lines: int) -> GradientVariance:
        """See `LossTerm.of`."""
        return cls(settings, model.energy.invariant_width, lines)

    def forward(self, step: GlobalStep, scores: Scores, epoch: float) -> TermValue:
        """The term over labelled query pairs; 0, reported as degenerate, before two lines were seen."""
        current, present = self._current(step, scores)
        memory = self.settings.memory
        # Copies, because the graph holds what the buffers were and training overwrites them below.
        before, known = self.variance.clone(), self.seen.clone()
        mixed = torch.where(known.unsqueeze(1), memory * before + (1 - memory) * current, current)
        running = torch.where(present.unsqueeze(1), mixed, before)
        seen = known | present
        if self.training:
            self.variance.copy_(running.detach())
            self.seen.copy_(seen)
        weight = (seen.float() / seen.sum().clamp(min=1)).unsqueeze(1)
        gaps = running - (weight * running).sum(dim=0)
        loss = (weight * gaps.square()).sum()
        usable = (seen.sum() >= 2) & present.any()
        return TermValue(
            loss=torch.where(usable, loss, torch.zeros_like(loss)),
            report={"degenerate": (~usable).float(), "variance": (weight * running).sum()},
        )

    def _current(self, step: GlobalStep, scores: Scores) -> tuple[Tensor, Tensor]:
        labels, line = step.labels.flatten(), per_pair(step.line, step.labels.shape[1])
        known = (~labels.isnan()).float()
        gradients = head_gradients(scores.invariant.flatten(0, 1), scores.logits.flatten(), labels.nan_to_num(0.0))
        mean, present = line_means(gradients, known, line, self.lines)
        variance, _ = line_means((gradients - mean[line.clamp(min=0)]).square(), known, line, self.lines)
        return variance, present
