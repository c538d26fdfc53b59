"""Balancers that look at gradients at the shared representation (algorithms.md 5).

Each turns measured norms, or the Gram matrix of all losses' gradients, into coefficients of the losses, so that one
ordinary backward does the rest and every ZeRO stage can be used. The task's coefficient is 1 in all of them (and 1 plus
what protects it in pcgrad_protect): a rule decides the direction of the update, the task its size.
Between measurements the last coefficients hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model.balancing.measuring import Gradients
from model.balancing.rule import Balancer, Seen, State, Targets, with_task

if TYPE_CHECKING:
    from model.balancing.settings import BalanceSettings

SLACK = 1.2
"""Factor by which the memory of gradnorm_ema may keep a ratio from the one just measured."""
RANK_TOLERANCE = 1e-10
"""Eigenvalues of a Gram matrix below this share of its largest are rounding."""


def _fixed_init(terms: int) -> State:
    return {}


def _fixed_update(state: State, seen: Seen, targets: Targets, settings: BalanceSettings) -> tuple[Tensor, State]:
    return with_task(targets.weights * targets.factors), state


def _gradnorm_init(terms: int) -> State:
    return {"own": torch.zeros(terms), "task": torch.zeros(terms), "untouched": torch.zeros(terms)}


def _gradnorm_update(state: State, seen: Seen, targets: Targets, settings: BalanceSettings) -> tuple[Tensor, State]:
    """lambda_k = r_k EMA|G_0| / EMA|G_k|, within a factor `SLACK` of r_k |G_0| / |G_k| as last measured, then clamped.

    The running norms take the noise out of a measurement; the factor bounds what their memory can cost: right after a
    measurement a term's gradient is between 1/SLACK and SLACK times its ratio of the task's, however its norm or the
    task's has moved. A norm of zero (a degenerate batch, an adversary at chance) or that is no number is not taken in.
    A term that touches no shared place has no norm to hold at a ratio and gets its fixed weight.
    """
    if seen.gradients is not None:
        state = _remembered(state, seen.gradients, settings.beta)
    own = state["own"]
    weights = targets.ratios * state["task"] / own.clamp(min=torch.finfo(own.dtype).tiny)
    clamped = weights.clamp(settings.smallest, settings.largest)
    # A term never measured has no scale yet; a term not asked for stays out.
    weights = torch.where((targets.ratios > 0) & (own > 0), clamped, torch.zeros_like(clamped))
    return with_task(targets.factors * torch.where(state["untouched"] > 0, targets.weights, weights)), state


def _remembered(state: State, found: Gradients, beta: float) -> State:
    """The running norms after a measurement; where both norms are known, their ratio stays near the one measured."""
    own, task = _mix(state["own"], found.own, beta), _mix(state["task"], found.task, beta)
    both = _known(found.own) & _known(found.task)
    measured = found.task / torch.where(both, found.own, torch.ones_like(own))
    # In the memory, not in the coefficient: once the norms stand still again it is right at once.
    near = (task / own).clamp(measured / SLACK, measured * SLACK)
    return {
        "own": torch.where(both, task / near, own),
        "task": task,
        "untouched": own.new_tensor([not touches for touches in found.touches]),
    }


def _mix(average: Tensor, norms: Tensor, beta: float) -> Tensor:
    mixed = torch.where(average > 0, beta * average + (1 - beta) * norms, norms)
    return torch.where(_known(norms), mixed, average)


def _known(norms: Tensor) -> Tensor:
    return (norms > 0) & norms.isfinite()


def _protect_init(terms: int) -> State:
    return {"conflict": torch.zeros(terms)}


def _protect_update(state: State, seen: Seen, targets: Targets, settings: BalanceSettings) -> tuple[Tensor, State]:
    """G_k - min(0, <G_k, G_0>) / |G_0|^2 G_0 for k >= 1, written as a larger coefficient of the task.

    On a step that was measured no term raises the task loss to first order in the representation.
    """
    conflict = state["conflict"]
    if seen.gradients is not None:
        gram = seen.gradients.gram
        tiny = torch.finfo(torch.float32).tiny
        found = (-gram[1:, 0] / gram[0, 0].clamp(min=tiny)).clamp(0.0, settings.largest).to(conflict)
        conflict = torch.where(gram.isfinite().all(), found, conflict)
    weights = targets.weights * targets.factors
    coefficients = with_task(weights)
    coefficients[0] += (weights * conflict).sum()
    return coefficients, {"conflict": conflict}


def _solved_init(terms: int) -> State:
    return {"relative": torch.zeros(terms)}


def _imtl_update(state: State, seen: Seen, targets: Targets, settings: BalanceSettings) -> tuple[Tensor, State]:
    """Equal projections of the sum on every unit gradient; a term's weight above 0 only says that it takes part."""
    return _solved(state, seen, targets, settings, lambda gram, weights: equal_projections(gram))


