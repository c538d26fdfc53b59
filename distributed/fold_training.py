"""Train one fold: Ray Train workers, DeepSpeed, resumable at any step (the work of distributed/train.py)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ray.train
from ray.exceptions import RayActorError
from ray.train import WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer
from tqdm import tqdm

from data_pipeline.errors import UserError
from data_pipeline.folds import Fold, resolve_fold
from data_pipeline.plan import Plan
from data_pipeline.store import Store, read_manifest
from distributed.assembly import build_module, total_steps, validation_rows
from distributed.checkpoint import (
    Identity,
    TrainingState,
    checkpoints,
    set_aside_damaged,
)
from distributed.cluster import join_ray, needed_cpus, resolve_device
from distributed.records import Progress
from distributed.runs import check_claim, claim, held
from distributed.settings import RunSettings


def train(settings: RunSettings, store_path: Path, runs: Path, name: str, resume: bool = False) -> Path:
    """Train run `name` on the store and return its folder; raises `UserError` before anything is started.

    Joins the Ray cluster that is there, or starts a local one.
    """
    store = open_verified(store_path)
    fold = resolve_fold(store, settings.fold)
    plan = Plan(store, fold, settings.episodes, settings.train.seed)
    plan.slots(0, settings.workers.count)
    check_model(store, fold, settings)
    check_claim(runs, name, resume, store.path, store.checksum, settings)
    join_ray(needed_cpus(settings))
    device = resolve_device(settings)
    run = claim(runs, name, resume, store.path, store.checksum, settings)
    with held(run):
        state = _position(run, Identity(store=store.checksum, fold=fold.identity, plan=plan.identity))
        if state is None or not state.finished:
            with Progress(run, total_steps(plan, settings), state.step if state else 0):
                fit(settings, store.path, run, device)
    return run


def check_model(store: Store, fold: Fold, settings: RunSettings) -> None:
    """Find what would fail in the workers while nothing is started."""
    if not (store.pairs.label[validation_rows(store, fold, settings.scoring.valid_pairs)] == 1).any():
        raise UserError(
            f"validation line '{fold.valid_line}' has no interacting pair in its zone; choose another line or other "
            "fold.valid_regions"
        )
    module = build_module(store, fold, settings)
    if module.model.trunk is not None and 0 in (store.enhancers.length, store.promoters.length):
        raise UserError(
            f"store {store.path} has no sequences; set model.trunk.size=none to train on signals and distance"
        )


def _position(run: Path, identity: Identity) -> TrainingState | None:
    """Where the latest whole checkpoint of `run` stands; newer ones that are damaged are set aside."""
    damaged = set_aside_damaged(run)
    found = checkpoints(run)
    state = found[-1][1] if found else None
    if damaged:
        names = ", ".join(folder.name.removeprefix("damaged_") for folder in damaged)
        print(
            f"warning: {names} of run {run} cannot be read and is now called damaged_*; "
            f"going on from step {state.step if state else 0}",
            file=sys.stderr,
        )
    if state and state.identity != identity:
        raise UserError(
            f"run {run} was planned by another version of the program (its folds or episodes differ); resume it with "
            "the version in its run.json or choose another --name"
        )
    return state


def open_verified(path: Path) -> Store:
    """Open a store after checking every file's sha256, with a progress bar."""
    sizes = read_manifest(path).files.values()
    total = sum(x.bytes for x in sizes)
    # disable=None: only on a terminal.
    with tqdm(total=total, unit="B", unit_scale=True, desc="verify store", leave=False, disable=None) as bar:
        return Store.open(path.resolve(), verify="full", progress=bar.update)


def _work(config: dict[str, Any]) -> None:
    # The driver needs no DeepSpeed: importing it takes seconds and prints what it found.
    from distributed.loop import train_worker

    train_worker(config)


def fit(settings: RunSettings, store: Path, run: Path, device: str) -> None:
    """Run Ray Train on the claimed folder `run` until training ends there, from its latest checkpoint if it has one."""
    cuda = device == "cuda"
    resources = {"CPU": settings.workers.cpus} | ({"GPU": 1.0} if cuda else {})
    trainer = TorchTrainer(
        _work,
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
            name="ray",
            storage_path=str(run.resolve()),
            failure_config=ray.train.FailureConfig(max_failures=settings.train.max_failures),
        ),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        raise _sentence(error, run, settings.train.max_failures) or error from error


def _sentence(error: WorkerGroupError, run: Path, max_failures: int) -> UserError | None:
    """What the user can mend of a failure in the workers; None for a defect, which keeps its traceback."""
    failures = error.worker_failures
    for failure in failures.values():
        if isinstance(failure, UserError):
            return failure
    # Ray Train wraps the death of a worker's process in an error of its own that is not public.
    causes = {rank: getattr(failure, "health_check_failure", failure) for rank, failure in failures.items()}
    lost = [rank for rank, cause in causes.items() if isinstance(cause, RayActorError)]
    if lost:
        return UserError(
            f"worker {lost[0]} of run {run} was lost, for example killed for lack of memory, and train.max_failures="
            f"{max_failures} is used up; its checkpoints are whole: mend the cause and continue with --resume"
        )
    return None
