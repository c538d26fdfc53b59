"""Evaluate a trained fold: every line and quadrant, beside the baselines, with intervals.

    python distributed/evaluate.py --run runs/NAME

Temperature, bias and threshold are chosen on the validation line and frozen; then the test line, the training lines on
held-out chromosomes and a sample of the training pairs are scored on the road training used. The report also says what
became of the predictions R90-R93; other seeds of the run (--beside) and a search (--search) let it say more. What the
environment adds it can only say beside a model trained without one (--without-environment).
Writes report.html (one page for a browser), report.json, predictions.parquet and calibration.json into RUN/report.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_pipeline.errors import command_line

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    run: Annotated[Path, typer.Option(help="Folder of a trained run.")],
    out: Annotated[Path | None, typer.Option(help="Where the report goes; default RUN/report.")] = None,
    draws: Annotated[int, typer.Option(help="Bootstrap draws.", min=100, max=100_000)] = 1000,
    pairs_per_group: Annotated[int, typer.Option(help="Most pairs scored per line and quadrant.", min=50)] = 20_000,
    beside: Annotated[
        list[Path] | None, typer.Option(help="Other seeds of the run, whose gates count for R90.")
    ] = None,
    search: Annotated[Path | None, typer.Option(help="Folder of a search of the loss weights, for R93.")] = None,
    without_environment: Annotated[
        Path | None, typer.Option(help="Run of the same fold trained without environment: what the environment adds.")
    ] = None,
) -> None:
    """Print the quadrant table of a run and write its report."""
    from distributed.run_folder import require_record

    for folder in (run, *(beside or []), *([without_environment] if without_environment else [])):
        require_record("run", folder, "run.json")
    # These take seconds to import; --help and mistakes in the call are answered before.
    from rich.console import Console

    from distributed.fold_evaluation import evaluate
    from evaluation import EvaluationSettings

    asked, console = EvaluationSettings(draws=draws), Console(width=140)
    folder = out or run / "report"
    evaluate(run, folder, asked, pairs_per_group, console, beside or (), search, without_environment)


if __name__ == "__main__":
    command_line(app)
