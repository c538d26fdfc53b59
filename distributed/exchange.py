"""Every worker's episodes on every worker, in plan order, with gradients.

The model computes everything after the shared representation on the whole step, identically on all workers, so a
step's loss does not depend on how many there are. The backward of `gather_episodes` hands each worker W times its own
slice of the gradient: the engine averages over W, and the sum over workers is what one worker would have computed. It
needs no communication.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_episodes(local: Tensor) -> Tensor:
    """(E, ...) on each of W workers -> (E*W, ...) on all; episode e of worker r becomes number e*W + r.

    That is the order of `Plan.slots`. Gradients flow to the local slice.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return local
    gathered: Tensor = _Gather.apply(local)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, local: Tensor) -> Tensor:
        world, context.rank = dist.get_world_size(), dist.get_rank()
        context.world = world
        parts = [torch.empty_like(local) for _ in range(world)]
        dist.all_gather(parts, local.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient[context.rank :: context.world] * context.world