def _aligned_update(state: State, seen: Seen, targets: Targets, settings: BalanceSettings) -> tuple[Tensor, State]:
    """The terms' weights in the aligned basis."""
    return _solved(state, seen, targets, settings, lambda gram, weights: alignment(gram) @ weights)


def _solved(
    state: State, seen: Seen, targets: Targets, settings: BalanceSettings, solve: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, State]:
    """Coefficients `solve(gram, weights)` of the losses that take part, divided by the task's.

    A measurement in which the task would not be descended (no gradient, or a coefficient not above 0), or with a number
    that is not finite, is left out; so is a term whose own gradient is 0, which keeps its last coefficient.
    """
    relative = state["relative"]
    if seen.gradients is not None:
        # On the host: a few numbers, solved in float64 the same way on every worker.
        gram, weights = seen.gradients.gram.cpu(), with_task(targets.weights).double().cpu()
        part = ((weights > 0) & (gram.diagonal() > 0)).nonzero().squeeze(1)
        if len(part) and part[0] == 0 and gram.isfinite().all():
            found = solve(gram[part][:, part], weights[part])
            if found[0] > 0:
                solved = with_task(relative).double().cpu().scatter(0, part, found / found[0])
                relative = solved[1:].clamp(-settings.largest, settings.largest).to(relative)
    active = torch.where(targets.weights > 0, relative * targets.factors, torch.zeros_like(relative))
    return with_task(active), {"relative": relative}


def equal_projections(gram: Tensor) -> Tensor:
    """(n,) coefficients a whose sum of gradients has projection 1 on each unit gradient (IMTL-G up to its length)."""
    norms = gram.diagonal().sqrt()
    return torch.linalg.pinv(gram / norms.outer(norms), hermitian=True).sum(dim=1) / norms


def alignment(gram: Tensor) -> Tensor:
    """(n, n) B = sigma_min V S^(-1/2) V^T: the gradients B G have all singular values sigma_min (Aligned-MTL).

    Gradients that depend on each other leave the rank of `gram`, not its rounding.
    """
    values, vectors = torch.linalg.eigh(gram)
    kept = values > RANK_TOLERANCE * values[-1]
    scale = torch.where(kept, values, torch.inf).rsqrt()
    return values[kept][0].sqrt() * (vectors * scale) @ vectors.T


FIXED_RAMP = Balancer("uses each term's weight", _fixed_init, _fixed_update)
GRADNORM_EMA = Balancer(
    "holds each term's gradient at its ratio of the task's",
    _gradnorm_init,
    _gradnorm_update,
    ("ratio",),
    settings=("every", "beta", "smallest", "largest"),
)
PCGRAD_PROTECT = Balancer(
    "is fixed_ramp with what opposes the task taken out of every term's gradient",
    _protect_init,
    _protect_update,
    settings=("every", "largest"),
)
IMTL_G_REP = Balancer(
    "gives all gradients the same projection on their sum; a weight above 0 takes part, whatever it is",
    _solved_init,
    _imtl_update,
    reads=(),
    settings=("every", "largest"),
)
ALIGNED = Balancer(
    "makes the gradients orthogonal and equally long", _solved_init, _aligned_update, settings=("every", "largest")
)
