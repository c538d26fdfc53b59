"""Search settings: Ray Tune and Optuna over trials of inner folds (the work of tune/search.py, see docs/search.md)."""

from __future__ import annotations

import datetime
import logging
import os
import sys
from pathlib import Path
from types import TracebackType

import numpy as np
import ray.tune
from rich.console import Console
from tqdm import tqdm

from data_pipeline.episodes import Plan, resolve_fold
from data_pipeline.errors import UserError
from data_pipeline.store import Store
from distributed.assembly import total_steps
from distributed.cluster import SPARE_CPUS
from distributed.failures import failure_of
from distributed.fold_training import check_model, open_verified
from distributed.run_folder import held, ways_on
from distributed.settings import RunSettings
from tune.identity import RUNS, claim_search
from tune.scheduling import StudyScheduler, StudySearcher, trial_capacity
from tune.search_space import (
    FEWEST_FOR_IMPORTANCE,
    SearchSettings,
    SearchStudy,
    TrialTask,
    distributions,
    economical,
    fold_settings,
    importances,
    plot_history,
    plot_settings,
    printed_table,
    ranked,
    run_trial,
    searched_terms,
    trial_table,
    write_preset,
    write_table,
)


def search(
    search: SearchSettings, settings: RunSettings, store_path: Path, folder: Path, resume: bool, concurrent: int
) -> SearchStudy:
    """Run the search in `folder` to its end and return its study; raises `UserError` before anything is started."""
    space = distributions(search, settings)
    store = open_verified(store_path)
    lines = inner_lines(store, search, settings)
    check_folds(store, search, settings, lines)
    if resume or folder.exists():
        claim_search(folder, resume, store, search, settings, lines)
    concurrent, device = trial_capacity(settings, concurrent)
    if not resume:
        claim_search(folder, resume, store, search, settings, lines)
    task = TrialTask(
        store=str(store.path),
        checksum=store.checksum,
        runs=str((folder / RUNS).resolve()),
        lines=lines,
        run=economical(settings).model_dump(mode="json"),
        device=device,
    )
    with held(folder), Progress(folder, search.trials, lines) as progress:
        study = SearchStudy(folder, search, space, len(lines), progress.show)
        progress.follow(study)
        if study.remaining():
            _tune(study, folder, concurrent, task)
    return study


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
    if search.folds > len(lines):
        raise UserError(f"search.folds={search.folds}, but only {len(lines)} lines remain beside '{fold.test_line}'")
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
            num_samples=study.remaining(),
            reuse_actors=True,  # its imports take longer than a small fold
            trial_dirname_creator=lambda trial: f"trial-{trial.config['number']:04d}",
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


class Progress:
    """A line on the terminal (plain lines in a log): trials ended, best so far, time left; and the table on disk."""

    def __init__(self, folder: Path, trials: int, lines: list[str]) -> None:
        """Prepare to follow the search in `folder` to `trials` trials over the validation `lines`."""
        self._folder, self._trials, self._lines = folder, trials, lines
        self._study: SearchStudy | None = None
        self._bar: tqdm | None = None

    def __enter__(self) -> Progress:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the line."""
        if self._bar is not None:
            self._bar.close()

    def follow(self, study: SearchStudy) -> None:
        """Show `study` from now on; what an earlier start did says nothing about this one's speed."""
        self._study = study
        self._bar = tqdm(
            total=self._trials,
            initial=_ended(study),
            unit="trial",
            desc=self._folder.name,
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 15.0,
            smoothing=0,  # stopped trials and whole ones take turns, so only the mean speed tells the time left
        )
        self.show()

    def show(self) -> None:
        """Write the table of trials and bring the line up to date."""
        if self._study is None or self._bar is None:
            return
        table = trial_table(self._study, self._lines)
        write_table(table, self._folder)
        best = ranked(table)
        failed = int((table["state"] == "failed").sum()) if len(table) else 0
        shown = {"failed": str(failed)} if failed else {}
        if len(best):
            shown["best"] = f"{best['score'].iloc[0]:.4f} (trial {best['number'].iloc[0]})"
        self._bar.n = _ended(self._study)
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(0)


def _ended(study: SearchStudy) -> int:
    return sum(trial.state.is_finished() for trial in study.trials())


def hand_out(study: SearchStudy, settings: RunSettings, folder: Path, lines: list[str], console: Console) -> None:
    """Print the results and write preset and plots beside the table."""
    table = trial_table(study, lines)
    best = ranked(table)
    counts = table["state"].value_counts()
    console.print(f"trials     {', '.join(f'{count} {state}' for state, count in counts.items())}")
    for _, row in table[table["state"] == "failed"].iterrows():
        console.print(f"failed     trial {row['number']}: {row['reason']}", markup=False)
    plot_history(table, folder / "history.png")
    plot_settings(table, study.space, folder / "settings.png")
    if best.empty:
        console.print("best       none: no trial finished all its folds")
        return
    console.print(printed_table(table, list(study.space), lines))
    number = int(best.iloc[0]["number"])
    preset = write_preset(dict(study.trials()[number].params), float(best.iloc[0]["score"]), lines, settings, folder)
    shares = importances(study)
    text = (
        ", ".join(f"{key} {share:.2f}" for key, share in shares.items())
        if shares
        else (f"too few complete trials to say ({len(best)} of {FEWEST_FOR_IMPORTANCE})")
    )
    console.print(f"importance {text}", markup=False)
    console.print(
        f"best       {preset}, trial {number}; score and choice are of the same lines, so expect a little less"
    )
