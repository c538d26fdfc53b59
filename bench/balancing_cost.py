"""What balancing costs: steps with fixed weights and with gradnorm_ema side by side, six terms, base trunk, on the CPU.

    python bench/balancing_cost.py --out bench/results/balancing_cost.json     # some minutes on one core

Both modules have the same weights and take the same batches in turn, one step each, so drift of the machine falls on
both; time is CPU time of one thread, which other processes do not add to. The fixed weights take no measurement at all.
A sample is the ratio over one refresh cycle (`balance.every` steps). The second part takes one step and compares the
gradient of the one backward with the weighted sum of each loss's own gradient at the parameters, for every rule.
Sequences are short (1,000 bases), which makes the trunk cheap and the ratio larger than in real training.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from torch import Tensor

from data_pipeline.episodes import EpisodeBatch
from data_pipeline.errors import command_line
from model.balancing import BALANCERS, BY_VALUE
from model.episode_model import ModelSettings
from model.objective import ObjectiveSettings, TrainingModule
from model.parameters import parameter_groups

LINES, TRACKS, LENGTH, EPOCH = 6, 8, 1000, 3.0
TERMS = ("rank", "grl", "corr", "hsic", "vrex", "hcont")
"""Six terms, one of each family: ranking, adversarial, decoupling twice, risk, contrast on the support codes."""


def module(mode: str, every: int, seed: int = 0) -> TrainingModule:
    """A training module with the base trunk and `TERMS`; the same weights for every mode."""
    torch.manual_seed(seed)
    terms = {
        name: {"on": name in TERMS, "start": 0.0}
        for name in ObjectiveSettings().terms.model_dump()
        if name != "dependence"
    }
    objective = ObjectiveSettings.model_validate({"balance": {"mode": mode, "every": every}, "terms": terms})
    return TrainingModule(ModelSettings(), objective, TRACKS, 0, LINES)


def episodes(seed: int, support: int, query: int) -> EpisodeBatch:
    """Random episodes of `LINES` lines."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    pairs = support + query
    elements = LINES * pairs // 4
    letters = np.array([1, 2, 4, 8], dtype=np.uint8)

    def packed() -> Tensor:
        bases = rng.choice(letters, size=(elements, LENGTH))
        return torch.from_numpy((bases[:, ::2] << 4 | bases[:, 1::2]).astype(np.uint8))

    return EpisodeBatch(
        enhancer_packed=packed(),
        promoter_packed=packed(),
        enhancer=torch.randint(0, elements, (LINES, pairs), generator=generator),
        promoter=torch.randint(0, elements, (LINES, pairs), generator=generator),
        distance=torch.rand(LINES, pairs, generator=generator) * 1e6,
        signals=torch.randn(LINES, pairs, TRACKS, generator=generator),
        labels=(torch.rand(LINES, query, generator=generator) < 0.3).float(),
        line=torch.arange(LINES),
        line_features=torch.zeros(LINES, 0),
        rows=torch.arange(LINES * pairs).view(LINES, pairs) + seed * LINES * pairs,
        support=support,
    )


def timed_step(own: TrainingModule, optimiser: torch.optim.Optimizer, batch: EpisodeBatch, step: int) -> float:
    """CPU seconds of one training step."""
    began = time.process_time()
    optimiser.zero_grad()
    own(batch, step, EPOCH)[0].backward()
    optimiser.step()
    return time.process_time() - began


def measure_cost(cycles: int, every: int, support: int, query: int) -> dict[str, object]:
    """Ratios of step times, one per cycle of `every` steps, after a warm-up cycle."""
    # A single measurement, at step 0 of the warm-up, is all the fixed weights ever take.
    modules = [module("fixed_ramp", 10_000), module("gradnorm_ema", every)]
    optimisers = [torch.optim.AdamW(parameter_groups(own, 1e-3), lr=1e-4) for own in modules]
    seconds = np.zeros((2, (cycles + 1) * every))
    for step in range(seconds.shape[1]):
        batch = episodes(step, support, query)
        for index in (0, 1) if step % 2 else (1, 0):
            seconds[index, step] = timed_step(modules[index], optimisers[index], batch, step)
    cycle = seconds[:, every:].reshape(2, cycles, every).sum(axis=2)
    ratios = cycle[1] / cycle[0]
    _, report = modules[1](episodes(0, support, query), 0, EPOCH)
    return {
        "terms": list(TERMS),
        "pairs_per_step": LINES * (support + query),
        "every": every,
        "cycles": cycles,
        "fixed_seconds_per_step": float(np.median(cycle[0]) / every),
        "gradnorm_seconds_per_step": float(np.median(cycle[1]) / every),
        "ratio_median": float(np.median(ratios)),
        "ratio_quartiles": np.quantile(ratios, [0.25, 0.75]).tolist(),
        "ratio_of_sums": float(cycle[1].sum() / cycle[0].sum()),
        "gradient_ratios": {name: float(report[f"gradient_ratio/{name}"].detach()) for name in TERMS},
    }


def trunk_gradient(loss: Tensor, own: TrainingModule) -> Tensor:
    """Gradient of `loss` at the trunk's parameters, flat."""
    assert own.model.trunk is not None
    parameters = list(own.model.trunk.parameters())
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, found, strict=True)]
    )


def agreement(mode: str) -> float:
    """Relative difference between the step's gradient and the weighted sum of parameter-level gradients."""
    own = module(mode, 1)
    losses: dict[str, Tensor] = {}
    handles = [own.task.register_forward_hook(lambda _, __, value: losses.update(task=value))]
    for name, term in own.terms.items():
        handles.append(term.register_forward_hook(lambda _, __, value, name=name: losses.update({name: value.loss})))
    # Two steps, because banks and prototypes are empty at the first.
    own(episodes(0, 4, 8), 0, EPOCH)
    total, report = own(episodes(1, 4, 8), 1, EPOCH)
    for handle in handles:
        handle.remove()
    parts = [
        report[f"weight/{name}"] * trunk_gradient(loss, own) for name, loss in losses.items() if loss.requires_grad
    ]
    expected = torch.stack(parts).sum(dim=0)
    return float((trunk_gradient(total, own) - expected).norm() / expected.norm())


def main(
    out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    cycles: Annotated[int, typer.Option(help="Refresh cycles to time.", min=2)] = 8,
    every: Annotated[int, typer.Option(help="Steps between measurements.", min=1)] = 4,
    support: Annotated[int, typer.Option(help="Support pairs per line.", min=1)] = 8,
    query: Annotated[int, typer.Option(help="Query pairs per line.", min=2)] = 16,
) -> None:
    """Print the cost ratio with its spread, and the agreement with parameter-level gradients."""
    torch.set_num_threads(1)
    console = Console(width=120)
    cost = measure_cost(cycles, every, support, query)
    console.print(cost)
    agreements = {mode: agreement(mode) for mode in BALANCERS if mode not in BY_VALUE}
    console.print({"relative difference to parameter-level gradients": agreements})
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"cost": cost, "agreement": agreements}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    command_line(lambda: typer.run(main))
