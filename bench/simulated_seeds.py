"""What `make train` comes to over training seeds: its three commands per seed, and mean and spread of their reports.

    python bench/simulated_seeds.py --out bench/results/simulated_seeds.json      # ten minutes per seed on two cores

A run is trained with and without an environment and evaluated as the Makefile does; the report's figures of the test
line are averaged over seeds. The spread over seeds (standard deviation) says how far another training may lie; the
interval of each report says how far other promoters may. What is finished is not repeated.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from data_pipeline.errors import UserError, command_line
from tune.command_words import seeds_of

ROOT = Path(__file__).resolve().parents[1]
PRESET = str(ROOT / "configs/train/simulated.yaml")
WITHOUT = str(ROOT / "configs/train/no_environment.yaml")
QUADRANTS = {"unseen_line/unseen_chrom": "unseen chromosomes", "unseen_line/seen_chrom": "chromosomes of training"}


def python(script: str, *words: str) -> None:
    """Run one of the project's commands and let its own sentence speak where it fails."""
    if subprocess.run([sys.executable, str(ROOT / script), *words], check=False).returncode != 0:
        raise UserError(f"the command failed, for the reason above: python {script} {' '.join(words)}")


def report_of(store: Path, runs: Path, seed: int) -> dict[str, Any]:
    """The report of one seed's run, made if it is missing."""
    name = f"seed-{seed}"
    file = runs / name / "report/report.json"
    if not file.exists():
        train = ["distributed/train.py", "--store", str(store), "--runs", str(runs), "--config", PRESET]
        for words in (
            [*train, "--config", WITHOUT, "--name", f"{name}-without"],
            [*train, "--name", name],
        ):
            again = ["--resume"] if (runs / words[-1] / "run.json").exists() else []
            python(*words, *again, f"train.seed={seed}")
        python("distributed/evaluate.py", "--run", str(runs / name), "--without-environment", f"{runs / name}-without")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def figures_of(report: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """A row per quadrant and scorer of the test line."""
    rows = []
    for line in report["lines"]:
        if line["role"] != "test" or line["quadrant"] not in QUADRANTS:
            continue
        own = {"seed": seed, "line": line["line"], "quadrant": line["quadrant"]}
        rows.append({**own, "scores": "model", "ap": line["ap"], "low": line["ap_low"], "high": line["ap_high"]})
        for name, rival in line["rivals"].items():
            lead = {"lead": rival["difference"], "lead_low": rival["low"], "lead_high": rival["high"]}
            rows.append({**own, "scores": name, "ap": rival["ap"], **lead})
        rows += [{**own, "scores": name, "ap": line[name]} for name in ("prevalence", "bayes_ap", "ap_support_sd")]
    return rows


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds, lowest and highest seed, and the mean lead of the model."""
    by = frame.groupby(["quadrant", "scores"], sort=False)
    table = by.agg(
        ap=("ap", "mean"), sd=("ap", "std"), least=("ap", "min"), most=("ap", "max"), seeds=("seed", "count")
    )
    return table.join(by.agg(lead=("lead", "mean"), lead_sd=("lead", "std"))).reset_index()


def main(
    out: Annotated[Path, typer.Option(help="JSON file for the figures.")],
    store: Annotated[Path, typer.Option(help="Store of `make train`.")] = Path("stores/simulated"),
    runs: Annotated[Path, typer.Option(help="Folder for the runs.")] = Path("runs/simulated_seeds"),
    seeds: Annotated[str, typer.Option(help="Training seeds by comma.")] = "0,1,2",
) -> None:
    """Train and evaluate what is missing; print and write mean and spread."""
    chosen = seeds_of(seeds)
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}; make it, or choose another")
    rows = [row for seed in chosen for row in figures_of(report_of(store, runs, seed), seed)]
    frame = pd.DataFrame(rows)
    table = summary(frame)
    content = {
        "seeds": json.loads(frame.to_json(orient="records")),
        "over": json.loads(table.to_json(orient="records")),
    }
    out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    shown = Table("quadrant", "scores", "AP (sd of seeds)", "lowest, highest", "model's lead (sd)")
    for own in table.itertuples():
        lead = f"{own.lead:+.3f} ({own.lead_sd:.3f})" if own.lead == own.lead else ""
        shown.add_row(
            QUADRANTS[own.quadrant],
            own.scores,
            f"{own.ap:.3f} ({own.sd:.3f})",
            f"{own.least:.3f}, {own.most:.3f}",
            lead,
        )
    Console(width=120).print(shown)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    command_line(app)
