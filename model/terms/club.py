"""vCLUB: a variational upper bound on the information that z_I holds about the cell line (algorithms.md 3.4).

I(z; c) <= E log q(c|z) - E_p(z)p(c) log q(c|z), where q is a classifier trained by maximum likelihood on detached z;
the encoder lowers the bound with q frozen. It bounds only while q is close to the truth, so it is floored at 0: a bound
below 0 says that q is wrong, not that there is something left to remove. z_E follows from the line, hence
I(z_I; z_E) <= I(z_I; c): this is the objective of the adversary of `invariance` by other means; use one of the two.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from model.episode_model import ModelSettings
from model.scores import Scores
from model.step import GlobalStep
from model.terms.adversary import LineClassifier, standardised
from model.terms.invariance import line_weights
from model.terms.term import LossTerm, TermSettings, TermValue


class ClubSettings(TermSettings):
    """Upper bound on the information of z_I about the line."""

    on: bool = False
    """Whether the term exists at all."""
    hidden: int = Field(default=64, ge=1, le=4096)
    """Hidden units of q."""
    balanced: bool = True
    """Whether each line counts the same, however many episodes of it are in the step."""


def categorical_club(log_q: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """() E log q(c_i|z_i) - E log q(c_j|z_i) from log_q (N, C), target (N,) int64, weight (N,) that sums to 1."""
    matched = (weight * log_q.gather(1, target.unsqueeze(1)).squeeze(1)).sum()
    marginal = weight @ F.one_hot(target, log_q.shape[1]).to(log_q.dtype)
    return matched - (weight @ log_q * marginal).sum()


def pair_weights(line: Tensor, pairs: int, balanced: bool) -> Tensor:
    """(E*pairs,) weights of the pairs of episodes of line (E,) that sum to 1, or to 0 without any known line.

    `balanced` gives each line the same, however many episodes it has.
    """
    weight = line_weights(line, balanced)
    return (weight / (pairs * weight.sum()).clamp(min=1e-12)).repeat_interleave(pairs)


class Club(LossTerm):
    """vCLUB of (z_I, line) over the query pairs of the step."""

    Settings = ClubSettings
    summary = "Upper bound on the information of z_I about the line."
    family = "decoupling"
    lower_bound = 0.0

    def __init__(self, settings: ClubSettings, invariant: int, lines: int) -> None:
        """`invariant` = dI, `lines` = C training lines."""
        super().__init__()
        self.settings = settings
        self.classifier = LineClassifier(invariant, settings.hidden, lines)

    @classmethod
    def of(cls, settings: ClubSettings, model: ModelSettings, lines: int) -> Club:
        """See `LossTerm.of`."""
        return cls(settings, model.energy.invariant_width, lines)

    def forward(self, step: GlobalStep, scores: Scores, epoch: float) -> TermValue:
        """The bound in nats, floored at 0; 0 and reported as degenerate with fewer than two known lines."""
        n = scores.invariant.shape[1]
        weight = pair_weights(step.line, n, self.settings.balanced)
        target = step.line.clamp(min=0).repeat_interleave(n)
        invariant = standardised(scores.invariant).flatten(0, 1)
        own = F.nll_loss(self.classifier(invariant.detach()), target, reduction="none") @ weight
        log_q = self.classifier(invariant, frozen=True)
        bound = categorical_club(log_q, target, weight)
        marginal = weight @ F.one_hot(target, log_q.shape[1]).to(weight.dtype)
        varied = (marginal > 0).sum() > 1
        floored = torch.where(varied, bound.clamp(min=0), torch.zeros_like(bound))
        report = {
            "bound": bound.detach(),
            "information": -torch.xlogy(marginal, marginal).sum() - own.detach(),
            "accuracy": (log_q.detach().argmax(dim=1) == target).float() @ weight,
            "degenerate": (~varied).float(),
        }
        # The zero in value carries q's own gradient, as `own` does, so that q learns at rate 1 whatever the weight.
        return TermValue(loss=floored + (own - own.detach()), own=own, report=report)
