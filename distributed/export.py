"""Export a run's best checkpoint as a folder that predicts anywhere: safetensors and JSON, no Ray, no store.

python distributed/export.py --run runs/NAME --out models/NAME
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data_pipeline.errors import command_line

if TYPE_CHECKING:
    from rich.console import Console

    from data_pipeline.episodes import SupportSize
    from distributed.prediction import ModelDescription

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def _supports(size: SupportSize) -> str:
    bounds = f"{size.most}" if size.least == size.most else f"{size.least} to {size.most}"
    return f"{bounds} pairs of the line"


def print_description(description: ModelDescription, console: Console) -> None:
    """Print what a model is and what it expects."""
    origin, windows = description.origin, description.windows
    rows = {
        "trained": f"run {origin.run}, {origin.checkpoint}, validation average precision {origin.score:.4f}",
        "lines": ", ".join(description.train_lines),
        "windows": f"enhancer {windows['enhancer']} bp, promoter {windows['promoter']} bp"
        if description.model.trunk.shape
        else "no sequence (trunk.size=none)",
        "signals": ", ".join(description.signal_names) or "none",
        "support": _supports(description.support_in_use),
    }
    if calibration := description.calibration:
        rows["calibration"] = (
            f"probability = sigmoid(logit / {calibration.temperature:.4g} + {calibration.bias:.4g}), "
            f"threshold {calibration.threshold:.4g}"
            + ("" if calibration.at_recall70 is None else f", {calibration.at_recall70:.4g} at 70% recall")
        )
    else:
        rows["calibration"] = (
            "none, so there will be logits but no probabilities; "
            f"run evaluate.py --run {shlex.quote(f'runs/{origin.run}')} and export again for them"
        )
    for name, value in rows.items():
        console.print(f"{name:<12}{value}", soft_wrap=True, highlight=False)


@app.command()
def main(
    run: Annotated[Path, typer.Option(help="Folder of a trained run.")],
    out: Annotated[Path, typer.Option(help="Folder of the exported model; must not exist.")],
) -> None:
    """Write the best checkpoint of a run as model.safetensors and model.json."""
    from distributed.run_folder import require_record

    require_record("run", run, "run.json")
    # These take seconds to import; --help and mistakes in the call are answered before.
    from rich.console import Console

    from distributed.prediction import open_run, write_export

    console = Console()
    deployment = open_run(run)
    write_export(deployment, out)
    description = deployment.description
    print_description(description, console)
    console.print(f"{'exported':<12}{out}, checksum {description.checksum[:12]}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    command_line(app)
