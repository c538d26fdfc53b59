"""Ranking inside a line: pairwise logistic or hinge, SOAP and SmoothAP on the query and a bank of recent logits.

Each labelled query logit is compared with the step's other queries of its line and with the line's bank, never with
another line (that would teach the shift r(c), not U). Lines count the same, whatever their number of pairs. A line
without both classes adds nothing; a step without any such line is exactly 0 and reported as degenerate. A step's
average precision is never reported: on 32 pairs it is biased upwards (algorithms.md 2).
Cost: N (N + bank) comparisons of N query pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from model.episode_model import ModelSettings
from model.lines import KeyedMeans, ScoreBank
from model.scores import Scores
from model.step import GlobalStep
from model.terms.term import LossTerm, TermSettings, TermValue, ValueKind


class RankingSettings(TermSettings):
    """Ranking of the query inside its line."""

    on: bool = False
    """Whether the term exists at all."""
    mode: Literal["pairwise_logistic", "hinge", "soap", "smoothap"] = "pairwise_logistic"
    """Surrogate: of AUROC by pairs (logistic, squared hinge), or of average precision (SOAP, SmoothAP)."""
    bank: int = Field(default=512, ge=1, le=8192)
    """Detached logits kept per line."""
    oldest: int = Field(default=20, ge=0, le=10000)
    """Steps after which a banked logit no longer counts; 0 compares the step's own queries only."""
    scale: float = Field(default=1.0, ge=0.01, le=100.0)
    """Logit difference that counts as one unit of `pairwise_logistic`."""
    margin: float = Field(default=1.0, ge=0.01, le=100.0)
    """Logit difference wanted by `hinge` and `soap`."""
    rate: float = Field(default=0.1, gt=0.0, le=1.0)
    """Share of a step's value in SOAP's running means of a positive pair."""
    positives: int = Field(default=32768, ge=1, le=65536)
    """Slots for SOAP's running means."""
    sharpness: float = Field(default=0.2, ge=1e-4, le=10.0)
    """SmoothAP's tau, in standard deviations of the line's logits; below 0.1 most gradients vanish."""
    smallest_pool: int = Field(default=512, ge=2, le=100000)
    """Labelled logits of a line, bank included, from which SmoothAP counts; it is biased on fewer."""

    @property
    def value_kind(self) -> ValueKind:
        """SOAP's value is no average precision and may be negative, the squared hinge is 0 beyond the margin."""
        kinds: dict[str, ValueKind] = {"soap": "signed", "hinge": "vanishing"}
        return kinds.get(self.mode, "positive")


@dataclass(frozen=True)
class Pool:
    """N query logits, each with the M logits it may be compared with."""

    difference: Tensor
    """(N, M) s_i - s_j; the first N candidates are the queries themselves, the others are constants."""
    positive: Tensor
    """(N,) bool, label of s_i."""
    candidate_positive: Tensor
    """(N, M) bool, label of s_j."""
    valid: Tensor
    """(N, M) bool: both labels known, same line."""

    @property
    def of_query(self) -> Tensor:
        """(M,) bool, candidates that are queries of the step."""
        return torch.arange(self.valid.shape[1], device=self.valid.device) < len(self.valid)

    @property
    def others(self) -> Tensor:
        """(N, M) bool, valid candidates other than the logit itself."""
        diagonal = torch.eye(*self.valid.shape, dtype=torch.bool, device=self.valid.device)
        return self.valid & ~diagonal


def pool(logits: Tensor, labels: Tensor, line: Tensor, bank: tuple[Tensor, Tensor, Tensor] | None = None) -> Pool:
    """Comparisons of logits (N,), labels (N,) in {0, 1, NaN unknown}, line (N,) int64, -1 unknown; bank as it reads."""
    known = ~labels.isnan() & (line >= 0)
    positive = labels.nan_to_num(0.0) > 0.5
    candidates = logits.expand(len(logits), -1)
    candidate_positive = positive.expand(len(logits), -1)
    valid = known.unsqueeze(1) & known & (line.unsqueeze(1) == line)
    if bank is not None:
        stored, stored_positive, stored_valid = bank
        candidates = torch.cat([candidates, stored.detach()], dim=1)
        candidate_positive = torch.cat([candidate_positive, stored_positive], dim=1)
        valid = torch.cat([valid, stored_valid & known.unsqueeze(1)], dim=1)
    return Pool(logits.unsqueeze(1) - candidates, positive, candidate_positive, valid)


