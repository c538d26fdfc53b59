"""Hierarchical supervised contrast on the support codes e: a line's codes together, other lines' apart (8.3, 8.5).

For an anchor i with positives P (same line, another pair) and negatives N: log(1 + sum_N h e^(s_ij) / sum_P e^(s_ij)),
s the cosine over tau: the log of a sum, as the record has it, not a mean of logs. h(c, c') = 1 - e^(-d(c, c')/d0) makes
related lines milder negatives. Never on z_I, where it would be the opposite of invariance (C13). A memory of earlier
steps can add keys. At least 0; with a single line exactly 0 with zero gradient, reported as degenerate.
Cost: one (N, N + M) similarity for N codes of the step and M of the memory.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from data_pipeline.settings import Settings
from model.episode_model import ModelSettings
from model.lines import LineDistances, LineMemory, Remembered, line_means, per_pair
from model.scores import Scores
from model.step import GlobalStep
from model.terms.term import LossTerm, TermSettings, TermValue

NOTHING = -1e9
"""Log of a weight that counts for nothing; finite, so that a sum of nothing has a zero gradient and not a NaN."""


Level = Literal["pair", "line"]
"""What a loss on e looks at: the code of each support pair, or z_E, which tells lines apart with less noise."""


def codes_at(scores: Scores, level: Level) -> Tensor:
    """(E, m, dE) support codes, or (E, 1, dE) z_E."""
    return scores.codes if level == "pair" else scores.environment.unsqueeze(1)


class MemorySettings(Settings):
    """Codes of earlier steps as further keys."""

    size: int = Field(default=0, ge=0, le=65536)
    """Codes kept per line; 0 keeps none."""
    oldest: int = Field(default=50, ge=0, le=100000)
    """Steps after which a kept code no longer counts."""
    start: float = Field(default=2.0, ge=0.0, le=10000.0)
    """Epoch from which the memory counts; it is filled before."""


class ContrastSettings(TermSettings):
    """Contrast between lines of the support codes."""

    on: bool = False
    """Whether the term exists at all."""
    level: Level = "pair"
    """Contrast of the pairs' codes, or of z_E: that needs two episodes of a line in a step, or the memory."""
    sharpness: float = Field(default=0.1, ge=0.01, le=10.0)
    """tau: cosine difference that counts as one unit."""
    hierarchy: Literal["none", "features", "tree", "auto"] = "none"
    """What makes related lines milder negatives: nothing, their feature vectors, the tree `model.tissues`, or the first
    of these two that all lines have."""
    reach: float = Field(default=1.0, ge=0.01, le=100.0)
    """d0, the distance at which a negative has 63% of its weight: in medians (features) or edges (tree)."""
    memory: MemorySettings = MemorySettings()
    """Cross-batch memory."""


def contrast(similarity: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) losses of anchors and (N,) bool those with a positive and a negative.

    similarity (N, M) over tau, positive (N, M) bool, negative (N, M) weights of at least 0.
    """
    towards = torch.logsumexp(similarity.masked_fill(~positive, NOTHING), dim=1)
    away = torch.logsumexp(torch.where(negative > 0, similarity + negative.clamp(min=1e-30).log(), NOTHING), dim=1)
    return F.softplus(away - towards), positive.any(dim=1) & (negative > 0).any(dim=1)


class HierarchicalContrast(LossTerm):
    """Supervised contrast by line on the support codes."""

    Settings = ContrastSettings
    summary = "Hierarchical contrast of the support codes between lines."
    family = "environment"
    lower_bound = 0.0

    def __init__(self, settings: ContrastSettings, width: int, tissues: dict[str, str], lines: int) -> None:
        """`width` = dE, `tissues` paths of lines in the tree, `lines` = C training lines."""
        super().__init__()
        self.settings, self.lines = settings, lines
        self.distances = None
        if settings.hierarchy != "none":
            self.distances = LineDistances(settings.hierarchy, tissues, lines)
        size = settings.memory.size
        self.memory = LineMemory(lines, size, width, settings.memory.oldest) if size else None

    @classmethod
    def of(cls, settings: ContrastSettings, model: ModelSettings, lines: int) -> HierarchicalContrast:
        """See `LossTerm.of`."""
        return cls(settings, model.environment.width, model.tissues, lines)

    def forward(self, step: GlobalStep, scores: Scores, epoch: float) -> TermValue:
        """The mean over anchors that have both a positive and a negative; 0 without any."""
        own = codes_at(scores, self.settings.level)
        codes, line = F.normalize(own.flatten(0, 1), dim=-1), per_pair(step.line, own.shape[1])
        rows = step.rows[:, : own.shape[1]].flatten()
        bank = None if self.memory is None else self.memory.recall()
        if self.memory is not None and self.training:
            self.memory.observe(line, codes, rows)
        keys = [(codes, line, rows, line >= 0)]
        if bank is not None and epoch >= self.settings.memory.start:
            keys.append((bank.codes, bank.line, bank.rows, bank.valid))
        key_codes, key_line, key_rows, valid = (torch.cat(part) for part in zip(*keys, strict=True))
        usable = valid & (line >= 0).unsqueeze(1)
        same = line.unsqueeze(1) == key_line
        # A pair is no positive of itself, neither now nor as it was remembered.
        positive = usable & same & (rows.unsqueeze(1) != key_rows)
        negative = (usable & ~same) * self._mildness(line, key_line)
        losses, counts = contrast(codes @ key_codes.T / self.settings.sharpness, positive, negative)
        total = counts.sum()
        report = {"degenerate": ((total == 0) | ~codes.any()).float()}
        if bank is not None:
            report |= self._bank_report(bank, codes.detach(), line)
        return TermValue(loss=(losses * counts).sum() / total.clamp(min=1), report=report)

    def _mildness(self, line: Tensor, key_line: Tensor) -> Tensor:
        """(N, M) h of anchors' lines (N,) and keys' lines (M,)."""
        if self.distances is None:
            return torch.ones(len(line), len(key_line), device=line.device)
        h = 1 - torch.exp(-self.distances() / self.settings.reach)
        return h[line.clamp(min=0)][:, key_line.clamp(min=0)]

    @torch.no_grad()
    def _bank_report(self, bank: Remembered, codes: Tensor, line: Tensor) -> dict[str, Tensor]:
        """How full the memory is, and how much its lines' means still point where this step's do (drift)."""
        now, present = line_means(codes, torch.ones_like(line, dtype=codes.dtype), line, self.lines)
        then, kept = line_means(bank.codes, bank.valid.float(), bank.line, self.lines)
        both = (present & kept).float()
        agreement = (F.cosine_similarity(now, then, dim=1) * both).sum() / both.sum().clamp(min=1)
        return {"memory_filled": bank.valid.float().mean(), "memory_agreement": agreement}
