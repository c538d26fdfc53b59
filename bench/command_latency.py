"""How long every command takes to answer `--help` and the mistakes that can be seen without doing any work.

    python bench/command_latency.py --out bench/results/command_latency.json     # about a minute

Each call is a fresh process, started as a user starts it, in an empty folder; figures are wall-clock seconds of the
whole process, and its CPU seconds, which a busy machine does not stretch as much. The project's bound is two seconds.
Mistakes in a setting's key or value are listed apart: they need the settings, which live with the model and take the
import of PyTorch.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

PROJECT = Path(__file__).resolve().parents[1]
COMMANDS = ("data_pipeline/ingest.py", "data_pipeline/simulate.py", "data_pipeline/inspect_store.py",
            "distributed/train.py", "distributed/evaluate.py", "distributed/predict.py", "distributed/export.py",
            "distributed/submit.py", "tune/search.py", "tune/report.py",
            "tune/ablate.py", "tune/ablation_report.py")  # fmt: skip
STORE = "store"
"""A folder with an empty manifest, which is there and is no store that can be read."""
VARIANTS = str(PROJECT / "configs/ablation/components.yaml")
MISTAKES: list[tuple[str, str, str]] = [
    *((command, "--no-such-option", "No such option") for command in COMMANDS),
    ("data_pipeline/ingest.py", "", "Missing argument"),
    ("data_pipeline/ingest.py", "none.yaml --out o", "settings file none.yaml does not exist"),
    ("data_pipeline/ingest.py", "broken.yaml --out o", "settings file broken.yaml is not valid YAML"),
    ("data_pipeline/ingest.py", "words.yaml --out o", "unknown key 'line', did you mean 'lines'?"),
    ("data_pipeline/simulate.py", "seeds=1", "unknown key 'seeds', did you mean 'seed'?"),
    ("data_pipeline/simulate.py", "lines=many", "key 'lines' has value 'many'"),
    ("data_pipeline/inspect_store.py", "none", "store none does not exist"),
    ("distributed/train.py", "", "Missing option"),
    ("distributed/train.py", "--store none", "store none does not exist"),
    ("distributed/train.py", f"--store {STORE} --config none.yaml", "settings file none.yaml does not exist"),
    ("distributed/train.py", f"--store {STORE} optimiser.lr", "is not of the form key=value"),
    (
        "distributed/train.py",
        f"--store {STORE} optimiser.lrr=1",
        "unknown key 'optimiser.lrr', did you mean '",
    ),
    ("distributed/train.py", f"--store {STORE} --config words.yaml", "words.yaml: unknown key 'line'"),
    ("distributed/train.py", f"--store {STORE} --resume", "--resume needs the --name of the run"),
    ("distributed/train.py", f"--store {STORE} --resume --name x", "there is no run at runs/x"),
    ("distributed/train.py", f"--store {STORE} --name a/b", "run name 'a/b' may only have"),
    ("distributed/train.py", f"--store {STORE} --workers two", "Invalid value for '--workers'"),
    ("distributed/evaluate.py", "", "Missing option"),
    ("distributed/evaluate.py", "--run none", "there is no run at none"),
    ("distributed/evaluate.py", "--run none --draws 1", "Invalid value for '--draws'"),
    ("distributed/predict.py", "", "Missing option"),
    ("distributed/predict.py", "--out x.txt", "x.txt must end in .parquet, .html, .tsv or .bedpe"),
    ("distributed/predict.py", "--out x.tsv --format bedpe", "x.tsv must end in .bedpe or .bedpe.gz"),
    ("distributed/predict.py", "--out x.tsv --format abc --format bedpe", "give --out x"),
    ("distributed/predict.py", "--out x.tsv --threshold high", "is neither recall70 nor mcc nor a probability"),
    ("distributed/predict.py", "--out x.tsv --format abc --explain", "--explain adds columns to the formats"),
    ("distributed/predict.py", "--out x.tsv --run none", "give the pairs with one of"),
    ("distributed/predict.py", f"--out x.tsv --store {STORE}", "give either --model"),
    ("distributed/predict.py", f"--out x.tsv --store {STORE} --run none", "there is no run at none"),
    ("distributed/predict.py", f"--out x.tsv --store {STORE} --model none", "there is no exported model at none"),
    ("distributed/predict.py", "--out x.tsv --model model --pairs none.csv --line A", "none.csv does not exist"),
    ("distributed/export.py", "", "Missing option"),
    ("distributed/export.py", "--run none --out m", "there is no run at none"),
    ("distributed/submit.py", "--address a", "no command given"),
    ("tune/search.py", "--space space.yaml", "space 'space.yaml' brings no store with it: give --store"),
    ("tune/search.py", "--space presets.yaml", "presets.yaml: key 'presets' has value 5"),
    ("tune/search.py", "--space space.yaml --store none", "store none does not exist"),
    ("tune/report.py", "", "Missing argument"),
    ("tune/report.py", "none", "there is no search at none"),
    ("tune/search.py", f"--store {STORE} --space lamda", "there is no search space 'lamda'"),
    ("tune/search.py", f"--store {STORE} search.trial=1", "did you mean 'search.trials'?"),
    ("tune/search.py", "--store none", "store none does not exist"),
    ("tune/ablate.py", "", "Missing option"),
    ("tune/ablate.py", f"--store {STORE} --variants {VARIANTS} train.epoch=1", "did you mean 'train.epochs'?"),
    ("tune/ablate.py", f"--store {STORE} --variants none.yaml", "there is no ablation none.yaml"),
    ("tune/ablate.py", f"--store {STORE} --variants {VARIANTS} --seeds 0,x", "is not a list of whole numbers"),
    ("tune/ablation_report.py", "--ablation none", "there is no ablation at none"),
]
"""(command, words, what the answer says)."""
OF_SETTINGS: list[tuple[str, str, str]] = [
    ("distributed/train.py", f"--store {STORE} optimiser.lr=-1", "input should be greater than 0"),
]
"""Mistakes that take the settings of a run."""


def prepare(folder: Path) -> None:
    """Put what `MISTAKES` name into `folder`."""
    for name in (STORE, "model"):
        (folder / name).mkdir()
    files = {
        f"{STORE}/manifest.json": "{}",
        "model/model.json": "{}",
        "broken.yaml": "lines: [",
        "words.yaml": "line: [A]\n",
        "presets.yaml": "parameters: {optimiser.lr: {}}\npresets: 5\n",
        "space.yaml": "parameters: {optimiser.lr: {}}\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def answer(command: str, words: str, folder: Path, *python: str) -> subprocess.CompletedProcess[str]:
    """What `command` answers to `words` in `folder`."""
    call = [sys.executable, *python, str(PROJECT / command), *words.split()]
    wide = os.environ | {"COLUMNS": "300", "NO_COLOR": "1"}
    return subprocess.run(call, cwd=folder, env=wide, capture_output=True, encoding="utf-8", check=False)


def _seconds(command: str, words: str, folder: Path) -> tuple[float, float]:
    before, began = os.times(), time.perf_counter()
    answer(command, words, folder)
    wall, after = time.perf_counter() - began, os.times()
    return wall, sum(after[2:4]) - sum(before[2:4])


def main(
    out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    repeats: Annotated[int, typer.Option(help="Times each call is made.", min=1)] = 3,
) -> None:
    """Print the median seconds of every answer, slowest last."""
    calls = [(command, "--help", "") for command in COMMANDS]
    figures = []
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name))
        for kind, own in (("help", calls), ("mistake", MISTAKES), ("setting", OF_SETTINGS)):
            for command, words, _ in own:
                wall, cpu = zip(*(_seconds(command, words, Path(name)) for _ in range(repeats)), strict=True)
                call = f"{command} {words}".replace(f"{PROJECT}/", "")
                figures.append(
                    {"kind": kind, "call": call, "wall": statistics.median(wall), "cpu": statistics.median(cpu)}
                )
    for row in sorted(figures, key=lambda row: float(str(row["cpu"]))):
        print(f"{row['kind']:<8} {row['wall']:6.2f} s wall {row['cpu']:6.2f} s CPU   {row['call']}")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
