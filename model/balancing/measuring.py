"""Gradients of the losses where all heads read from: the measurement every balancer works on (algorithms.md 5).

The shared places are the pair features h, and the codes of the support pairs for terms that never reach h (a contrast
on e, a prototype loss): each term is compared with the task at the first place it touches. No place may lie behind
another, or what comes through both would count twice. Norms are flattened Frobenius norms, because a sum over the batch
would lose centred losses; they are compared at one place only, so nothing is divided by the rows each loss touches. The
Gram matrix is that of the flattened gradients over all places together, in float64.
Cost: one pass through the heads per loss, none through what made the places; the graph is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gradients:
    """What was measured at the shared places of one step; K terms beside the task."""

    gram: Tensor
    """(K+1, K+1) float64 inner products of the flattened gradients, task first."""
    own: Tensor
    """(K,) norm of each term's gradient at its place; 0 where it touches none."""
    task: Tensor
    """(K,) norm of the task's gradient at that place."""
    touches: tuple[bool, ...]
    """(K,) whether the term's graph reaches a place that the task's reaches too; the same at every step."""


def measure(losses: Sequence[Tensor], places: Sequence[Tensor]) -> Gradients:
    """Gradients of `losses` (task first, each ()) at `places` (each (..., d)), of which h is the first."""
    parts = [_gradients(loss, places) for loss in losses]
    home = [_shared(own, parts[0]) for own in parts[1:]]
    zero = torch.zeros((), device=places[0].device)
    norms = [[zero if part is None else part.norm() for part in own] for own in parts]
    pairs = list(zip(norms[1:], home, strict=True))
    flat = torch.stack([_flat(own, places) for own in parts]).double()
    return Gradients(
        gram=flat @ flat.T,
        own=_stack([zero if at is None else own[at] for own, at in pairs], zero),
        task=_stack([zero if at is None else norms[0][at] for _, at in pairs], zero),
        touches=tuple(at is not None for at in home),
    )


def length_ratio(loss: Tensor, task: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """() length of the gradient of `loss` at `parameters` over that of `task`'s; NaN where the task has none."""
    own, main = (_flat(_gradients(each, parameters), list(parameters)).norm() for each in (loss, task))
    return torch.where(main > 0, own / main, torch.full_like(main, torch.nan))


def _shared(own: list[Tensor | None], task: list[Tensor | None]) -> int | None:
    """The first place that both graphs reach."""
    both = (index for index, parts in enumerate(zip(own, task, strict=True)) if all(part is not None for part in parts))
    return next(both, None)


def _gradients(loss: Tensor, places: Sequence[Tensor]) -> list[Tensor | None]:
    if not loss.requires_grad:
        return [None] * len(places)
    found = torch.autograd.grad(loss, places, retain_graph=True, allow_unused=True)
    return [None if part is None else part.float() for part in found]


def _flat(parts: list[Tensor | None], places: Sequence[Tensor]) -> Tensor:
    filled = [torch.zeros_like(at) if part is None else part for part, at in zip(parts, places, strict=True)]
    return torch.cat([part.flatten().float() for part in filled])


def _stack(norms: list[Tensor], zero: Tensor) -> Tensor:
    return torch.stack(norms) if norms else zero.new_zeros(0)
