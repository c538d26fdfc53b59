"""Does a search survive whatever happens to it? The same search undisturbed, and killed again and again.

    python bench/search_kills.py --kills 10 --out bench/results/search_kills.json

A search of real, short trainings on a small simulated store, one trial at a time, so that its trials are a function of
their number. Once it runs to its end; then it is begun again in another folder, and at moments drawn at random
everything it started (driver, Ray, workers) is killed with SIGKILL, and it goes on with --resume. In the end each trial
must be there once, with the very scores of the undisturbed search, no run of a finished trial may have been touched
again, and the region must be the same. Cost: some ten minutes of two cores.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import pandas as pd
import psutil
import typer
from rich.console import Console

from data_pipeline.errors import UserError, command_line
from data_pipeline.settings import load
from data_pipeline.simulator import SimulatorSettings, simulate

ROOT = Path(__file__).resolve().parents[1]
SPACE = """
parameters:
  optimiser.lr: {}
  optimiser.weight_decay: {}
folds: 2
start: false
confirm: 2
"""
RUN = [
    "fold.test_line=sim4", "fold.block=1000000", "episodes.support=8", "episodes.query=16", "model.trunk.size=tiny",
    "train.epochs=1", "train.max_steps=8", "train.checkpoint_every=2", "objective.curriculum.warm_epochs=0",
    "objective.start=0", "scoring.support_draws=1", "scoring.valid_pairs=60", "engine.threads=1",
]  # fmt: skip
LONGEST = 60.0
"""Seconds after which a start is killed at the latest."""


def command(folder: Path, name: str, trials: int) -> list[str]:
    """The search's command line."""
    words = ["--space", str(folder / "space.yaml"), "--store", str(folder / "store"), "--runs", str(folder / "runs")]
    return [sys.executable, str(ROOT / "tune/search.py"), *words, "--name", name, "--concurrent", "1", "--trials",
            str(trials), *RUN]  # fmt: skip


def started_by(ray_folder: Path) -> list[psutil.Process]:
    """Every live process with this Ray folder in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("RAY_TMPDIR") == str(ray_folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def kill_everything(ray_folder: Path) -> None:
    """SIGKILL to all of them, until there are none."""
    while alive := started_by(ray_folder):
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=10)


def table_of(folder: Path, name: str) -> pd.DataFrame:
    """The table of a search, empty before there is one."""
    file = folder / "runs" / name / "trials.parquet"
    return (
        pd.read_parquet(file) if file.is_file() else pd.DataFrame({"kind": [], "state": [], "number": [], "runs": []})
    )


def written(folder: Path, name: str, table: pd.DataFrame) -> dict[str, int]:
    """When each file of the runs of finished trials was last written."""
    ended = table[table["state"] != "running"] if len(table) else table
    runs = [run for own in ended["runs"] for run in own]
    files = [file for run in runs for file in (folder / "runs" / name / "runs" / run).rglob("*") if file.is_file()]
    return {str(file): file.stat().st_mtime_ns for file in files}


def disturbed(folder: Path, kills: int, trials: int, rng: random.Random, console: Console) -> int:
    """Run the search with `kills`; how many files of finished trials changed afterwards."""
    changed, done = 0, 0
    words = command(folder, "killed", trials)
    with tempfile.TemporaryDirectory(prefix="kills-", ignore_cleanup_errors=True) as ray_folder:
        environment = os.environ | {"RAY_TMPDIR": ray_folder, "OMP_NUM_THREADS": "1"}
        while done < kills:
            resumed = (folder / "runs/killed/search.json").is_file()
            before = table_of(folder, "killed")
            times = written(folder, "killed", before)
            log = (folder / "log").open("wb")
            process = subprocess.Popen([*words, *["--resume"] * resumed], env=environment, stdout=log, stderr=log)
            # Early in a start there is little to destroy: most moments lie where trials run.
            pause = rng.uniform(0.1, 1) * LONGEST if rng.random() < 0.8 else rng.uniform(0.5, 10)
            until = time.monotonic() + pause
            while time.monotonic() < until and process.poll() is None:
                time.sleep(0.1)
            over = process.poll() is not None
            kill_everything(Path(ray_folder))
            process.wait()
            changed += sum(
                (Path(file).stat().st_mtime_ns if Path(file).exists() else 0) != at for file, at in times.items()
            )
            if over:
                break
            done += 1
            states = table_of(folder, "killed")["state"].value_counts().to_dict()
            console.print(f"kill {done:2d} after {pause:4.1f} s: {states}")
        if done < kills:
            raise UserError(f"the search was over after {done} kills; give more --trials")
        subprocess.run([*words, "--resume"], env=environment, check=True, stdout=subprocess.DEVNULL)
    return changed


def main(
    kills: Annotated[int, typer.Option(help="How often everything is killed.", min=1)] = 10,
    trials: Annotated[int, typer.Option(help="Trials of the search.", min=8)] = 48,
    seed: Annotated[int, typer.Option(help="Draws the moments.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file for what came out.")] = None,
) -> None:
    """Compare an undisturbed search with one that is killed again and again."""
    console = Console(soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="search-kills-") as name:
        folder = Path(name)
        (folder / "space.yaml").write_text(SPACE, encoding="utf-8")
        simulate(load(SimulatorSettings, [ROOT / "configs/simulate/tiny.yaml"]), folder / "store")
        subprocess.run(command(folder, "whole", trials), check=True, stdout=subprocess.DEVNULL)
        changed = disturbed(folder, kills, trials, random.Random(seed), console)
        whole, killed = (table_of(folder, own).drop(columns=["seconds", "step_seconds"]) for own in ("whole", "killed"))
        regions = [
            json.loads((folder / "runs" / own / "region.json").read_text(encoding="utf-8"))
            for own in ("whole", "killed")
        ]
    found = {
        "kills": kills,
        "trials": len(killed),
        "trials_twice": int(killed.duplicated(["kind", "number"]).sum()),
        "files_of_finished_trials_changed": changed,
        "same_table": whole.equals(killed),
        "same_region": regions[0] == regions[1],
    }
    console.print_json(data=found)
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    command_line(app)
