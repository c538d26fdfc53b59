"""Steps whose loss or gradient is not finite: they teach nothing, and too many in a row end the run with their cause.

1. Before a step the module's buffers, all that a forward observes, are kept aside. 2. `engine.learn` steps the
optimiser only where loss and gradient are finite on every worker. 3. Where they are not, the buffers go back, so that
parameters, moments and observations are those of before. 4. After `train.bad_steps` such steps in a row `blame` says
what was not finite. Going back to a checkpoint would change nothing: a step is a function of its number, so it would
fail again.
Cost: a copy of the buffers per step, well below a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from data_pipeline.episodes import EpisodeBatch
from model.objective import TrainingModule
from model.terms import TermValue


class Observations:
    """What the forward of a step changes in a module beside computing a loss: its buffers."""

    def __init__(self, module: nn.Module) -> None:
        """Keeps aside nothing yet."""
        self._module = module
        self._kept: dict[str, Tensor] = {}

    def keep(self) -> None:
        """Remember the buffers as they are now."""
        self._kept = {name: buffer.detach().clone() for name, buffer in self._module.named_buffers()}

    @torch.no_grad()
    def restore(self) -> None:
        """Put back what `keep` remembered."""
        for name, buffer in self._kept.items():
            self._module.get_buffer(name).copy_(buffer)


def blame(
    module: TrainingModule,
    batch: EpisodeBatch,
    step: int,
    epoch: float,
    losses: Mapping[str, float],
    names: Sequence[str],
) -> str:
    """What of a bad step is not finite, as the subject and verb of a sentence; collective, the same on all workers.

    `module` is a copy outside the engine, in the state before the step, `batch` this worker's episodes, `losses` the
    `loss/` figures the step reported, `names` the training lines. Changes `module`.
    """
    bad = sorted(key.removeprefix("loss/") for key, value in losses.items() if not abs(value) < float("inf"))
    bad = [name for name in bad if name != "total"] or bad
    lines = _together(_bad_lines(module, batch, names))
    where = f" (the logits of {_listed('line', lines)} are not finite)" if lines else ""
    if bad:
        return f"the loss of {', '.join(bad)} is not finite{where}"
    terms = _together(_bad_gradients(module, batch, step, epoch))
    of = f" of {', '.join(terms)}" if terms else ""
    return f"the gradient{of} is not finite although every loss is{where}"


@torch.no_grad()
def _bad_lines(module: TrainingModule, batch: EpisodeBatch, names: Sequence[str]) -> set[str]:
    """Lines of this worker's episodes with a logit that is not finite."""
    module.eval()
    bad = ~module.model.logits(batch).isfinite().all(dim=1)
    return {names[int(line)] if line >= 0 else "without a name" for line in batch.line[bad]}


def _bad_gradients(module: TrainingModule, batch: EpisodeBatch, step: int, epoch: float) -> set[str]:
    """Names of the losses whose own gradient is not finite, `task` among them, as this worker sees them."""
    module.train()
    parameters = list(module.parameters())
    with _seen_losses(module) as losses:
        module(batch, step, epoch)
    bad = set()
    for name, loss in losses.items():
        if loss.requires_grad:
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            if not all(bool(own.isfinite().all()) for own in gradients if own is not None):
                bad.add(name)
    return bad


@contextmanager
def _seen_losses(module: TrainingModule) -> Iterator[dict[str, Tensor]]:
    """The losses that the module's forward computes meanwhile, by name and with their graphs."""
    seen: dict[str, Tensor] = {}
    parts: dict[str, nn.Module | None] = {"task": module.task, **module.terms, "competition": module.competition}

    def keeper(name: str) -> Callable[[nn.Module, Any, Tensor | TermValue], None]:
        def keep(_: nn.Module, __: Any, value: Tensor | TermValue) -> None:
            seen[name] = value.loss if isinstance(value, TermValue) else value

        return keep

    handles = [part.register_forward_hook(keeper(name)) for name, part in parts.items() if part is not None]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _together(own: set[str]) -> list[str]:
    """The union over all workers, sorted."""
    everyone = [own]
    if dist.is_initialized() and dist.get_world_size() > 1:
        everyone *= dist.get_world_size()
        dist.all_gather_object(everyone, own)
    return sorted(set().union(*everyone))


def _listed(noun: str, names: Sequence[str]) -> str:
    return f"{noun}{'s' * (len(names) > 1)} {', '.join(names)}"
