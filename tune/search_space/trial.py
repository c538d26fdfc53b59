"""One trial: the runs of its inner folds and seeds, one after the other, each a Ray Train + DeepSpeed run.

The runs of a trial, and of the trials after it, share the workers of a crew (distributed/crew.py), so that a short run
costs little more than its steps. For every inner fold one line is the validation line and all others but the test line
train; the test line is the same in all of them and nothing of it is read: not its pairs, not its labels, not the
stretches of genome held out for it. The score of a fold is the run's best validation average precision. A run that
finished is not run again, one that was interrupted goes on from its checkpoint, so a trial that is taken up after a
kill repeats a few steps at most.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import ray.tune

from data_pipeline.errors import UserError
from data_pipeline.settings import Settings, validate
from distributed.crew import Crew
from distributed.failures import failure_of
from distributed.fit import fit
from distributed.run_folder import (
    EPOCHS,
    STEPS,
    TrainingState,
    checkpoints,
    claim,
    held,
    read_records,
    record_device,
    set_aside_damaged,
    word_of,
)
from distributed.settings import RunSettings
from evaluation import CALIBRATION_ERROR
from tune.search_space.space import Point, apply
from tune.search_space.study import FoldScore

LATE = 0.5
"""Share of a run's steps, at its end, over which gradient shares are taken."""
SHARE = "gradient_ratio/"


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
    """What Tune runs: `config` has task, name, seeds and point; reports after every run, and a failure as a result."""
    task = validate(TrialTask, config["task"], "trial")
    finished: list[FoldScore] = []
    try:
        for seed in config["seeds"]:
            for line in task.lines:
                finished.append(run_fold(task, config["name"], config["point"], line, seed))
                ray.tune.report({"finished": [vars(fold) for fold in finished]})
    except Exception as error:  # whatever ends a run ends this trial only, and is read in the table
        ray.tune.report({"finished": [vars(fold) for fold in finished], "reason": reason_of(error)})


def run_fold(task: TrialTask, trial: str, point: Point, line: str, seed: int) -> FoldScore:
    """Train the fold with validation line `line`, or go on with it, and return its score."""
    began = time.perf_counter()
    settings = fold_settings(apply(validate(RunSettings, task.run, "trial"), point), line, seed)
    name = run_name(line, seed)
    runs = Path(task.runs) / trial
    runs.mkdir(exist_ok=True)
    run, state = train_run(runs, name, Path(task.store), task.checksum, settings, task.device, _crew(task).fit)
    seconds = time.perf_counter() - began
    return FoldScore(line, state.best_score, seconds, seed, **observed(run))


def observed(run: Path) -> dict[str, Any]:
    """What the records of a finished `run` say beside its score: step time, calibration, gradient shares."""
    steps, epochs = read_records(run / STEPS), read_records(run / EPOCHS)
    late = steps[steps["step"] >= (1 - LATE) * (steps["step"].max() + 1)] if len(steps) else steps
    shares = {name.removeprefix(SHARE): float(late[name].median()) for name in late if str(name).startswith(SHARE)}
    error = epochs[CALIBRATION_ERROR].iloc[-1] if CALIBRATION_ERROR in epochs else math.nan
    return {
        "step_seconds": float(steps["seconds/step"].median()) if "seconds/step" in steps else math.nan,
        "calibration_error": float(error),
        "shares": {name: share for name, share in shares.items() if math.isfinite(share)},
    }


_crews: dict[str, Crew] = {}
"""The workers of this process by the folder of the search they work for."""


def _crew(task: TrialTask) -> Crew:
    return _crews.setdefault(task.runs, Crew(Path(task.runs).parent / "workers"))


def train_run(
    runs: Path,
    name: str,
    store: Path,
    checksum: str,
    settings: RunSettings,
    device: Literal["cpu", "cuda"],
    train: Callable[..., None] = fit,
) -> tuple[Path, TrainingState]:
    """Train run `name`, or go on with it, to its end; its folder and last state. One that is finished is left alone.

    `train` does it, as `distributed.fit.fit`. Raises `UserError` for a run that ends because its losses or scores are
    not finite, with the step and the term.
    """
    run = runs / name
    if run.is_dir() and not (run / "run.json").is_file():
        shutil.rmtree(run)  # killed between making the folder and writing its record
    run = claim(runs, name, run.is_dir(), store, checksum, settings)
    with held(run):
        set_aside_damaged(run)
        record_device(run, device)
        done = checkpoints(run)
        if not (done and done[-1][1].finished):
            train(settings, store, run, device)
            done = checkpoints(run)
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


def fold_settings(settings: RunSettings, line: str, seed: int = 0) -> RunSettings:
    """`settings` for the inner fold whose validation line is `line`, `seed` after theirs; the test line stays."""
    inside = [other for other in settings.fold.train_lines if other != line]
    fold = settings.fold.model_copy(update={"valid_line": line, "train_lines": inside})
    train = settings.train.model_copy(update={"seed": settings.train.seed + seed})
    return settings.model_copy(update={"fold": fold, "train": train})


def run_name(line: str, seed: int) -> str:
    """Name of a trial's run of validation line `line` and `seed`, in the trial's folder."""
    return f"{word_of(line, 60)}-s{seed}"


def reason_of(error: BaseException) -> str:
    """The sentence a failed trial's row shows: the last line of what a worker raised, with its kind."""
    sentence = failure_of(error).sentence
    if sentence is not None and not isinstance(error, UserError):
        return sentence[:500]
    # By their names, because the former Ray Train, which a user may have asked for, has no such errors to import.
    failures = getattr(error, "worker_failures", {})
    error = failures[min(failures)] if failures else getattr(error, "controller_failure", error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[-1]}"[:500]
