"""Balancers: from gradient norms at the shared representation to a weight per term (algorithms.md 5).

Each is a pair of pure functions, `init(terms) -> state` and `update(state, norms, targets, settings) -> (weights,
state)`; state is a dict of small tensors that `Balance` keeps in buffers, so it is saved and equal on every worker.
Norms are flattened Frobenius norms divided by the rows touched, measured after the gradient reversal, and come only
every few steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from data_pipeline.settings import Settings

State = dict[str, Tensor]


class BalanceSettings(Settings):
    """How loss terms are weighted against the task."""

    mode: Literal["fixed_ramp", "gradnorm_ema"] = "gradnorm_ema"
    """`fixed_ramp` uses each term's weight, `gradnorm_ema` holds each term's gradient at its ratio of the task's."""
    every: int = Field(default=4, ge=1, le=10000)
    """Steps between measurements of the gradients (weights refresh and ratios are reported then)."""
    beta: float = Field(default=0.95, ge=0.0, lt=1.0)
    """How much of the running norms a measurement keeps."""
    smallest: float = Field(default=1e-3, ge=0.0, le=1.0)
    """Lower clamp of an adaptive weight."""
    largest: float = Field(default=1e2, ge=1.0, le=1e6)
    """Upper clamp of an adaptive weight."""


@dataclass(frozen=True)
class Targets:
    """What the terms' settings ask for at this epoch."""

    weights: Tensor
    """(K,) fixed weights."""
    ratios: Tensor
    """(K,) gradient norms relative to the task's; 0 switches a term off."""


@dataclass(frozen=True)
class Balancer:
    """A rule as a pair of functions; norms (K+1,) have the task first and are None on steps without measurement."""

    init: Callable[[int], State]
    update: Callable[[State, Tensor | None, Targets, BalanceSettings], tuple[Tensor, State]]


def _fixed_init(terms: int) -> State:
    return {}


def _fixed_update(
    state: State, norms: Tensor | None, targets: Targets, settings: BalanceSettings
) -> tuple[Tensor, State]:
    return targets.weights, state


def _gradnorm_init(terms: int) -> State:
    return {"norms": torch.zeros(terms + 1)}


def _gradnorm_update(
    state: State, norms: Tensor | None, targets: Targets, settings: BalanceSettings
) -> tuple[Tensor, State]:
    """lambda_k = r_k EMA|G_0| / EMA|G_k|, clamped; a norm of zero (a degenerate batch) is not taken in."""
    average = state["norms"]
    if norms is not None:
        mixed = torch.where(average > 0, settings.beta * average + (1 - settings.beta) * norms, norms)
        average = torch.where(norms > 0, mixed, average)
    weights = targets.ratios * average[0] / average[1:].clamp(min=torch.finfo(average.dtype).tiny)
    clamped = weights.clamp(settings.smallest, settings.largest)
    # A term never measured has no scale yet; a term not asked for stays out.
    return torch.where((targets.ratios > 0) & (average[1:] > 0), clamped, torch.zeros_like(clamped)), {"norms": average}


BALANCERS: dict[str, Balancer] = {
    "fixed_ramp": Balancer(_fixed_init, _fixed_update),
    "gradnorm_ema": Balancer(_gradnorm_init, _gradnorm_update),
}


class Balance(nn.Module):
    """A balancer and its state."""

    def __init__(self, settings: BalanceSettings, terms: int) -> None:
        """`terms` = K, the number of loss terms beside the task."""
        super().__init__()
        self.settings, self.rule = settings, BALANCERS[settings.mode]
        self.names = sorted(initial := self.rule.init(terms))
        for name in self.names:
            self.register_buffer(name, initial[name])

    def measures(self, step: int) -> bool:
        """Whether gradients are measured at this global step."""
        return step % self.settings.every == 0

    @torch.no_grad()
    def forward(self, norms: Tensor | None, targets: Targets) -> Tensor:
        """Weights (K,) for this step from norms (K+1,), task first, or None; in training mode the state moves on."""
        weights, state = self.rule.update(
            {name: self.get_buffer(name) for name in self.names}, norms, targets, self.settings
        )
        if self.training:
            for name in self.names:
                self.get_buffer(name).copy_(state[name])
        return weights


def gradient_norms(losses: Sequence[Tensor], representation: Tensor) -> Tensor:
    """(K,) norms of the gradients of `losses` at `representation` (..., d): Frobenius over rows touched.

    The graph is kept; one pass through the heads per loss, none through what made the representation.
    """
    return torch.stack([_gradient_norm(loss, representation) for loss in losses])


def _gradient_norm(loss: Tensor, representation: Tensor) -> Tensor:
    if not loss.requires_grad:
        return torch.zeros((), device=representation.device)
    (gradient,) = torch.autograd.grad(loss, representation, retain_graph=True, allow_unused=True)
    if gradient is None:
        return torch.zeros((), device=representation.device)
    gradient = gradient.float().flatten(0, -2)
    rows = (gradient != 0).any(dim=1).sum().clamp(min=1)
    return gradient.norm() / rows
