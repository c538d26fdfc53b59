"""Would several trials train faster in one process, stacked over the same batches? An upper bound, measured.

    python bench/stacked_trials.py --out bench/results/stacked_trials.json

Where trials differ in loss weights only, their parameters could be stacked and one step (torch.func.vmap over
stack_module_state) could stand for K steps. What can be gained at most is seen on the part of a step that takes most
of it and stacks best, the trunk with its gradient; everything else of a step (terms with memories and data-dependent
choices, gradients per term, records, validation) stacks worse or not at all. Timed are K trunks one after the other and
the K stacked, on the same batch, in turns; the ratio is the bound. It has to be above 3 to be worth a second road
to the same numbers.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from data_pipeline.episodes import Plan, collate, gather, plan_steps, resolve_fold
from data_pipeline.errors import command_line
from data_pipeline.settings import load
from data_pipeline.simulator import SimulatorSettings, simulate
from data_pipeline.store import Store
from distributed.assembly import build_module
from distributed.settings import RunSettings

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


class Trunk(torch.nn.Module):
    """The trunk as one function of a batch: a number whose gradient passes through all of it."""

    def __init__(self, trunk: Any) -> None:
        """Around the trunk of a module."""
        super().__init__()
        self.trunk = trunk

    def forward(self, enhancers: Tensor, promoters: Tensor, enhancer: Tensor, promoter: Tensor) -> Tensor:
        """() mean square of the pair features."""
        encoded = self.trunk.encode("enhancer", enhancers), self.trunk.encode("promoter", promoters)
        features: Tensor = self.trunk.pair_features(*encoded, enhancer.flatten(), promoter.flatten())
        return features.square().mean()


def timed(work: Any, turns: int) -> list[float]:
    """Seconds of each of `turns` calls."""
    taken = []
    for _ in range(turns):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return taken


def compare(trunks: list[Trunk], batch: tuple[Tensor, ...], turns: int) -> tuple[float, float, float]:
    """Median seconds of all trunks one by one and stacked, and the largest difference of a gradient, relative."""
    parameters, _ = stack_module_state(trunks)  # buffers are constants

    def loss(own: dict[str, Tensor]) -> Tensor:
        found: Tensor = functional_call(trunks[0], own, batch)
        return found

    stacked = vmap(grad(loss), randomness="different")

    def one_by_one() -> None:
        for trunk in trunks:
            trunk.zero_grad(set_to_none=True)
            trunk(*batch).backward()

    one_by_one()
    gradients = stacked(parameters)
    apart = max(
        float((gradients[name][at].detach() - own.grad).abs().max() / own.grad.abs().max().clamp(min=1e-12))
        for at, trunk in enumerate(trunks)
        for name, own in trunk.named_parameters()
        if own.grad is not None
    )
    single = np.median([t for _ in range(3) for t in timed(one_by_one, turns)])
    together = np.median([t for _ in range(3) for t in timed(lambda: stacked(parameters), turns)])
    return float(single), float(together), apart


def main(
    out: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
    turns: Annotated[int, typer.Option(help="Calls per turn.", min=1)] = 10,
) -> None:
    """Time stacked trunks against one after the other, for several numbers of trials."""
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory(prefix="stacked-") as folder:
        simulate(load(SimulatorSettings, [CONFIGS / "simulate/search.yaml"]), Path(folder) / "store")
        store = Store.open(Path(folder) / "store")
        settings = load(RunSettings, [CONFIGS / "train/search.yaml"], ["fold.valid_line=sim1"])
        fold = resolve_fold(store, settings.fold)
        plan = Plan(store, fold, settings.episodes, 0)
        whole = collate(gather(store, plan_steps(plan, 0, 1, 0, 1), max(plan.supports)), plan.support_of(0))
        batch = (whole.enhancer_packed, whole.promoter_packed, whole.enhancer, whole.promoter)
        for count in (2, 4, 8):
            trunks = []
            for seed in range(count):
                torch.manual_seed(seed)
                trunks.append(Trunk(build_module(store, fold, settings).model.trunk))
            single, together, apart = compare(trunks, batch, turns)
            rows.append({"trials": count, "one_by_one": single, "stacked": together, "gain": single / together,
                         "apart": apart})  # fmt: skip
    table = Table("trials", "one by one, ms", "stacked, ms", "gain", "largest relative difference")
    for row in rows:
        table.add_row(str(row["trials"]), f"{1e3 * row['one_by_one']:.1f}", f"{1e3 * row['stacked']:.1f}",
                      f"{row['gain']:.2f}", f"{row['apart']:.1e}")  # fmt: skip
    Console().print(table)
    if out is not None:
        out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    command_line(app)
