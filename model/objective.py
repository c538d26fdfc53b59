"""The training module: model, losses and balancer in one forward (DESIGN decisions 5 and 6).

1. This worker's episodes become pair features. 2. All workers' features and labels are gathered once; from here on
every worker computes the same numbers, so a step's loss does not depend on their number. 3. The heads score, the terms
are computed. 4. Every few steps the gradient of each term is taken at the shared representation and turned into
coefficients. 5. The weighted sum is returned; the caller's one backward does the rest.
Cost: step 4 passes K+1 times through the heads, never through the trunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from data_pipeline.episodes import EpisodeBatch
from data_pipeline.settings import Settings
from model.balancing import Balance, BalanceSettings, Gradients, Seen, Targets, length_ratio, measure, refusals, unread
from model.curriculum import CurriculumSettings, environment_scale
from model.environment import IdTeacher
from model.episode_model import EpisodeModel, ModelSettings
from model.lines import RelatedLines
from model.scores import Scores
from model.step import Gather, GlobalStep, gather_step
from model.terms import (
    TERMS,
    WALLED,
    Competition,
    TaskLoss,
    TaskSettings,
    TermSettings,
    TermsSettings,
    TermValue,
    WalledSettings,
    small_share,
)

BOUND_TOLERANCE = 1e-5
"""A loss this far below its lower bound is still rounding."""


class ObjectiveSettings(Settings):
    """What is minimised."""

    task: TaskSettings = TaskSettings()
    """The query loss."""
    terms: TermsSettings = TermsSettings()
    """Further loss terms."""
    start: float = Field(default=2.0, ge=0.0, le=10000.0)
    """Epoch from which loss terms count that do not say so themselves."""
    balance: BalanceSettings = BalanceSettings()
    """How they are weighted."""
    curriculum: CurriculumSettings = CurriculumSettings()
    """When the environment begins to act."""

    @model_validator(mode="after")
    def _balanced(self) -> ObjectiveSettings:
        if sentences := refusals(self.balance, self.policies()):
            raise ValueError("; ".join(sentences))
        return self

    def unread(self) -> list[str]:
        """Sentences about strengths of terms that were set and that the balance mode does not read; usually none."""
        return unread(self.balance, self.policies())

    def policies(self) -> dict[str, TermSettings]:
        """Settings of all terms that a balancer weighs, by name, with their starts."""
        return {name: self._begun(getattr(self.terms, name)) for name in TERMS}

    def walled(self) -> dict[str, WalledSettings]:
        """Settings of the losses behind a firewall, by name, with their starts."""
        return {name: self._begun(getattr(self.terms, name)) for name in WALLED}

    def _begun(self, own: Any) -> Any:
        return own if own.start is not None else own.model_copy(update={"start": self.start})


class TrainingModule(nn.Module):
    """What the engine trains: `forward(batch, step, epoch) -> (total, report)`."""

    def __init__(
        self,
        settings: ModelSettings,
        objective: ObjectiveSettings,
        signals: int,
        line_features: int,
        lines: int,
        seed: int = 0,
        gather: Gather | None = None,
        tracks: int = 0,
    ) -> None:
        """`signals`, `line_features`: S and F of the store; `lines`: C training lines; `gather` None: one process.

        `tracks`: W of the store's landscapes.
        """
        super().__init__()
        self.objective, self.seed = objective, seed
        self.gather: Gather = gather or _alone
        self.model = EpisodeModel(settings, signals, line_features, lines, tracks)
        teacher = settings.environment.id_teacher
        self.teacher = IdTeacher(teacher, lines, settings.environment.width) if teacher.on else None
        self.task = TaskLoss(objective.task)
        self.competition = _competition(settings, objective, lines)
        self.policies = {name: own for name, own in objective.policies().items() if own.on}
        terms = {name: TERMS[name].of(own, settings, lines) for name, own in self.policies.items()}
        self.terms = nn.ModuleDict(terms)
        self.bounds = {name: term.lower_bound for name, term in terms.items()}
        self.balance = Balance(objective.balance, len(self.terms))
        self.emphasis = dict.fromkeys(self.policies, 1.0)

    def forward(self, batch: EpisodeBatch, step: int, epoch: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss () and detached () monitors of a global step.

        `step` counts global steps of the run, `epoch` is fractional; both must be the same on all workers.
        """
        if self.training:
            self.model.environment_scale.fill_(environment_scale(self.objective.curriculum, epoch))
            if self.model.student is not None:
                self.model.student.set_epoch(epoch)
        composition = None if self.competition is None else self.competition.opportunist.composition(batch)
        world = gather_step(batch, self.model.represent(batch), self.gather, composition)
        if self.training:
            # From here on all workers do the same, dropout included; the trunk's own draws differ between them.
            torch.manual_seed((self.seed * 1_000_003 + step + 2**62) % 2**63)
        with torch.autocast(world.h.device.type, enabled=False):
            scores = self.model.score_episodes(
                world.h,
                world.distance,
                world.signals,
                world.line_features,
                world.support,
                self._without_context(world, step),
                support_labels=world.support_labels,
                line=world.line,
                teacher=self._taught(world, step, epoch),
                profile=world.profile,
            )
            task = self.task(scores.logits, world.labels, scores.invariant)
            values: dict[str, TermValue] = {name: term(world, scores, epoch) for name, term in self.terms.items()}
            total, report = self._total(world, scores, task, values, step, epoch)
            if self.competition is None:
                return total, report
            # Beside the balanced sum: behind its firewall it has no gradient that could be balanced.
            rival = self.competition(world, scores, epoch)
            report |= _competition_report(total, rival, epoch >= self.competition.begins)
            if self.balance.measures(step) and task.requires_grad and self.model.student is not None:
                # Where both arrive: no shared place is behind the firewall, the student is.
                share = length_ratio(rival.loss, task, list(self.model.student.parameters()))
                report["gradient_ratio/competition"] = share
            return total + rival.loss, report

    def set_lines(self, names: Sequence[str], features: Tensor) -> None:
        """Tell whatever relates lines the training lines' names and feature vectors (C, F), in their order.

        Raises `UserError` if a hierarchy or graph needs what these lines do not have.
        """
        for part in self.modules():
            if isinstance(part, RelatedLines):
                part.set_lines(names, features)

    def set_emphasis(self, factors: Mapping[str, float]) -> None:
        """Multiply the weights and ratios of some terms by `factors` from now on; the other terms keep theirs at 1."""
        self.emphasis = {name: factors.get(name, 1.0) for name in self.policies}

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Every parameter outside the trunk: those that the measuring of gradients passes through several times.

        ZeRO-3 brings a sharded parameter back for one backward pass only, so these must stay whole during a step.
        """
        return (own for name, own in self.named_parameters() if not name.startswith("model.trunk."))

    def _total(
        self, world: GlobalStep, scores: Scores, task: Tensor, values: dict[str, TermValue], step: int, epoch: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        losses = [task, *(value.loss for value in values.values())]
        gradients = None
        if self.balance.measures(step) and task.requires_grad:
            gradients = measure(losses, self._shared_places(world, scores))
        seen = Seen(torch.stack([loss.detach() for loss in losses]), epoch, gradients)
        weights = self.balance(seen, self._targets(epoch, task.device))
        total = weights[0] * task
        for given, value in zip(weights[1:].unbind(), values.values(), strict=True):
            weight = given if value.strength is None else given * value.strength
            total = total + weight * value.loss + (0.0 if value.own is None else (1 - weight) * value.own)
        return total, self._report(scores, task, values, total, weights, gradients)

    def _shared_places(self, world: GlobalStep, scores: Scores) -> list[Tensor]:
        """Where every head reads from: pair features (z_I without a trunk), and the codes of the support pairs.

        Codes that the trunk learns through are made of pair features that are there already.
        """
        environment = self.model.settings.environment
        if world.h.requires_grad and environment.trunk_gradient and environment.encoder != "features":
            return [world.h]
        features = world.h if world.h.requires_grad else scores.invariant
        return [features, scores.codes] if scores.codes.requires_grad else [features]

    def _targets(self, epoch: float, device: torch.device) -> Targets:
        policies = self.policies.items()
        return Targets(
            weights=torch.tensor([own.weight_at(epoch) for _, own in policies], device=device),
            ratios=torch.tensor([own.ratio_at(epoch) for _, own in policies], device=device),
            factors=torch.tensor([self.emphasis[name] * own.growth_at(epoch) for name, own in policies], device=device),
        )

    def _without_context(self, world: GlobalStep, step: int) -> Tensor | None:
        """(G,) bool, the episodes whose environment is withheld; the same on every worker."""
        probability = self.model.settings.environment.context_dropout
        if not self.training or probability == 0:
            return None
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + step) % 2**63)
        return (torch.rand(len(world.line), generator=generator) < probability).to(world.line.device)

    def _taught(self, world: GlobalStep, step: int, epoch: float) -> tuple[Tensor, Tensor] | None:
        """The id-teacher's vectors (G, dE) and shares (G, 1) for this step; None outside training."""
        if self.teacher is None or not self.training:
            return None
        # Away from the seeds of context dropout, so that novelty and dropout are drawn apart.
        vectors, share = self.teacher(world.line, epoch, (self.seed * 1_000_003 + step + 2**61) % 2**63)
        return vectors, share

    @torch.no_grad()
    def _report(
        self,
        scores: Scores,
        task: Tensor,
        values: dict[str, TermValue],
        total: Tensor,
        weights: Tensor,
        gradients: Gradients | None,
    ) -> dict[str, Tensor]:
        report = {"loss/total": total, "loss/task": task, "bound_violated/task": _below(task, 0.0)}
        report["weight/task"] = weights[0]
        for index, (name, value) in enumerate(values.items()):
            report[f"loss/{name}"] = value.loss
            report[f"weight/{name}"] = weights[index + 1]
            if value.strength is not None:
                report[f"strength/{name}"] = value.strength
            report[f"bound_violated/{name}"] = _below(value.loss, self.bounds[name])
            report |= {f"{key}/{name}": monitor for key, monitor in value.report.items()}
        if gradients is not None:
            report |= shares(list(values), weights, gradients)
        report |= monitors(scores, self.model.settings.energy.form) | self.model.energy.report()
        if self.model.erasure is not None:
            report |= self.model.erasure.report()
        report["immax/alpha"] = self.task.alpha.clone()
        report["environment/scale"] = self.model.environment_scale.clone()
        return {name: value.detach() for name, value in report.items()}


