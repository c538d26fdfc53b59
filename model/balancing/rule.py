"""What a balancer is: its settings, what it is told at a step, and the pair of pure functions (algorithms.md 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from data_pipeline.settings import Settings
from model.balancing.measuring import Gradients

State = dict[str, Tensor]
"""Small tensors that `Balance` keeps in buffers."""


class BalanceSettings(Settings):
    """How loss terms are weighted against the task."""

    mode: Literal["fixed_ramp", "gradnorm_ema", "pcgrad_protect", "imtl_g_rep", "aligned", "uw", "dwa", "relobralo"] = (
        "gradnorm_ema"
    )
    """`fixed_ramp` uses each term's weight, `gradnorm_ema` holds each term's gradient at its ratio of the task's,
    `pcgrad_protect` is fixed_ramp with what opposes the task taken out of every term's gradient, `imtl_g_rep` gives all
    gradients the same projection on their sum, `aligned` makes them orthogonal and equally long; `uw`, `dwa` and
    `relobralo` look at the losses' values and take only terms whose value stays above zero (ranking)."""
    every: int = Field(default=4, ge=1, le=10000)
    """Steps between measurements of the gradients (weights refresh and ratios are reported then)."""
    beta: float = Field(default=0.95, ge=0.0, lt=1.0)
    """How much of the running norms a measurement keeps (gradnorm_ema), as long as that leaves every ratio within a
    factor 1.2 of the one just measured."""
    smallest: float = Field(default=1e-5, ge=0.0, le=1.0)
    """Lower clamp of an adaptive weight (gradnorm_ema)."""
    largest: float = Field(default=1e3, ge=1.0, le=1e6)
    """Upper clamp of an adaptive weight, relative to the task's."""
    uw_rate: float = Field(default=0.025, gt=0.0, le=1.0)
    """Step size of uw's log variances."""
    dwa_temperature: float = Field(default=2.0, gt=0.0, le=100.0)
    """How evenly dwa spreads its weights."""
    relobralo_temperature: float = Field(default=0.1, gt=0.0, le=100.0)
    """How evenly relobralo spreads its weights."""
    relobralo_memory: float = Field(default=0.999, ge=0.0, lt=1.0)
    """How much of its weights relobralo keeps at a step."""
    relobralo_recent: float = Field(default=0.999, ge=0.0, le=1.0)
    """Share of steps at which relobralo goes on from its last weights; at the others it looks back to the start."""


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
    """A rule as a pair of functions."""

    init: Callable[[int], State]
    """K -> the state at the start."""
    update: Callable[[State, Seen, Targets, BalanceSettings], tuple[Tensor, State]]
    """Coefficients (K+1,) of the task and the terms for this step, and the state after it."""


def with_task(weights: Tensor) -> Tensor:
    """Coefficients (K+1,) from weights (K,) beside a task of weight 1."""
    return torch.cat([weights.new_ones(1), weights])
