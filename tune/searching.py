"""Search settings: Ray Tune and Optuna over trials of inner folds (the work of tune/search.py, see docs/search.md)."""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import ray.tune
from rich.console import Console

from data_pipeline.episodes import Plan, resolve_fold
from data_pipeline.errors import UserError
from data_pipeline.settings import load
from data_pipeline.simulator import SimulatorSettings, simulate
from data_pipeline.store import Store
from distributed.assembly import total_steps
from distributed.cluster import SPARE_CPUS
from distributed.failures import failure_of
from distributed.fold_training import check_model, open_verified
from distributed.run_folder import held, ways_on
from distributed.settings import RunSettings
from tune.findings import points_to_repeat
from tune.identity import RUNS, claim_search
from tune.progress import Progress
from tune.scheduling import StudyScheduler, StudySearcher, trial_capacity
from tune.search_space import (
    SearchSettings,
    SearchStudy,
    TrialTask,
    base_point,
    distributions,
    economical,
    fold_settings,
    open_storage,
    require_new_study,
    run_trial,
    searched_terms,
    shown,
    simulation_of,
    trial_table,
)


def search(
    search: SearchSettings,
    settings: RunSettings,
    store_path: Path,
    folder: Path,
    resume: bool,
    concurrent: int,
    storage: str = "",
) -> SearchStudy:
    """Run the search in `folder` to its end and return its study; raises `UserError` before anything is started."""
    distributions(search, settings)
    store = open_verified(store_path)
    lines = inner_lines(store, search, settings)
    check_folds(store, search, settings, lines)
    if resume or folder.exists():
        claim_search(folder, resume, store, search, settings, lines, shown(storage))
    if storage:
        require_new_study(storage, folder.name, resume)
    concurrent, device = trial_capacity(settings, concurrent)
    if not resume:
        claim_search(folder, resume, store, search, settings, lines, shown(storage))
    task = TrialTask(
        store=str(store.path),
        checksum=store.checksum,
        runs=str((folder / RUNS).resolve()),
        lines=lines,
        run=economical(settings).model_dump(mode="json"),
        device=device,
    )
    with held(folder), Progress(folder, search, lines) as progress:
        study = open_study(folder, search, settings, lines, storage, progress.show)
        progress.follow(study)
        if study.remaining():
            _tune(study, folder, concurrent, task)
    return study


def open_study(
    folder: Path,
    search: SearchSettings,
    settings: RunSettings,
    lines: list[str],
    storage: str = "",
    changed: Callable[[], None] = lambda: None,
) -> SearchStudy:
    """The study of the search in `folder`, which tries again what `points_to_repeat` says."""
    space = distributions(search, settings)
    name = folder.name if storage else "search"
    own = SearchStudy(
        open_storage(folder, storage),
        name,
        search,
        space,
        len(lines),
        changed,
        base_point(space, search, settings),
        lambda: points_to_repeat(trial_table(own, lines), search, settings, lines),
    )
    return own


def make_store(search: SearchSettings, path: Path, console: Console) -> None:
    """Make the simulated store that a space brings with it, and say so."""
    console.print(f"store      {path} is not there: making it from configs/simulate/{search.simulate}.yaml")
    simulate(load(SimulatorSettings, [simulation_of(search)]), path)


def inner_lines(store: Store, search: SearchSettings, settings: RunSettings) -> list[str]:
    """Validation line of each inner fold, in the order trials take them: a random order, fixed by the search's seed."""
    fold = settings.fold
    known = [*fold.train_lines, *([fold.valid_line] if fold.valid_line else [])] if fold.train_lines else store.lines
    lines = [line for line in store.lines if line in known and line != fold.test_line]
    if fold.test_line not in store.lines:
        wrong = f"the store has no line '{fold.test_line}'" if fold.test_line else "--test-line is not set"
        raise UserError(f"{wrong}; choose one of {', '.join(store.lines)}")
    if len(lines) < 2:
        raise UserError(f"an inner fold needs a validation line and a training line beside '{fold.test_line}'")
    order = np.random.default_rng(search.seed).permutation(len(lines))
    return [lines[index] for index in order[: search.folds or len(lines)]]


def check_folds(store: Store, search: SearchSettings, settings: RunSettings, lines: list[str]) -> None:
    """Raise `UserError` for what would fail, or mean nothing, in every trial."""
    for line in lines:
        own = fold_settings(settings, line)
        fold = resolve_fold(store, own.fold)
        plan = Plan(store, fold, own.episodes, own.train.seed)
        plan.slots(0, own.workers.count)
        check_model(store, fold, own)
        epochs = total_steps(plan, own) / plan.steps_per_epoch
        for name, term in searched_terms(search, settings).items():
            starts = {f"objective.terms.{name}.start", "objective.start"}
            if term.begins >= epochs and not starts & search.parameters.keys():
                raise UserError(
                    f"term '{name}' counts from epoch {term.begins:g} (objective.terms.{name}.start), and runs end at "
                    f"epoch {epochs:g}: its weight would change nothing; train longer or start it earlier"
                )


def _tune(study: SearchStudy, folder: Path, concurrent: int, task: TrialTask) -> None:
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    # Trials write runs of their own; Tune's copies of their scores would only fill the folder.
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(run_trial, {"cpu": SPARE_CPUS}),
        tune_config=ray.tune.TuneConfig(
            search_alg=StudySearcher(study, concurrent, task.model_dump(mode="json")),
            scheduler=StudyScheduler(study),
            num_samples=study.remaining(),  # or fewer, where points to try again are the same
            reuse_actors=True,  # its imports take longer than a small fold
            trial_dirname_creator=lambda trial: str(trial.config["name"]),
        ),
        run_config=ray.tune.RunConfig(
            name=f"{datetime.datetime.now():%Y%m%d-%H%M%S}", storage_path=str((folder / "tune").resolve()), verbose=0
        ),
    )
    try:
        tuner.fit()
    except Exception as error:
        sentence = failure_of(error).sentence
        if sentence is None:
            raise
        raise UserError(f"the search stopped: {sentence}; {ways_on('search', folder)}") from error
