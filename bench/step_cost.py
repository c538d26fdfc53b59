"""The price of the system: its steps against a bare PyTorch loop over batches already in memory, side by side.

    python bench/step_cost.py --store stores/real_chr20x --test-line NHEK --valid-line IMR90 \
        --out bench/results/step_cost.json

Both train the same module (base trunk unless overridden) from the same weights. The system's step is what a run does:
the batch comes from Ray Data, DeepSpeed holds the optimiser, random numbers are seeded, alarms watch, records are
written. The bare step is forward, backward, clip, AdamW. They take turns, a few steps each, in one Ray Train worker;
a sample is the ratio of two turns' wall time, so drift of the machine falls on both. The budget is 1.03. Start-up,
validation and checkpoints are not part of it.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import ray.train
import torch
import typer
from ray.train.torch import TorchTrainer
from rich.console import Console
from tqdm import tqdm

from data_pipeline.episodes import EpisodeBatch, collate, gather, plan_steps
from data_pipeline.errors import command_line
from data_pipeline.settings import load, validate
from distributed.assembly import build_module
from distributed.cluster import join_ray, needed_cpus, on_cluster
from distributed.engine import start_process_group
from distributed.loop import Training, Worker, timed
from distributed.process_group import torch_config
from distributed.settings import RunSettings
from model.parameters import parameter_groups

IN_MEMORY = 8
"""Batches the bare loop goes round."""


class BareLoop:
    """The same module without the system."""

    def __init__(self, training: Training, settings: RunSettings) -> None:
        """Take module, plan and store from the system's side."""
        torch.manual_seed(settings.train.seed)
        self.module = build_module(training.store, training.fold, settings).train()
        groups = parameter_groups(self.module, settings.optimiser.weight_decay)
        self.optimiser = torch.optim.AdamW(groups, lr=settings.optimiser.lr)
        self.clip, self.epoch_steps = settings.optimiser.clip, training.plan.steps_per_epoch
        plan, widest = training.plan, training.plan.supports[-1]
        shape = settings.model.environment.profile.shape
        self.batches = [
            collate(
                gather(training.store, plan_steps(plan, step, step + 1, 0, 1), widest, profile=shape),
                plan.support_of(step),
            )
            for step in range(IN_MEMORY)
        ]
        self.done = 0

    def steps(self, count: int) -> None:
        """Take `count` steps."""
        for _ in range(count):
            batch: EpisodeBatch = self.batches[self.done % IN_MEMORY]
            total, _ = self.module(batch, self.done, self.done / self.epoch_steps)
            self.optimiser.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
            self.optimiser.step()
            self.done += 1


def compare(config: dict[str, Any]) -> None:
    """What the Ray Train worker does; samples go to `config["out"]`."""
    settings = validate(RunSettings, config["settings"], "settings")
    torch.set_num_threads(config["threads"])
    start_process_group(cuda=False, timeout=settings.workers.timeout)
    worker = Worker(0, 1, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as run:
        training = Training(settings, Path(config["store"]), Path(run), None, worker)
        bare = BareLoop(training, settings)
        batches = timed(training._batches(0))
        samples = []
        for turn in tqdm(range(config["turns"] + 1), desc="turns"):
            began = time.perf_counter()
            for _ in range(config["steps"]):
                training._step(*next(batches))
            middle = time.perf_counter()
            bare.steps(config["steps"])
            if turn:  # the first turn warms both up
                samples.append([middle - began, time.perf_counter() - middle])
    Path(config["out"]).write_text(json.dumps(samples), encoding="utf-8")


def main(
    store: Annotated[Path, typer.Option(help="Store to train on.")],
    test_line: Annotated[str, typer.Option(help="Test line of the fold.")],
    valid_line: Annotated[str, typer.Option(help="Validation line of the fold.")],
    out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    turns: Annotated[int, typer.Option(help="Turns to sample.", min=3)] = 12,
    steps: Annotated[int, typer.Option(help="Steps per turn.", min=1)] = 2,
    threads: Annotated[int, typer.Option(help="Threads of either side.", min=1)] = 1,
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as key.sub=value.")] = None,
) -> None:
    """Print the ratio of the system's step to the bare step, with its spread."""
    options = {"fold.test_line": test_line, "fold.valid_line": valid_line}
    settings = load(RunSettings, [], overrides or [], options)
    join_ray(needed_cpus(settings))
    with tempfile.TemporaryDirectory() as folder:
        TorchTrainer(
            compare,
            train_loop_config={
                "settings": settings.model_dump(mode="json"),
                "store": str(store.resolve()),
                "turns": turns,
                "steps": steps,
                "threads": threads,
                "out": f"{folder}/samples.json",
            },
            torch_config=torch_config(cuda=False, seconds=settings.workers.timeout, loopback=not on_cluster()),
            scaling_config=ray.train.ScalingConfig(num_workers=1),
            run_config=ray.train.RunConfig(name="step_cost", storage_path=folder),
        ).fit()
        samples = np.array(json.loads(Path(folder, "samples.json").read_text(encoding="utf-8")))
    ratios = samples[:, 0] / samples[:, 1]
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    figures = {
        "store": store.name,
        "trunk": settings.model.trunk.size,
        "turns": turns,
        "steps_per_turn": steps,
        "threads": threads,
        "system_seconds_per_step": float(np.median(samples[:, 0])) / steps,
        "bare_seconds_per_step": float(np.median(samples[:, 1])) / steps,
        "ratio_median": float(middle),
        "ratio_quartiles": [float(low), float(high)],
        "ratio_of_sums": float(samples[:, 0].sum() / samples[:, 1].sum()),
    }
    Console().print_json(data=figures)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    command_line(app)
