"""Several workers in one process: what each would hand to `gather`, and a gather that answers with everyone's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from data_pipeline.batch import EpisodeBatch
from model.objective import TrainingModule


def part(batch: EpisodeBatch, worker: int, workers: int) -> EpisodeBatch:
    """Every `workers`-th episode of the batch, as the plan deals them."""
    per_episode = ("enhancer", "promoter", "distance", "signals", "labels", "line", "line_features", "rows")
    return replace(batch, **{name: getattr(batch, name)[worker::workers] for name in per_episode})


class _OwnSlice(torch.autograd.Function):
    """All workers' tensors, of which one's own has a gradient, times the number of workers."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, others: list[Tensor], worker: int) -> Tensor:
        ctx.worker, ctx.workers, ctx.size = worker, len(others), len(own)
        return torch.cat([own if index == worker else other for index, other in enumerate(others)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        start = ctx.worker * ctx.size
        return ctx.workers * gradients[0][start : start + ctx.size], None, None


def exchange(seen: list[list[Tensor]], worker: int) -> Callable[[Tensor], Tensor]:
    """A gather that answers call i with every worker's tensor of call i."""
    calls = iter(zip(*seen, strict=True))
    return lambda own: _OwnSlice.apply(own, [tensor.detach() for tensor in next(calls)], worker)


def sent(module: TrainingModule, batch: EpisodeBatch, step: int) -> list[Tensor]:
    """What a worker hands to gather in one forward; the module's state is left as it was."""
    state = {name: value.clone() for name, value in module.state_dict().items()}
    tensors: list[Tensor] = []
    module.gather = lambda own: tensors.append(own) or own  # type: ignore[func-returns-value]
    module(batch, step=step, epoch=4.0)
    module.load_state_dict(state)
    return tensors
