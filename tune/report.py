"""The report of a search, made from its folder alone and as often as wanted, also while it runs.

    python tune/report.py runs/NAME

Writes report.html (one page for a browser), region.md (its tables) and region.json (all numbers): the region of
settings that do as well as the best, what matters in it, and how sure that is. Nothing is trained.
Cost: seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_pipeline.errors import command_line

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    search: Annotated[Path, typer.Argument(help="Folder of a search, finished or not.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write to; default: that of the search.")] = None,
) -> None:
    """Write the report of a search and print its answer."""
    from distributed.run_folder import require_record

    require_record("search", search, "search.json")
    # These take seconds to import; --help and mistakes in the call are answered before.
    from rich.console import Console

    from tune.search_page import sentences
    from tune.search_report import PAGE, write_search_report

    console = Console(soft_wrap=True)
    report = write_search_report(search, out)
    for sentence in sentences(report):
        console.print(f"- {sentence}", markup=False, highlight=False)
    console.print(f"report     {(out or search) / PAGE}")


if __name__ == "__main__":
    command_line(app)
