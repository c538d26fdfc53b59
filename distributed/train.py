"""Train one fold: Ray Train workers, DeepSpeed, resumable at any step.

    python distributed/train.py --store stores/simulated --test-line L7 --valid-line L6 --workers 2 optimiser.lr=5e-4

Run it again with --resume after a crash: it goes on with the next episode, on another number of workers if you like.
"""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Annotated

import ray
import ray.train
import typer
from ray.train.torch import TorchConfig, TorchTrainer
from rich.console import Console
from tqdm import tqdm

from data_pipeline.errors import UserError, command_line
from data_pipeline.folds import resolve_fold
from data_pipeline.plan import Plan
from data_pipeline.settings import load
from data_pipeline.store import Store, read_manifest
from distributed.checkpoint import best_checkpoint, checkpoints, read_state
from distributed.cluster import join_ray, needed_cpus, resolve_device
from distributed.loop import total_steps, train_worker, validation_rows
from distributed.records import Progress
from distributed.runs import claim
from distributed.settings import RunSettings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def train(settings: RunSettings, store_path: Path, runs: Path, name: str, resume: bool = False) -> Path:
    """Train run `name` on the store and return its folder; raises `UserError` before anything is started.

    Joins the Ray cluster that is there, or starts a local one.
    """
    store = open_verified(store_path)
    fold = resolve_fold(store, settings.fold)
    plan = Plan(store, fold, settings.episodes, settings.train.seed)
    plan.slots(0, settings.workers.count)
    if not (store.pairs.label[validation_rows(store, fold, settings.scoring.valid_pairs)] == 1).any():
        raise UserError(
            f"validation line '{fold.valid_line}' has no interacting pair in its zone; choose another line or other "
            "fold.valid_regions"
        )
    join_ray(needed_cpus(settings))
    device = resolve_device(settings)
    run = claim(runs, name, resume, store.path, store.checksum, settings)
    done = checkpoints(run)
    if resume and done and done[-1][1].finished:
        return run
    steps = total_steps(plan, settings)
    with Progress(run, steps, done[-1][1].step if done else 0):
        _fit(settings, store.path, run, device)
    return run


def open_verified(path: Path) -> Store:
    """Open a store after checking every file's sha256, with a progress bar."""
    sizes = read_manifest(path).files.values()
    with tqdm(total=sum(x.bytes for x in sizes), unit="B", unit_scale=True, desc="verify store", leave=False) as bar:
        return Store.open(path.resolve(), verify="full", progress=bar.update)


def _fit(settings: RunSettings, store: Path, run: Path, device: str) -> None:
    cuda = device == "cuda"
    resources = {"CPU": settings.workers.cpus} | ({"GPU": 1.0} if cuda else {})
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={
            "settings": settings.model_dump(mode="json"),
            "store": str(store),
            "run": str(run.resolve()),
            "device": device,
        },
        torch_config=TorchConfig(backend="nccl" if cuda else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=settings.workers.count,
            use_gpu=cuda,
            resources_per_worker=resources,
            placement_strategy=settings.workers.placement,
        ),
        run_config=ray.train.RunConfig(
            name=run.name,
            storage_path=str(run.parent.resolve()),
            failure_config=ray.train.FailureConfig(max_failures=settings.train.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=settings.train.keep_best, checkpoint_score_attribute="score"
            ),
        ),
    )
    trainer.fit()


@app.command()
def main(
    store: Annotated[Path, typer.Option(help="Store to train on.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as key.sub=value.")] = None,
    test_line: Annotated[str, typer.Option(help="Line whose labels only the final report may see.")] = "",
    valid_line: Annotated[str, typer.Option(help="Line for early stopping and thresholds.")] = "",
    workers: Annotated[int, typer.Option(help="Training workers; 0: as the settings say.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the run; default: test line and time.")] = "",
    runs: Annotated[Path, typer.Option(help="Folder of runs; on a cluster one that all hosts see.")] = Path("runs"),
    config: Annotated[list[Path] | None, typer.Option(help="YAML presets, later ones win.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
) -> None:
    """Train one fold and print where its best checkpoint is."""
    options = [f"fold.test_line={test_line}"] * bool(test_line) + [f"fold.valid_line={valid_line}"] * bool(valid_line)
    options += [f"workers.count={workers}"] * bool(workers)
    settings = load(RunSettings, config or [], options + list(overrides or []))
    if resume and not name:
        raise UserError("--resume needs the --name of the run to continue")
    name = name or f"{settings.fold.test_line}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    run = train(settings, store, runs, name, resume)
    best = best_checkpoint(run)
    state = read_state(best)
    console = Console()
    console.print(f"run        {run}")
    console.print(
        f"best       {best.name}, validation average precision {state.score:.4f} on {settings.fold.valid_line}"
    )
    console.print(f"evaluate   python distributed/evaluate.py --run {run}")
    sys.stdout.flush()


if __name__ == "__main__":
    command_line(app)
