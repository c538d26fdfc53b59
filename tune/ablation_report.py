"""The report of an ablation, made from its folder alone and as often as wanted, also while it runs.

    python tune/ablation_report.py --ablation runs/NAME

Writes report.html (one page for a browser), table.md and runs.parquet (a row per run), and prints the table. A variant
stands beside what it is compared to, on the same folds, seeds and pairs; with it stand what every mechanism did in it.
Nothing is trained.
Cost: about 0.2 s per run, quadrant and 20,000 pairs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_pipeline.errors import command_line

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    ablation: Annotated[Path, typer.Option(help="Folder of an ablation, finished or not.")],
    draws: Annotated[int, typer.Option(help="Bootstrap draws.", min=100, max=100_000)] = 1000,
) -> None:
    """Write and print the table of an ablation."""
    from distributed.run_folder import require_record

    require_record("ablation", ablation, "ablation.json")
    # These take seconds to import; --help and mistakes in the call are answered before.
    from rich.console import Console

    from tune.ablation import hand_out

    hand_out(ablation, Console(width=140), draws)


if __name__ == "__main__":
    command_line(app)
