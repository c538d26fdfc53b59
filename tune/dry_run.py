"""What a search would run and cost, from a few measured steps: nothing is written, nothing is left running."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from rich.console import Console

from data_pipeline.episodes import Plan, resolve_fold
from distributed.assembly import judgements, total_steps
from distributed.crew import Crew
from distributed.fold_training import open_verified
from distributed.run_folder import EPOCHS, STEPS, read_records
from distributed.settings import RunSettings
from tune.scheduling import trial_capacity
from tune.search_space import REPEATED, SearchSettings, distributions, economical, fold_settings, train_run
from tune.searching import check_folds, inner_lines

MEASURED = 12
"""Steps of the run that is measured; the first ones, which warm things up, are left out of its median."""


def rehearse(
    search: SearchSettings, settings: RunSettings, store_path: Path, concurrent: int, console: Console
) -> None:
    """Print the space, the trials, how many run at a time, and how long that takes here; raises `UserError`."""
    space = distributions(search, settings)
    store = open_verified(store_path)
    lines = inner_lines(store, search, settings)
    check_folds(store, search, settings, lines)
    for key, distribution in space.items():
        console.print(f"searched   {key}: {described(distribution)}", markup=False)
    concurrent, device = trial_capacity(settings, concurrent)
    own = fold_settings(economical(settings), lines[0])
    short = own.model_copy(update={"train": own.train.model_copy(update={"max_steps": MEASURED, "log_every": 1})})
    plan = Plan(store, resolve_fold(store, own.fold), own.episodes, own.train.seed)
    steps, validations = total_steps(plan, own), judgements(plan, own)
    with tempfile.TemporaryDirectory(prefix="dry-run-") as folder:
        crew = Crew(Path(folder) / "workers")
        train_run(Path(folder), "first", store.path, store.checksum, short, device, crew.fit)
        began = time.perf_counter()
        run, _ = train_run(Path(folder), "second", store.path, store.checksum, short, device, crew.fit)
        whole = time.perf_counter() - began
        taken, epochs = read_records(run / STEPS), read_records(run / EPOCHS)
        step = float((taken["seconds/step"] + taken["seconds/data_wait"]).iloc[MEASURED // 3 :].median())
        validation = float(epochs["valid/seconds"].iloc[-1])
        crew.close()
    overhead = max(0.0, whole - float(taken["seconds/step"].sum()) - validation)
    per_run = steps * step + validations * validation + overhead
    runs = len(lines) * search.seeds
    more = REPEATED * len(lines) * search.confirm
    console.print(
        f"a run      {steps} steps of {step:.3f} s, {validations} validations of {validation:.1f} s, "
        f"{overhead:.1f} s beside them"
    )
    console.print(f"a trial    {len(lines)} folds x {search.seeds} seeds = {runs} runs, {minutes(per_run * runs)}")
    console.print(
        f"the search {search.trials} trials and {more} runs to try points again, {concurrent} at a time on {device}: "
        f"{minutes(per_run * (search.trials * runs + more) / concurrent)}"
        + (" at most, as trials that are behind are stopped" if search.early_stop else "")
    )


def described(own: BaseDistribution) -> str:
    """A range as people write it."""
    if isinstance(own, CategoricalDistribution):
        return f"one of {', '.join(map(str, own.choices))}"
    assert isinstance(own, FloatDistribution | IntDistribution)
    return f"{own.low:g} to {own.high:g}{', evenly in the logarithm' if own.log else ''}"


def minutes(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
