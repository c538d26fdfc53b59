"""Prototype loss: a support code belongs to the running mean of its own line's codes (algorithms.md 8.4).

`contrastive`: -log softmax_c(cos(e, p_c)/tau), which is ln C when all prototypes coincide; that is the alarm
`collapsed`. The squared distance alone would be least at collapse, so it comes only with a floor on the codes' spread
(`l2_floor`) or cut off near the prototype (`l2_truncated`). Prototypes are buffers: no gradient reaches them, and what
a step teaches them takes effect after it. All forms are at least 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from model.episode_model import ModelSettings
from model.lines import LineMeans, per_pair
from model.scores import Scores
from model.step import GlobalStep
from model.terms.contrast import Level, codes_at
from model.terms.term import LossTerm, TermSettings, TermValue

COLLAPSE_MARGIN = 0.05
"""Nats below ln C from which prototypes count as told apart."""


class PrototypeSettings(TermSettings):
    """Codes near their line's prototype."""

    on: bool = False
    """Whether the term exists at all."""
    form: Literal["contrastive", "l2_floor", "l2_truncated"] = "contrastive"
    """Softmax over lines, or squared distance with a floor on the spread of codes, or cut off at `slack`."""
    level: Level = "pair"
    """Whether each support pair's code belongs to its line, or z_E as a whole."""
    sharpness: float = Field(default=0.1, ge=0.01, le=10.0)
    """tau of `contrastive`: cosine difference that counts as one unit."""
    memory: float = Field(default=0.9, ge=0.0, lt=1.0)
    """mu: how much of a prototype a step keeps."""
    floor: float = Field(default=1.0, gt=0.0, le=100.0)
    """Standard deviation over the step's codes below which `l2_floor` charges a dimension."""
    slack: float = Field(default=0.5, ge=0.0, le=1000.0)
    """Squared distance up to which `l2_truncated` charges nothing."""


def contrastive(codes: Tensor, line: Tensor, prototypes: Tensor, seen: Tensor, settings: PrototypeSettings) -> Tensor:
    """(N,) -log softmax of the own prototype among those seen; arguments as in `FORMS`."""
    cosine = F.normalize(codes, dim=-1) @ F.normalize(prototypes, dim=-1).T
    logits = (cosine / settings.sharpness).masked_fill(~seen, torch.finfo(cosine.dtype).min)
    return F.cross_entropy(logits, line, reduction="none")


def floored(codes: Tensor, line: Tensor, prototypes: Tensor, seen: Tensor, settings: PrototypeSettings) -> Tensor:
    """(N,) squared distance to the own prototype plus sum_j relu(floor - sd_j); arguments as in `FORMS`."""
    deviation = (codes.var(dim=0, correction=0) + 1e-4).sqrt()
    return (codes - prototypes[line]).square().sum(dim=1) + F.relu(settings.floor - deviation).sum()


def truncated(codes: Tensor, line: Tensor, prototypes: Tensor, seen: Tensor, settings: PrototypeSettings) -> Tensor:
    """(N,) squared distance to the own prototype beyond `slack`; arguments as in `FORMS`."""
    return F.relu((codes - prototypes[line]).square().sum(dim=1) - settings.slack)


FORMS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, PrototypeSettings], Tensor]] = {
    "contrastive": contrastive,
    "l2_floor": floored,
    "l2_truncated": truncated,
}
"""Losses (N,) of codes (N, d) of lines (N,) int64 against prototypes (C, d), of which `seen` (C,) bool exist."""


class PrototypeLoss(LossTerm):
    """Mean prototype loss over the support codes of lines that have a prototype."""

    Settings = PrototypeSettings
    summary = "Support codes near their line's prototype."
    family = "environment"
    lower_bound = 0.0

    def __init__(self, settings: PrototypeSettings, width: int, lines: int) -> None:
        """`width` = dE, `lines` = C training lines."""
        super().__init__()
        self.settings = settings
        self.prototypes = LineMeans(lines, width, settings.memory)

    @classmethod
    def of(cls, settings: PrototypeSettings, model: ModelSettings, lines: int) -> PrototypeLoss:
        """See `LossTerm.of`."""
        return cls(settings, model.environment.width, lines)

    def forward(self, step: GlobalStep, scores: Scores, epoch: float) -> TermValue:
        """The term; 0, reported as degenerate, until two lines have a prototype and one of them is in the step."""
        prototypes, seen = self.prototypes()
        codes = codes_at(scores, self.settings.level)
        line = per_pair(step.line, codes.shape[1])
        if self.training and codes.shape[1] > 0:
            self.prototypes.observe(step.line, codes.detach().mean(dim=1))
        own = line.clamp(min=0)
        counted = (line >= 0) & seen[own]
        losses = FORMS[self.settings.form](codes.flatten(0, 1), own, prototypes, seen, self.settings)
        usable = (seen.sum() >= 2) & counted.any()
        loss = (losses * counted).sum() / counted.sum().clamp(min=1)
        loss = torch.where(usable, loss, torch.zeros_like(loss))
        report = {"degenerate": (~usable).float()}
        if self.settings.form == "contrastive":
            chance = seen.sum().clamp(min=1).float().log()
            report["collapsed"] = (usable & (loss.detach() > chance - COLLAPSE_MARGIN)).float()
        return TermValue(loss=loss, report=report)
