"""Train one fold: Ray Train workers, DeepSpeed, resumable at any step (the work of distributed/train.py)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from data_pipeline.episodes import Fold, Plan, resolve_fold
from data_pipeline.errors import UserError
from data_pipeline.store import Store, read_manifest
from distributed.assembly import build_module, total_steps, validation_rows
from distributed.cluster import Device, join_ray, needed_cpus, require_room, resolve_device
from distributed.run_folder import (
    Identity,
    Progress,
    TrainingState,
    check_claim,
    checkpoints,
    claim,
    continued,
    held,
    record_device,
    set_aside_damaged,
)
from distributed.settings import RunSettings


def train(
    settings: RunSettings,
    store_path: Path,
    runs: Path,
    name: str,
    resume: bool = False,
    by: Callable[[RunSettings, Path, Path, Device], None] | None = None,
) -> Path:
    """Train run `name` on the store and return its folder; raises `UserError` before anything is started.

    Joins the Ray cluster that is there, or starts a local one. `by` trains in place of workers of the run's own, as
    `Crew.fit` does with workers that stay.
    """
    store = open_verified(store_path)
    fold = resolve_fold(store, settings.fold)
    plan = Plan(store, fold, settings.episodes, settings.train.seed)
    plan.slots(0, settings.workers.count)
    check_model(store, fold, settings)
    check_claim(runs, name, resume, store.path, store.checksum, settings)
    join_ray(needed_cpus(settings))
    device = resolve_device(settings)
    if by is None:  # workers that stay have their places
        require_room(settings, device)
    # Only now, because Ray Train reads the environment once, and a local Ray clears it of what others left.
    from distributed.fit import fit

    run = claim(runs, name, resume, store.path, store.checksum, settings)
    with held(run):
        record_device(run, device)
        print(f"{name}: {settings.workers.count} workers on {device}", file=sys.stderr, flush=True)
        state = _position(run, Identity(store=store.checksum, fold=fold.identity, plan=plan.identity))
        state = continued(state, run, plan, settings) if state else None
        if state is None or not state.finished:
            with Progress(run, total_steps(plan, settings), state.step if state else 0):
                (by or fit)(settings, store.path, run, device)
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
