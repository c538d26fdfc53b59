"""Does a change that should change no number change none? Two commits, checked out and run side by side.

    python bench/same_numbers.py --before HEAD~1 --after HEAD

Each commit trains every preset for some steps on the same small simulated stores and evaluates one of the runs, through
its own commands, in a process of its own. Every number of `metrics/steps.jsonl` and `metrics/epochs.jsonl` that is no
time, every score of `predictions.parquet` and every figure of `report.json` must be equal to the bit. Names that only
one side reports are listed apart. Ends with exit code 1 if a number differs. Cost: about half a minute per preset and
commit on one core.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from data_pipeline.errors import UserError, command_line

ROOT = Path(__file__).resolve().parents[1]
PRESETS: dict[str, tuple[str, ...]] = {
    "default": ("default",),
    "simulated": ("simulated",),
    "short": ("default", "short"),
    "record_09": ("record_09",),
    "record_11": ("record_11",),
    "record_22": ("record_22",),
    "record_24": ("record_24",),
    "record_25": ("record_25",),
    "signals": ("signals",),
}
"""Presets of configs/train/ by the name of the run."""
EVALUATED = "simulated"
STORE = ("lines=6", "signals=element", "line_features=4")
RUN = (
    *("fold.test_line=sim6", "fold.valid_line=sim5", "fold.train_lines=[]", "fold.block=1000000"),
    *("episodes.support=8", "episodes.query=16", "engine.threads=1", "train.log_every=1", "scoring.support_draws=2"),
)
TIMES = ("seconds", "pairs_per_second", "time")
"""Beginnings and ends of the names of figures that are no results."""


def command(checkout: Path, script: str, *words: str) -> None:
    """Run `script` of a checkout with its own sources."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(checkout / script), *words],
        cwd=checkout, env=environment, capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    if done.returncode:
        raise UserError(f"{script} {' '.join(words)} failed in {checkout}: {done.stderr.strip()[-2000:]}")


def record(checkout: Path, out: Path, presets: list[str], steps: int) -> None:
    """Make the store, run every preset and evaluate one of them with the sources of `checkout`."""
    store, runs = out / "store", out / "runs"
    tiny = str(checkout / "configs/simulate/tiny.yaml")
    command(checkout, "data_pipeline/simulate.py", "--config", tiny, "--out", str(store), *STORE)
    for name in tqdm(presets, desc=out.name):
        configs = [word for own in PRESETS[name] for word in ("--config", str(checkout / f"configs/train/{own}.yaml"))]
        words = ["--store", str(store), "--runs", str(runs), "--name", name, "--workers", "1", *configs, *RUN]
        command(checkout, "distributed/train.py", *words, f"train.max_steps={steps}")
        if name == EVALUATED:
            command(checkout, "distributed/evaluate.py", "--run", str(runs / name), "--draws", "100")


def numbers(run: Path) -> dict[str, float]:
    """Every number of a run's records, scores and report, by where it stands."""
    found: dict[str, float] = {}
    for file in ("steps", "epochs"):
        for line in (run / f"metrics/{file}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            for name, value in row.items():
                if not any(part.startswith(TIMES) or part.endswith("seconds") for part in name.split("/")):
                    found[f"{file}/{row['step']}/{name}"] = value
    if (run / "report/report.json").exists():
        report = json.loads((run / "report/report.json").read_text(encoding="utf-8"))
        report.pop("context", None)  # paths and settings
        found |= dict(leaves(report, "report"))
        predictions = pd.read_parquet(run / "report/predictions.parquet").select_dtypes("number")
        found |= {
            f"predictions/{name}/{row}": value for name in predictions for row, value in predictions[name].items()
        }
    return found


def leaves(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """The numbers of nested JSON, by their place."""
    if isinstance(value, dict):
        for key, own in value.items():
            yield from leaves(own, f"{name}/{key}")
    elif isinstance(value, list):
        for index, own in enumerate(value):
            yield from leaves(own, f"{name}/{index}")
    elif isinstance(value, int | float):
        yield name, value


def differing(one: dict[str, float], other: dict[str, float]) -> list[str]:
    """Places whose numbers differ by any bit; NaN equals NaN."""
    shared = one.keys() & other.keys()
    return [name for name in shared if one[name] != other[name] and not both_nan(one[name], other[name])]


def both_nan(one: float, other: float) -> bool:
    """Whether neither is a number."""
    return one != one and other != other


def commit_of(name: str) -> str:
    """The commit that `name` means; raises `UserError` for one that git does not know."""
    words = ["git", "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
    if found.returncode:
        raise UserError(f"git knows no commit '{name}' in {ROOT}")
    return found.stdout.strip()


def main(
    before: Annotated[str, typer.Option(help="Commit before the change.")],
    after: Annotated[str, typer.Option(help="Commit after it.")] = "HEAD",
    presets: Annotated[str, typer.Option(help="Presets by comma.")] = ",".join(PRESETS),
    steps: Annotated[int, typer.Option(help="Steps of each run.", min=2)] = 20,
    out: Annotated[Path | None, typer.Option(help="Write the counts here as JSON.")] = None,
) -> None:
    """Run both commits and compare all their numbers."""
    wanted = presets.split(",")
    for name in wanted:
        if name not in PRESETS:
            raise UserError(f"there is no preset '{name}' here; there are {', '.join(PRESETS)}")
    commits = {"before": commit_of(before), "after": commit_of(after)}
    console, table = Console(width=120), Table("preset", "numbers", "differ", "only before", "only after")
    counts: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for side, commit in commits.items():
            checkout = Path(folder, f"{side}-source")
            subprocess.run(
                ["git", "worktree", "add", "--quiet", "--detach", str(checkout), commit], cwd=ROOT, check=True
            )
            try:
                record(checkout, Path(folder, side), wanted, steps)
            finally:
                subprocess.run(["git", "worktree", "remove", "--force", str(checkout)], cwd=ROOT, check=True)
        for name in wanted:
            one, other = (numbers(Path(folder, side, "runs", name)) for side in commits)
            wrong = sorted(differing(one, other))
            gone, new = (
                sorted({key.split("/", 2)[-1] for key in own})
                for own in (one.keys() - other.keys(), other.keys() - one.keys())
            )
            shared = len(one.keys() & other.keys())
            counts[name] = {"numbers": shared, "differing": len(wrong), "differ": wrong[:20]}
            counts[name] |= {"only_before": gone[:50], "only_after": new[:50]}
            table.add_row(name, str(shared), str(len(wrong)), str(len(gone)), str(len(new)))
    console.print(table)
    for name, own in counts.items():
        if own["differ"]:
            console.print(f"{name}: {', '.join(own['differ'][:5])}")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(
            json.dumps({"commits": commits, "steps": steps, "presets": counts}, indent=1) + "\n", encoding="utf-8"
        )
    if any(own["differing"] for own in counts.values()):
        raise UserError("numbers differ; the places are named above")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    command_line(app)
