"""Pairs nobody labelled, from tables to a store: the same ingest as for training, with labels never read.

`describe_table` says what a plain table on the command line is; `ingest_unlabelled` builds the store, for that or for
any store description, at the windows the model was trained on. Rejected rows outlive the store.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from data_pipeline.errors import UserError
from data_pipeline.settings import validate
from data_pipeline.sources import StoreSettings, ingest
from data_pipeline.store import Kind, Store, print_ingest_summary
from distributed.prediction.table_formats import SUFFIXES, Format

NO_WINDOWS: dict[Kind, int] = {"enhancer": 0, "promoter": 0}


@dataclass(frozen=True)
class PairTable:
    """A table of pairs of one cell line, as the command line describes it."""

    file: Path
    """Table with coordinates, or with names where sequences are given."""
    line: str
    """Cell line of all rows."""
    genome: Sequence[Path] = ()
    """FASTA files to cut sequences from."""
    sequences: tuple[Path, Path] | None = None
    """Tables of enhancer and of promoter sequences by name."""
    format: Format | None = None
    """None: from the suffix, or `sequences` where sequences are given."""
    columns: Sequence[str] = ()
    """`key=column` for tables whose columns are named differently; a number counts from 1."""
    max_bad_fraction: float = 0.02
    """Share of rows that may be rejected."""
    genes: Path | None = None
    """Annotation, for pairs that are made with genes or name them without a place."""
    build: str = ""
    """Genome build of the coordinates, after lift-over; empty: not told."""
    chain: Path | None = None
    """Chain file from the table's build to `build`."""


def describe_table(table: PairTable) -> StoreSettings:
    """The store description of `table`; raises `UserError` where it cannot be one."""
    kind = table.format or ("sequences" if table.sequences else _format_of(table.file))
    source: dict[str, Any] = {
        "format": "csv" if kind == "tsv" else kind,
        "file": str(table.file),
        "line": table.line,
        "labels": False,
        "max_bad_fraction": table.max_bad_fraction,
    }
    if kind == "tsv":
        source["separator"] = "tab"
    if table.sequences:
        source["enhancer_sequences"], source["promoter_sequences"] = map(str, table.sequences)
    if table.columns:
        source["columns"] = dict(_column(entry) for entry in table.columns)
    if table.chain:
        if not table.build:
            raise UserError("--chain moves the pairs to another genome build; say which with --build")
        source["lift"] = {"chain": str(table.chain), "to": table.build}
    content: dict[str, Any] = {"lines": [table.line], "pairs": [source], "build": table.build}
    content["genome"] = [str(file) for file in table.genome]
    if table.genes:
        content["genes"] = {"file": str(table.genes)}
    return validate(StoreSettings, content | {"windows": NO_WINDOWS}, f"table {table.file}")


def ingest_unlabelled(
    description: StoreSettings, windows: dict[Kind, int], root: Path, out: Path, quarantine: Path, console: Console
) -> Store:
    """Build the store `description` (file names below `root`) at `out` without reading labels, at `windows`.

    Rejected rows are left in the folder `quarantine`, which is replaced. Raises `UserError` as `ingest` does.
    """
    placed = [source.file for source in description.pairs if source.format != "sequences"]
    if any(windows.values()) and placed and not description.genome:
        raise UserError(f"the model reads sequence and {placed[0]} has only coordinates; give its genome")
    content = description.model_dump(mode="json") | {"windows": windows}
    for source in content["pairs"]:
        source["labels"] = False
    settings = validate(StoreSettings, content, "description of the pairs")
    shutil.rmtree(quarantine, ignore_errors=True)
    beside = out.with_name(f"{out.name}.quarantine")
    try:
        ingest(settings, out, root, console, answer_rows=True)
    except UserError as error:
        if not beside.is_dir():
            raise
        shutil.move(beside, quarantine)
        raise UserError(str(error).replace(str(beside), str(quarantine))) from error
    store = Store.open(out)
    print_ingest_summary(store, console)
    rejected = sum(count for name, count in store.manifest.counts.items() if name.startswith("quarantine/"))
    if rejected:
        shutil.copytree(out / "quarantine", quarantine)
        console.print(
            f"{rejected} rows were rejected and are not scored; they are in {quarantine}",
            soft_wrap=True,
            highlight=False,
        )
    return store


def _format_of(file: Path) -> Format:
    suffix = Path(file.name.removesuffix(".gz")).suffix
    if suffix not in SUFFIXES:
        raise UserError(
            f"{file}: the name does not tell what kind of table it is (it may end in {', '.join(SUFFIXES)}); "
            "give --pairs-format"
        )
    return SUFFIXES[suffix]


def _column(entry: str) -> tuple[str, str | int]:
    key, equals, column = entry.partition("=")
    if not equals:
        raise UserError(f"--column '{entry}' is not of the form key=column, for example enhancer_chrom=chrom1")
    return key, int(column) if column.isdecimal() else column