def pairs(p: Pool, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Sums (N,) of `loss` of (positive - negative) and numbers of pairs (N,); each pair once, bank-bank pairs never."""
    opposite = p.valid & (p.candidate_positive != p.positive.unsqueeze(1))
    counted = opposite & (p.positive.unsqueeze(1) | ~p.of_query)
    forward = torch.where(p.positive.unsqueeze(1), p.difference, -p.difference)
    return (loss(forward) * counted).sum(dim=1), counted.sum(dim=1)


def smooth_ap(p: Pool, sharpness: float, smallest: int = 0) -> tuple[Tensor, Tensor]:
    """1 - AP_i (N,) of each positive with sigmoids for steps, and which rows count (N,) (Brown et al. 2020).

    `sharpness` is tau in the units of the differences. Rows with fewer than `smallest` candidates do not count.
    """
    above = torch.sigmoid(-p.difference / sharpness) * p.others
    rank = 1 + above.sum(dim=1)
    rank_of_positives = 1 + (above * p.candidate_positive).sum(dim=1)
    counted = p.positive & mixed(p) & (p.valid.sum(dim=1) >= smallest)
    return (1 - rank_of_positives / rank) * counted, counted.long()


def soap_means(p: Pool, margin: float) -> Tensor:
    """(N, 2) g1 and g2 of each logit: mean squared-hinge surrogate over its positive, and over all, candidates."""
    surrogate = (margin - p.difference).clamp(min=0).square() * p.valid
    total = p.valid.sum(dim=1).clamp(min=1)
    return torch.stack([(surrogate * p.candidate_positive).sum(dim=1), surrogate.sum(dim=1)], dim=1) / total.unsqueeze(
        1
    )


def soap(p: Pool, running: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """mean_j p_ij l_ij (N,) of each positive and which rows count (N,); running means u1, u2 (N, 2) (Qi et al. 2021).

    Its gradient is that of -g1/g2 at g = u; its value is no precision, and at least -1/rate.
    """
    g1, g2 = soap_means(p, margin).unbind(dim=1)
    counted = p.positive & mixed(p)
    u1, u2 = running.detach().unbind(dim=1)
    u2 = torch.where(counted, u2, torch.ones_like(u2))
    return (u1 * g2 - u2 * g1) / u2.square() * counted, counted.long()


def mixed(p: Pool) -> Tensor:
    """(N,) bool, logits with a negative among their candidates."""
    return (p.valid & ~p.candidate_positive).any(dim=1)


def line_mean(total: Tensor, count: Tensor, line: Tensor, lines: int) -> tuple[Tensor, Tensor]:
    """() mean over the lines that have any count of (sum of total / sum of count); and the number of such lines ().

    total, count, line (N,); line in [-1, lines).
    """
    member = F.one_hot(line.clamp(min=0), lines).to(total.dtype)
    per_line, number = total @ member, count.to(total.dtype) @ member
    active = (number > 0).sum()
    return (per_line / number.clamp(min=1)).sum() / active.clamp(min=1), active


def _logistic(p: Pool, own: RankingSettings, running: Tensor) -> tuple[Tensor, Tensor]:
    return pairs(p, lambda difference: F.softplus(-difference / own.scale))


def _hinge(p: Pool, own: RankingSettings, running: Tensor) -> tuple[Tensor, Tensor]:
    return pairs(p, lambda difference: (own.margin - difference).clamp(min=0).square())


def _soap(p: Pool, own: RankingSettings, running: Tensor) -> tuple[Tensor, Tensor]:
    return soap(p, running, own.margin)


def _smoothap(p: Pool, own: RankingSettings, running: Tensor) -> tuple[Tensor, Tensor]:
    difference = p.difference.detach()
    number = p.valid.sum(dim=1).clamp(min=1)
    mean = (difference * p.valid).sum(dim=1) / number
    variance = ((difference - mean.unsqueeze(1)).square() * p.valid).sum(dim=1) / number
    # Relative to the line's spread, or tau would mean something else as the logits grow.
    unit = (variance + 1e-12).sqrt().unsqueeze(1)
    standardised = Pool(p.difference / unit, p.positive, p.candidate_positive, p.valid)
    return smooth_ap(standardised, own.sharpness, own.smallest_pool)


MODES: dict[str, Callable[[Pool, RankingSettings, Tensor], tuple[Tensor, Tensor]]] = {
    "pairwise_logistic": _logistic,
    "hinge": _hinge,
    "soap": _soap,
    "smoothap": _smoothap,
}
"""Surrogates: (pool, settings, running means (N, 2)) -> sums (N,) and counts (N,), averaged by `line_mean`."""


class Ranking(LossTerm):
    """A ranking surrogate of the query logits inside each line."""

    Settings = RankingSettings
    summary = "Ranking of the query inside its line."
    family = "ranking"

    def __init__(self, settings: RankingSettings, lines: int) -> None:
        """`lines` = C training lines."""
        super().__init__()
        self.settings, self.lines = settings, lines
        self.bank = ScoreBank(lines, settings.bank, settings.oldest)
        self.running = KeyedMeans(settings.positives, 2) if settings.mode == "soap" else None
        # SOAP: u2 >= rate * g2 and g1 <= g2, so (u1 g2 - u2 g1) / u2^2 >= -g1/u2 >= -1/rate.
        self.lower_bound = -1 / settings.rate if settings.mode == "soap" else 0.0

    @classmethod
    def of(cls, settings: RankingSettings, model: ModelSettings, lines: int) -> Ranking:
        """See `LossTerm.of`."""
        return cls(settings, lines)

    def forward(self, step: GlobalStep, scores: Scores, epoch: float) -> TermValue:
        """The surrogate, mean over lines; 0, reported as degenerate, where no line has both classes.

        In training mode the step's logits then enter the bank.
        """
        n = scores.logits.shape[1]
        logits, labels = scores.logits.flatten(), step.labels.flatten()
        line = step.line.repeat_interleave(n)
        banked = self.bank(line)
        p = pool(logits, labels, line, banked)
        running, report = self._running(p, step.rows[:, step.support :].flatten())
        total, count = MODES[self.settings.mode](p, self.settings, running)
        loss, active = line_mean(total, count, line, self.lines)
        if self.training:
            self.bank.observe(line, logits, p.positive, ~labels.isnan())
        report |= {"degenerate": (active == 0).float(), "bank_fill": banked[2].float().mean()}
        return TermValue(loss=loss, report=report)

    def _running(self, p: Pool, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """SOAP's u1, u2 (N, 2) of every logit, those of positives kept for their pair's next visit."""
        if self.running is None:
            return p.difference.new_zeros(len(rows), 2), {}
        kept = p.positive & mixed(p)
        means, known = self.running(rows, soap_means(p, self.settings.margin), self.settings.rate)
        if self.training:
            self.running.observe(rows, means, kept)
        return means, {"revisited": (known & kept).sum() / kept.sum().clamp(min=1)}
