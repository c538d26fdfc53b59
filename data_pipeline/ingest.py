"""Build a store from files: `python data_pipeline/ingest.py configs/stores/real_chr20x.yaml --out stores/real_chr20x`.

Steps: read and judge every row of every pair source; cut or take the sequence of every element; drop duplicates and
conflicts; write elements, signals and pairs; make the store visible in one rename. The same files and settings give the
same checksum. A killed or failed ingest leaves no store; where too many rows are bad, they are left in
`<out>.quarantine/` to look at. Memory is a few dozen bytes per pair plus the longest chromosome.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_pipeline.errors import command_line


def main(
    store_file: Annotated[
        Path, typer.Argument(metavar="STORE_YAML", help="YAML that describes the store, see docs/data.md")
    ],
    overrides: Annotated[list[str] | None, typer.Argument(help="settings to change, key=value")] = None,
    out: Annotated[Path, typer.Option(help="folder of the new store; must not exist")] = ...,  # type: ignore[assignment]
    root: Annotated[
        Path | None, typer.Option(help="folder the YAML's file names are relative to [default: its own `root` key]")
    ] = None,
) -> None:
    """Build a store from tables, a genome, peak files and signal tables."""
    from data_pipeline.settings import load
    from data_pipeline.sources import StoreSettings
    from data_pipeline.store import Store

    settings = load(StoreSettings, [store_file], overrides or [])
    # This takes a second to import; --help and mistakes in the call are answered before.
    from rich.console import Console

    from data_pipeline.sources import ingest
    from data_pipeline.store import print_ingest_summary

    console = Console()
    manifest = ingest(settings, out, root, console)
    print_ingest_summary(Store.open(out), console)
    console.print(f"store {out}, checksum {manifest.checksum[:12]}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    command_line(lambda: typer.run(main))
