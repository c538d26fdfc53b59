"""Look into a store: `python data_pipeline/inspect_store.py STORE` checks every sha256 and prints what is in it.

Costs one read of the store's files and one pass over its pairs; `--json` prints the same for machines.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data_pipeline.errors import command_line
from data_pipeline.store_folder import require_store

if TYPE_CHECKING:
    from rich.console import Console

    from data_pipeline.store import Store


def verified(path: Path, console: Console) -> Store:
    """Open the store at `path` after checking every checksum, with a progress bar on a terminal.

    Raises `UserError` naming the first broken file.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from data_pipeline.store import Store, read_manifest

    total = sum(record.bytes for record in read_manifest(path).files.values())
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("verifying", total=total)
        return Store.open(path, verify="full", progress=lambda count: bar.advance(task, count))


def main(
    store: Annotated[Path, typer.Argument(help="folder of the store")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of tables")] = False,
) -> None:
    """Verify a store's checksums and print what is in it."""
    require_store(store)
    # These take a second to import; --help and mistakes in the call are answered before.
    import json

    from rich.console import Console

    from data_pipeline.store import print_summary, summarise

    opened = verified(store, Console(stderr=True))
    if as_json:
        print(json.dumps(summarise(opened), indent=1))
        return
    console = Console()
    print_summary(opened, console)
    console.print(f"{len(opened.manifest.files)} files verified: every sha256 matches", highlight=False)


if __name__ == "__main__":
    command_line(lambda: typer.run(main))
