"""One trial: the runs of its inner folds, one after the other, each a Ray Train + DeepSpeed run like any other.

For every inner fold one line is the validation line and all others but the test line train; the test line is the same
in all of them and nothing of it is read: not its pairs, not its labels, not the stretches of genome held out for it.
The score of a fold is the run's best validation average precision. A run that finished is not run again, one that was
interrupted goes on from its checkpoint, so a trial that is taken up after a kill repeats a few steps at most.
"""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path
from typing import Any, Literal

import ray.tune
from ray.train import ControllerError, WorkerGroupError

from data_pipeline.errors import UserError
from data_pipeline.settings import Settings, validate
from distributed.checkpoint import TrainingState, checkpoints, set_aside_damaged
from distributed.fold_training import fit
from distributed.runs import claim, held
from distributed.settings import RunSettings
from tune.space import Point, apply
from tune.study import FoldScore


class TrialTask(Settings):
    """What all trials of a search share; it travels to the trial as JSON values."""

    store: str
    """Absolute path of the store."""
    checksum: str
    """Its checksum."""
    runs: str
    """Absolute path of the folder of runs."""
    lines: list[str]
    """Validation line of each inner fold."""
    run: dict[str, Any]
    """Settings of the runs, but for the point and the validation line."""
    device: Literal["cpu", "cuda"]
    """Where workers compute."""


def run_trial(config: dict[str, Any]) -> None:
    """What Tune runs: `config` has task, number and point; reports after every fold, and a failure as a result."""
    task = validate(TrialTask, config["task"], "trial")
    finished: list[FoldScore] = []
    try:
        for line in task.lines:
            finished.append(run_fold(task, config["number"], config["point"], line))
            ray.tune.report({"finished": [vars(fold) for fold in finished]})
    except Exception as error:  # whatever ends a run ends this trial only, and is read in the table
        ray.tune.report({"finished": [vars(fold) for fold in finished], "reason": reason_of(error)})


def run_fold(task: TrialTask, number: int, point: Point, line: str) -> FoldScore:
    """Train the fold with validation line `line`, or go on with it, and return its score."""
    began = time.perf_counter()
    settings = fold_settings(apply(validate(RunSettings, task.run, "trial"), point), line)
    name = run_name(number, line)
    _, state = train_run(Path(task.runs), name, Path(task.store), task.checksum, settings, task.device)
    return FoldScore(line, state.best_score, time.perf_counter() - began)


def train_run(
    runs: Path, name: str, store: Path, checksum: str, settings: RunSettings, device: Literal["cpu", "cuda"]
) -> tuple[Path, TrainingState]:
    """Train run `name`, or go on with it, to its end; its folder and last state. One that is finished is left alone.

    Raises `UserError` for a run whose validation line has no score.
    """
    run = runs / name
    if run.is_dir() and not (run / "run.json").is_file():
        shutil.rmtree(run)  # killed between making the folder and writing its record
    run = claim(runs, name, run.is_dir(), store, checksum, settings)
    with held(run):
        set_aside_damaged(run)
        done = checkpoints(run)
        if not (done and done[-1][1].finished):
            fit(settings, store, run, device)
            done = checkpoints(run)
    score = done[-1][1].best_score if done else math.nan
    if not math.isfinite(score) or score < 0:
        raise UserError(
            f"validation line '{settings.fold.valid_line}' has no score: the run's predictions are not finite"
        )
    return run, done[-1][1]


def economical(settings: RunSettings) -> RunSettings:
    """`settings` for one of many runs: one checkpoint kept beside the latest, threads that many runs can share."""
    threads = settings.engine.threads or max(1, int(settings.workers.cpus))
    return settings.model_copy(
        update={
            "train": settings.train.model_copy(update={"keep_best": 1}),
            "engine": settings.engine.model_copy(update={"threads": threads}),
        }
    )


def fold_settings(settings: RunSettings, line: str) -> RunSettings:
    """`settings` for the inner fold whose validation line is `line`; the test line stays as it is."""
    inside = [other for other in settings.fold.train_lines if other != line]
    fold = settings.fold.model_copy(update={"valid_line": line, "train_lines": inside})
    return settings.model_copy(update={"fold": fold})


def run_name(number: int, line: str) -> str:
    """Name of the run of trial `number` and validation line `line`."""
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in line)
    return f"trial-{number:04d}-{safe}"


def reason_of(error: BaseException) -> str:
    """The sentence a failed trial's row shows: the last line of what a worker raised, with its kind."""
    if isinstance(error, WorkerGroupError) and error.worker_failures:
        error = error.worker_failures[min(error.worker_failures)]
    elif isinstance(error, ControllerError):
        error = error.controller_failure
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[-1]}"[:500]
