"""Competition of student and opportunist: bounded pull and push, decided per line by who predicts better.

L_pull = w_pull(c) KL(t_c || q1) draws the student to the teacher; L_push = w_push(c) rho^2, rho the correlation of R_S
with R_O over the step's query pairs, keeps it off the shortcuts. win_c is the running rate at which the student's own
R_S, not what teacher or curriculum make of it, predicts line c's query better than R_O; w_push = relu(1 - 2 win_c) acts
where it loses, w_pull = 1/2 + relu(1/2 - win_c). All parts are at least 0 and none is negated, so the equilibrium
win_c >= 1/2 switches the push off (algorithms.md 7).

Firewall: pull and push move phi and the energy's line heads, the opportunist's own loss moves the opportunist; none of
them moves trunk, U_I or the support codes. They therefore have no gradient to balance and are added as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from data_pipeline.settings import searched
from model.environment import CompetitionSettings
from model.lines import line_means, per_pair
from model.scores import Scores, StudentView
from model.step import GlobalStep
from model.terms.opportunist import Opportunist
from model.terms.term import TermValue, WalledSettings

DRAW = 0.07
"""Two standard deviations of a fair coin's running rate at memory 0.99: within 1/2 -+ this nobody has won."""


def divergence(target: Tensor, log_choice: Tensor) -> Tensor:
    """(E,) KL(t || q) in nats of targets (E, C) and log q (E, C); 0 exactly where they are equal or t is zero."""
    return (torch.special.xlogy(target, target) - target * log_choice).sum(dim=1)


def squared_correlation(a: Tensor, b: Tensor) -> Tensor:
    """() squared Pearson correlation of a and b (N,), in [0, 1]; 0 where either is constant."""
    a, b = a - a.mean(), b - b.mean()
    spread = a.square().sum() * b.square().sum()
    # Not divided by a spread of zero, so that a constant has a zero gradient and not a NaN.
    usable = spread > torch.finfo(spread.dtype).tiny
    rho = (a * b).sum().square() / torch.where(usable, spread, torch.ones_like(spread))
    return torch.where(usable, rho, torch.zeros_like(rho))


def push_weight(win: Tensor) -> Tensor:
    """relu(1 - 2 win): only where the opportunist wins."""
    return F.relu(1 - 2 * win)


def pull_weight(win: Tensor) -> Tensor:
    """1/2 + relu(1/2 - win)."""
    return 0.5 + F.relu(0.5 - win)


class PullSettings(WalledSettings):
    """The student's divergence from the teacher, where model.competition is on."""


class PushSettings(WalledSettings):
    """The squared correlation of student and opportunist, where model.competition is on."""

    weight: float = Field(default=0.5, ge=0.0, le=1.0, json_schema_extra=searched(0.01, 1.0, log=True))
    """Its weight from `start` on, under every balancer."""


class Competition(nn.Module):
    """Pull, push and the opportunist's own loss, of which the last is always there."""

    lower_bound: float = 0.0
    win: Tensor

    def __init__(
        self, settings: CompetitionSettings, pull: WalledSettings, push: WalledSettings, features: int, lines: int
    ) -> None:
        """`features` of a pair that U_I reads, `lines` = C training lines, which start at win rate 1/2.

        The starts of `pull` and `push` are completed ones.
        """
        super().__init__()
        self.settings, self.lines = settings, lines
        self.weights = {"pull": pull, "push": push}
        self.opportunist = Opportunist(features, settings.opportunist_hidden)
        self.register_buffer("win", torch.full((lines,), 0.5))

    def forward(self, step: GlobalStep, scores: Scores, epoch: float) -> TermValue:
        """The sum of the three; without a student in the scores (evaluation) the opportunist's loss alone."""
        query = slice(step.support, None)
        assert step.composition is not None
        guess = self.opportunist(step.composition, step.distance[:, query], step.h[:, query])
        rival = self.predicted(scores, guess)
        known = ~step.labels.isnan()
        losses = F.binary_cross_entropy_with_logits(rival, step.labels.nan_to_num(0.0), reduction="none")
        own = (losses * known).sum() / known.sum().clamp(min=1)
        report = {"opportunist": own.detach(), **self._standing()}
        if scores.student is None:
            return TermValue(loss=own, report=report)
        pull, push = self._pull_and_push(step, scores.student, guess.detach())
        if self.training and epoch >= self.begins:
            # While the environment is held back the student has not been taught, and has nothing to win with.
            allowed = scores.student.strength > 0
            self.count(step, self.predicted(scores, scores.student.whole), rival.detach(), allowed)
        pull, push = (
            loss if epoch >= self.weights[name].begins else 0 * loss for name, loss in (("pull", pull), ("push", push))
        )
        report |= {"pull": pull.detach(), "push": push.detach()}
        loss = own + self.weights["pull"].weight * pull + self.weights["push"].weight * push
        return TermValue(loss=loss, report=report)

    @property
    def begins(self) -> float:
        """Epoch from which pull or push counts, and wins with them."""
        return min(own.begins for own in self.weights.values())

    @staticmethod
    def predicted(scores: Scores, response: Tensor) -> Tensor:
        """(E, n) log-odds of the query pairs if `response` (E, n) is what their line takes off U_I; U_I is constant."""
        return (scores.bias.detach() + scores.neutral.detach() - response) / scores.temperature.detach()

    def _pull_and_push(self, step: GlobalStep, student: StudentView, guess: Tensor) -> tuple[Tensor, Tensor]:
        win = self.win.clone()[step.line.clamp(min=0)]
        taught = (student.target.sum(dim=1) > 0).float()
        pull = (pull_weight(win) * divergence(student.target, student.log_choice) * taught).sum()
        known = (step.line >= 0).float()
        push = (push_weight(win) * known).sum() / known.sum().clamp(min=1)
        rho = squared_correlation(student.response.flatten(), guess.flatten())
        return pull / taught.sum().clamp(min=1), push * rho

    @torch.no_grad()
    def count(self, step: GlobalStep, logits: Tensor, rival: Tensor, allowed: Tensor | bool = True) -> None:
        """Move the win rates of the lines with labelled pairs, by logits (G, n) of the student and of the opportunist.

        Where `allowed` () bool is false, nothing moves.
        """
        known = (~step.labels.isnan()).float().flatten()
        labels, line = step.labels.nan_to_num(0.0), per_pair(step.line, step.labels.shape[1])
        both = torch.stack([logits, rival], dim=-1)
        losses = F.binary_cross_entropy_with_logits(both, labels.unsqueeze(-1).expand_as(both), reduction="none")
        means, present = line_means(losses.flatten(0, 1), known, line, self.lines)
        memory = self.settings.win_memory
        moved = memory * self.win + (1 - memory) * (means[:, 0] < means[:, 1]).float()
        self.win.copy_(torch.where(present & allowed, moved, self.win))

    def _standing(self) -> dict[str, Tensor]:
        report = {"win": self.win.mean(), "win_least": self.win.min(), "win_most": self.win.max()}
        return report | {"idle": ((self.win - 0.5).abs() <= DRAW).all().float()}
