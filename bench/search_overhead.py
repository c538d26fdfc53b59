"""What a search costs beside its training: wall time of N short trials, driven in three ways, in one run.

    python bench/search_overhead.py --trials 6 --out bench/results/search_overhead.json

search     tune/search.py's way: Ray Tune hands trials to one place whose Ray Train workers stay (distributed/crew.py)
optuna     plain Optuna: `study.optimize` calls the same training loop in one process that stays
trainers   a Ray Train run of its own per trial, as `train.py` makes one

All three train the same points of the same space on a small simulated store, one trial at a time on one worker, so what
differs is what surrounds the training. `training` is what the runs' own records say their steps, waits for data and
validations took; `first` is what came before the first trial was done beside its training; `overhead` is the median of
what each later trial took beside its training. Times are of a machine that does nothing else.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import optuna
import ray
import typer
from rich.console import Console
from rich.table import Table

from data_pipeline.errors import command_line
from data_pipeline.settings import load, validate
from data_pipeline.simulator import SimulatorSettings, simulate
from data_pipeline.store import Store
from distributed.cluster import join_ray, needed_cpus
from distributed.fit import fit, start_trainer
from distributed.run_folder import EPOCHS, STEPS, claim, read_records
from distributed.settings import RunSettings
from tune.search_space import Point, SearchSettings, SearchStudy, apply, distributions, open_storage
from tune.searching import search as run_search

ROOT = Path(__file__).resolve().parents[1]
SPACE = {"parameters": {"optimiser.lr": {}}, "folds": 1, "start": False}
RUN = [
    "fold.test_line=sim4", "fold.valid_line=sim3", "fold.train_lines=[sim1,sim2]", "fold.block=1000000",
    "episodes.support=8", "episodes.query=16", "model.trunk.size=tiny", "train.epochs=2", "episodes.steps_per_epoch=20",
    "train.log_every=1", "objective.curriculum.warm_epochs=0", "objective.start=0", "engine.threads=1",
    "train.checkpoint_every=0", "scoring.support_draws=2",
]  # fmt: skip


def by_search(settings: RunSettings, store: Store, folder: Path, trials: int) -> list[Path]:
    """Through Ray Tune and a crew; the runs in the order they ended."""
    space = validate(SearchSettings, SPACE | {"trials": trials}, "bench")
    run_search(space, settings, store.path, folder / "search", False, 1)
    return sorted((folder / "search/runs").glob("*/*"))


def points(settings: RunSettings, folder: Path, trials: int) -> list[Point]:
    """The points that the search tries."""
    space = validate(SearchSettings, SPACE | {"trials": trials}, "bench")
    study = SearchStudy(open_storage(folder, ""), "points", space, distributions(space, settings), 1)
    return [proposal.point for _ in range(trials) if (proposal := study.propose()) is not None]


def claimed(settings: RunSettings, store: Store, folder: Path, tried: list[Point]) -> dict[Path, RunSettings]:
    """A run in `folder` for each of the points, with its settings."""
    folder.mkdir()
    own = {folder / f"run-{number}": apply(settings, point) for number, point in enumerate(tried)}
    return {claim(folder, run.name, False, store.path, store.checksum, each): each for run, each in own.items()}


def by_trainers(settings: RunSettings, store: Store, folder: Path, tried: list[Point]) -> list[Path]:
    """One Ray Train run per trial."""
    runs = claimed(settings, store, folder / "trainers", tried)
    for run, own in runs.items():
        fit(own, store.path, run, "cpu")
    return list(runs)


def by_optuna(settings: RunSettings, store: Store, folder: Path, tried: list[Point]) -> list[Path]:
    """`study.optimize` in one training process, which is a Ray Train worker because the loop reports to Ray Train."""
    runs = list(claimed(settings, store, folder / "optuna", tried))
    words = {"points": tried, "runs": [str(run) for run in runs], "store": str(store.path),
             "settings": settings.model_dump(mode="json")}  # fmt: skip
    start_trainer(_optimize, words, settings, folder / "optuna/notes", "cpu").fit()
    return runs


def _optimize(config: dict[str, Any]) -> None:
    from distributed.loop import train_worker

    settings = validate(RunSettings, config["settings"], "bench")
    study = optuna.create_study()
    for point in config["points"]:
        study.enqueue_trial(point)

    def objective(trial: optuna.Trial) -> float:
        point: Point = {"optimiser.lr": trial.suggest_float("optimiser.lr", 3e-4, 1e-2, log=True)}
        run = config["runs"][trial.number]
        own = apply(settings, point).model_dump(mode="json")
        train_worker({"settings": own, "store": config["store"], "run": run, "device": "cpu"})
        return float(read_records(Path(run) / EPOCHS)["valid/average_precision"].max())

    study.optimize(objective, n_trials=len(config["points"]))


def judged(runs: list[Path], began: float, ended: float) -> dict[str, Any]:
    """What the runs took and what was around them; a run has ended when its last record was written."""
    training = np.array([trained(run) for run in runs])
    ends = np.array([(run / EPOCHS).stat().st_mtime for run in runs])
    beside = np.diff(ends) - training[1:]
    return {
        "wall": ended - began,
        "training": float(training.sum()),
        "first": float(ends[0] - began - training[0]),
        "overhead": float(np.median(beside)),
        "overhead_range": [float(beside.min()), float(beside.max())],
    }


def trained(run: Path) -> float:
    """Seconds of a run's steps, waits for data, and validations."""
    steps, epochs = read_records(run / STEPS), read_records(run / EPOCHS)
    return float((steps["seconds/step"] + steps["seconds/data_wait"]).sum() + epochs["valid/seconds"].sum())


def main(
    trials: Annotated[int, typer.Option(help="Short trials of each way.", min=3)] = 6,
    out: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Drive the same short trials in three ways; print and write what each took."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = load(RunSettings, [], RUN)
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="search-overhead-") as name:
        folder = Path(name)
        simulate(load(SimulatorSettings, [ROOT / "configs/simulate/tiny.yaml"]), folder / "store")
        store = Store.open(folder / "store")
        tried = points(settings, folder, trials)
        ways = {
            "search": lambda: by_search(settings, store, folder, trials),
            "optuna": lambda: by_optuna(settings, store, folder, tried),
            "trainers": lambda: by_trainers(settings, store, folder, tried),
        }
        for way, drive in ways.items():
            began = time.time()
            join_ray(needed_cpus(settings) + 1)
            runs = drive()
            found[way] = judged(runs, began, time.time())
            ray.shutdown()
    table = Table("way", "wall, s", "training, s", "before the first, s", "beside each later trial, s (range)")
    for way, own in found.items():
        low, high = own["overhead_range"]
        beside = f"{own['overhead']:.1f} ({low:.1f} to {high:.1f})"
        table.add_row(way, f"{own['wall']:.0f}", f"{own['training']:.1f}", f"{own['first']:.1f}", beside)
    Console().print(table)
    if out is not None:
        out.write_text(json.dumps({"trials": trials, "steps": 40, "ways": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    command_line(app)
