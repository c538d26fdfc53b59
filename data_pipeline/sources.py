"""Reading pair tables: every format becomes the same columns of text.

One generator per format, listed in `READERS`. Nothing is judged here beyond the number of
fields: `pair_rows` decides which rows are good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_pipeline.store_settings import (
    BedpeTable,
    BengiTable,
    CsvTable,
    PairColumns,
    PairSource,
    SequenceTables,
    TargetFinderTable,
)
from data_pipeline.text_tables import Chunk, column, read_chunks

Advance = Callable[[int], None] | None
SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";"}
BENGI_COLUMNS = PairColumns(
    label=1,
    enhancer_chrom=3,
    enhancer_start=4,
    enhancer_end=5,
    enhancer_name=6,
    promoter_chrom=7,
    promoter_start=8,
    promoter_end=9,
    promoter_name=10,
)
BENGI_PROMOTER = r"^[^:|]*:(?P<tss>\d+)-\d+\|(?P<line>[^|]*)\|.*\|(?P<strand>[^|]*)$"
NAMED_INTERVAL = r"(?:^|\|)(?P<chrom>[A-Za-z0-9_.]+):(?P<start>\d+)-(?P<end>\d+)"


@dataclass(frozen=True)
class RawPairs:
    """A chunk of pairs as text, with their physical lines."""

    cells: pd.DataFrame
    """(k, ...) text: enhancer_* and promoter_* name, chrom, start, end; tss, strand, label, line. "" = not given."""
    line_number: NDArray[np.int64]
    """(k,) physical line of each row, from 1."""
    wrong_width: NDArray[np.int64]
    """Physical lines of rows that could not be split into fields."""


def read_pairs(source: PairSource, path: Path, advance: Advance = None) -> Iterator[RawPairs]:
    """Yield the rows of any source; raises `UserError` where the file is no table of its format."""
    for cells, chunk in READERS[type(source)](source, path, advance):
        if source.line is not None:
            cells["line"] = source.line
        if not source.labels:
            cells["label"] = ""
        for kind in ("enhancer", "promoter"):
            unnamed = cells[f"{kind}_name"] == ""
            made = cells[f"{kind}_chrom"] + ":" + cells[f"{kind}_start"] + "-" + cells[f"{kind}_end"]
            cells[f"{kind}_name"] = cells[f"{kind}_name"].where(~unnamed, made)
        yield RawPairs(cells, chunk.line_number, chunk.wrong_width)


def _coordinate_cells(source: PairSource, path: Path, chunk: Chunk, columns: PairColumns) -> pd.DataFrame:
    wanted: dict[str, Any] = columns.model_dump()
    if not source.labels:
        wanted["label"] = None
    if source.line is not None:
        wanted["line"] = None
    empty = pd.Series("", index=chunk.cells.index, dtype=str)
    return pd.DataFrame(
        {name: empty if key is None else column(chunk, path, key).str.strip() for name, key in wanted.items()}
    )


def _bengi(source: BengiTable, path: Path, advance: Advance) -> Iterator[tuple[pd.DataFrame, Chunk]]:
    for chunk in read_chunks(path, "\t", header=False, width=10, advance=advance):
        cells = _coordinate_cells(source, path, chunk, BENGI_COLUMNS)
        told = cells["promoter_name"].str.extract(BENGI_PROMOTER).fillna("")
        yield cells.assign(tss=told["tss"], line=told["line"], strand=told["strand"]), chunk


def _targetfinder(source: TargetFinderTable, path: Path, advance: Advance) -> Iterator[tuple[pd.DataFrame, Chunk]]:
    columns = PairColumns(enhancer_name="enhancer_name", promoter_name="promoter_name")
    for chunk in read_chunks(path, ",", header=True, advance=advance):
        cells = _coordinate_cells(source, path, chunk, columns)
        yield cells.assign(line=cells["enhancer_name"].str.partition("|")[0]), chunk


def _bedpe(source: BedpeTable, path: Path, advance: Advance) -> Iterator[tuple[pd.DataFrame, Chunk]]:
    for chunk in read_chunks(path, "\t", header=False, comment="#", advance=advance):
        yield _coordinate_cells(source, path, chunk, source.columns), chunk


def _csv(source: CsvTable, path: Path, advance: Advance) -> Iterator[tuple[pd.DataFrame, Chunk]]:
    for chunk in read_chunks(path, SEPARATORS[source.separator], header=True, advance=advance):
        yield _coordinate_cells(source, path, chunk, source.columns), chunk


def _named(source: SequenceTables, path: Path, advance: Advance) -> Iterator[tuple[pd.DataFrame, Chunk]]:
    for chunk in read_chunks(path, ",", header=True, advance=advance):
        wanted: dict[str, Any] = source.columns.model_dump()
        wanted |= {} if source.labels else {"label": None}
        wanted |= {} if source.line is None else {"line": None}
        empty = pd.Series("", index=chunk.cells.index, dtype=str)
        given = {name: empty if key is None else column(chunk, path, key).str.strip() for name, key in wanted.items()}
        cells = pd.DataFrame(given | {"tss": empty, "strand": empty})
        for kind in ("enhancer", "promoter"):
            interval = cells[f"{kind}_name"].str.extract(NAMED_INTERVAL).fillna("")
            for part in ("chrom", "start", "end"):
                cells[f"{kind}_{part}"] = interval[part]
        yield cells, chunk


READERS: dict[type[PairSource], Callable[[Any, Path, Advance], Iterator[tuple[pd.DataFrame, Chunk]]]] = {
    BengiTable: _bengi,
    TargetFinderTable: _targetfinder,
    BedpeTable: _bedpe,
    CsvTable: _csv,
    SequenceTables: _named,
}
"""The reader of each kind of source."""