def _competition(settings: ModelSettings, objective: ObjectiveSettings, lines: int) -> Competition | None:
    if not settings.competition.on:
        return None
    shape, walled = settings.trunk.shape, objective.walled()
    return Competition(settings.competition, walled["pull"], walled["push"], shape.width if shape else 0, lines)


def _competition_report(total: Tensor, value: TermValue, acts: bool) -> dict[str, Tensor]:
    report = {"loss/total": total + value.loss, "loss/competition": value.loss}
    report["weight/competition"] = total.new_tensor(float(acts))
    report["bound_violated/competition"] = _below(value.loss, Competition.lower_bound)
    report |= {f"{key}/competition": monitor for key, monitor in value.report.items()}
    return {name: monitor.detach() for name, monitor in report.items()}


def monitors(scores: Scores, form: str) -> dict[str, Tensor]:
    """() figures of a step's scores: temperature, gates, spread of R over episodes, logits, entries of codes in use.

    `interaction/sd` is the spread of what has no bound: w R inside the gates of the gated form, else the gates.
    """
    unbounded = torch.logit(scores.gates / 2, eps=1e-6) if form == "gated" else scores.gates
    return {
        "interaction/sd": unbounded.std(correction=0),
        "temperature": scores.temperature.mean(),
        "gate/mean": scores.gates.mean(),
        "gate/sd": scores.gates.std(correction=0),
        "resistance/sd": scores.resistance.mean(dim=1).std(dim=0, correction=0).mean(),
        "shift/sd": scores.shift.mean(dim=1).std(dim=0, correction=0),
        "logits/mean": scores.logits.mean(),
        "logits/sd_within": scores.logits.std(dim=1, correction=0).mean(),
        "neutral/mean": scores.neutral.mean(),
        "active/invariant": 1 - small_share(scores.invariant),
        "active/environment": 1 - small_share(scores.environment),
    }


def shares(names: list[str], weights: Tensor, gradients: Gradients) -> dict[str, Tensor]:
    """() weighted gradient of each term relative to the task's at its place, NaN where the task has none there.

    Beside it the cosine between the two over all places; neither for a term that touches no shared place.
    """
    ratio = weights[1:].abs() * gradients.own / (weights[0] * gradients.task)
    ratio = torch.where(gradients.task > 0, ratio, torch.full_like(ratio, torch.nan))
    lengths = gradients.gram.diagonal().sqrt().clamp(min=1e-150)
    cosine = (gradients.gram[1:, 0] / (lengths[0] * lengths[1:])).float()
    report: dict[str, Tensor] = {}
    for index, name in enumerate(names):
        if gradients.touches[index]:
            report |= {f"gradient_ratio/{name}": ratio[index], f"gradient_cosine/{name}": cosine[index]}
    return report


def _alone(x: Tensor) -> Tensor:
    return x


def _below(loss: Tensor, bound: float) -> Tensor:
    # Written so that a NaN counts as below.
    return (~(loss >= bound - BOUND_TOLERANCE)).float()
