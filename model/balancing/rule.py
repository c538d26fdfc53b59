"""What a balancer is: what it is told at a step, and the pair of pure functions it consists of (algorithms.md 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from model.balancing.measuring import Gradients

if TYPE_CHECKING:
    from model.balancing.settings import BalanceSettings

Strength = Literal["weight", "ramp", "cap", "ratio"]
"""Fields of every term that say how strong it is."""

State = dict[str, Tensor]
"""Small tensors that `Balance` keeps in buffers."""


@dataclass(frozen=True)
class Targets:
    """What the terms' settings ask for at this epoch; 0 switches a term off."""

    weights: Tensor
    """(K,) fixed weights."""
    ratios: Tensor
    """(K,) gradient norms relative to the task's."""
    factors: Tensor
    """(K,) by which every rule multiplies what it gives a term: the term's own ramp times what responses ask for. Not
    part of the weights, because a rule that solves for its coefficients would undo it."""


@dataclass(frozen=True)
class Seen:
    """What a step showed."""

    values: Tensor
    """(K+1,) detached losses, task first."""
    epoch: float
    """Fractional epoch."""
    gradients: Gradients | None
    """None on steps without measurement."""


@dataclass(frozen=True)
class Balancer:
    """A rule as a pair of functions, and what it declares."""

    summary: str
    """What it does, after its name in a sentence."""

    init: Callable[[int], State]
    """K -> the state at the start."""
    update: Callable[[State, Seen, Targets, BalanceSettings], tuple[Tensor, State]]
    """Coefficients (K+1,) of the task and the terms for this step, and the state after it."""
    reads: tuple[Strength, ...] = ("weight", "ramp", "cap")
    """The fields of a term that have a say under it; a weight of 0 switches a term off in all rules."""
    settings: tuple[str, ...] = ()
    """The fields of `BalanceSettings` beside `mode` that it reads; what measures gradients also reads `every`."""
    by_value: bool = False
    """Whether it looks at the values of the losses, and so takes only terms whose value stays above zero."""


def with_task(weights: Tensor) -> Tensor:
    """Coefficients (K+1,) from weights (K,) beside a task of weight 1."""
    return torch.cat([weights.new_ones(1), weights])
