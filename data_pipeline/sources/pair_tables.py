"""Reading pair tables: every format becomes the same columns of text.

One generator per format, listed in `READERS`. Nothing is judged here beyond the number of
fields: `pair_rows` decides which rows are good. Every physical line is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_pipeline.sources.crispr_source import CrisprTable
from data_pipeline.sources.crispr_tables import crispr_cells
from data_pipeline.sources.element_names import NAMED_INTERVAL
from data_pipeline.sources.field_formats import AbcTable, EncodeRe2gTable, Sce2gTable
from data_pipeline.sources.gene_places import read_gene_places
from data_pipeline.sources.genome import ChromNames
from data_pipeline.sources.scored_tables import scored_cells
from data_pipeline.sources.settings import (
    BedpeTable,
    BengiTable,
    CsvTable,
    PairColumns,
    PairSource,
    SequenceTables,
    TargetFinderTable,
)
from data_pipeline.sources.text_tables import BROWSER, COMMA, SEMICOLON, TAB, Chunk, Tally, column, read_chunks

Advance = Callable[[int], None] | None
SIGNAL = "signal:"
"""Prefix of the cells that hold signals of the pair."""
SEPARATORS = {"comma": COMMA, "tab": TAB, "semicolon": SEMICOLON}
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
PROMOTER_SPAN = ("promoter_start", "promoter_end")
"""Keys of the promoter's interval, and the names of their columns unless the settings say otherwise."""
BENGI_PROMOTER = r"^[^:|]*:(?P<tss>\d+)-\d+\|(?P<line>[^|]*)\|.*\|(?P<strand>[^|]*)$"


@dataclass(frozen=True)
class RawPairs:
    """A chunk of pairs as text, with their physical lines."""

    cells: pd.DataFrame
    """(k, ...) text: enhancer_* and promoter_* name, chrom, start, end; gene, tss, strand, label, line. "" = not given.

    `gene` is what the source calls the promoter, where it tells promoters of one place apart; `symbol` and `gene_id`
    are the names of the gene, where the source knows it. A source may also tell `distance` (its own instead of that
    between the two places), `weight`, `effect` and `signal:NAME`, numbers as text.
    """
    line_number: NDArray[np.int64]
    """(k,) physical line of each row, from 1."""
    rejected: dict[str, NDArray[np.int64]]
    """Physical lines of rows that could not be split into fields, by reason."""


def read_pairs(source: PairSource, path: Path, tally: Tally, advance: Advance = None) -> Iterator[RawPairs]:
    """Yield the rows of any source; raises `UserError` where the file is no table of its format."""
    for cells, chunk in READERS[type(source)](source, path, tally, advance):
        for key in ("symbol", "gene_id"):
            if key not in cells:
                cells[key] = ""
        if source.line is not None:
            cells["line"] = source.line
        if not source.labels:
            cells["label"] = ""
        yield RawPairs(cells, chunk.line_number, chunk.rejected)


def _coordinate_cells(source: PairSource, path: Path, chunk: Chunk, columns: PairColumns) -> pd.DataFrame:
    wanted: dict[str, Any] = columns.model_dump()
    if not source.labels:
        wanted["label"] = None
    if source.line is not None:
        wanted["line"] = None
    if columns.tss is not None and not set(PROMOTER_SPAN) & set(chunk.cells.columns):
        # A table of genes by their TSS has no promoter interval; one is made from the TSS.
        wanted |= {key: None for key in PROMOTER_SPAN if wanted[key] == key}
    if (columns.gene or columns.gene_id) and columns.tss is None:
        # Nor has a table of genes by name, whose TSSs are in the annotation.
        absent = {"promoter_chrom", *PROMOTER_SPAN} - set(chunk.cells.columns)
        wanted |= {key: None for key in absent if wanted[key] == key}
    return _cells(path, chunk, wanted).rename(columns={"gene": "symbol"})


def _called_by_gene(cells: pd.DataFrame) -> pd.DataFrame:
    """`cells` whose promoters are called by their name, or else by their gene."""
    name = cells["promoter_name"]
    for key in ("symbol", "gene_id"):
        name = name.where(name != "", cells[key])
    return cells.assign(promoter_name=name, gene=name)


def _cells(path: Path, chunk: Chunk, wanted: dict[str, Any]) -> pd.DataFrame:
    empty = pd.Series("", index=chunk.cells.index, dtype=str)
    return pd.DataFrame({name: empty if key is None else column(chunk, path, key) for name, key in wanted.items()})


def _bengi(source: BengiTable, path: Path, tally: Tally, advance: Advance) -> Iterator[tuple[pd.DataFrame, Chunk]]:
    for chunk in read_chunks(path, TAB, header=False, tally=tally, width=10, advance=advance):
        cells = _coordinate_cells(source, path, chunk, BENGI_COLUMNS)
        told = cells["promoter_name"].str.extract(BENGI_PROMOTER).fillna("")
        # Rows are transcripts; those with one TSS are one promoter, whatever their names.
        yield cells.assign(gene="", tss=told["tss"], line=told["line"], strand=told["strand"]), chunk


def _targetfinder(
    source: TargetFinderTable, path: Path, tally: Tally, advance: Advance
) -> Iterator[tuple[pd.DataFrame, Chunk]]:
    columns = PairColumns(enhancer_name="enhancer_name", promoter_name="promoter_name")
    for chunk in read_chunks(path, COMMA, header=True, tally=tally, advance=advance):
        cells = _coordinate_cells(source, path, chunk, columns)
        yield cells.assign(gene="", line=cells["enhancer_name"].str.extract(r"^([^|]*)", expand=False)), chunk


def _bedpe(source: BedpeTable, path: Path, tally: Tally, advance: Advance) -> Iterator[tuple[pd.DataFrame, Chunk]]:
    for chunk in read_chunks(path, BROWSER, header=False, tally=tally, advance=advance):
        cells = _coordinate_cells(source, path, chunk, source.columns)
        yield _called_by_gene(cells), chunk


def _csv(source: CsvTable, path: Path, tally: Tally, advance: Advance) -> Iterator[tuple[pd.DataFrame, Chunk]]:
    for chunk in read_chunks(path, SEPARATORS[source.separator], header=True, tally=tally, advance=advance):
        cells = _coordinate_cells(source, path, chunk, source.columns)
        yield _called_by_gene(cells), chunk


def _named(source: SequenceTables, path: Path, tally: Tally, advance: Advance) -> Iterator[tuple[pd.DataFrame, Chunk]]:
    for chunk in read_chunks(path, COMMA, header=True, tally=tally, advance=advance):
        wanted: dict[str, Any] = source.columns.model_dump()
        wanted |= {} if source.labels else {"label": None}
        wanted |= {} if source.line is None else {"line": None}
        cells = _cells(path, chunk, wanted | {"tss": None, "strand": None})
        for kind in ("enhancer", "promoter"):
            interval = cells[f"{kind}_name"].str.extract(NAMED_INTERVAL).fillna("")
            for part in ("chrom", "start", "end"):
                cells[f"{kind}_{part}"] = interval[part]
        yield cells.assign(gene=cells["promoter_name"]), chunk


def _crispr(source: CrisprTable, path: Path, tally: Tally, advance: Advance) -> Iterator[tuple[pd.DataFrame, Chunk]]:
    genes = read_gene_places(Path(source.genes), ChromNames({})) if source.genes else None
    for cells, signals, chunk in crispr_cells(source, path, tally, advance, genes):
        yield pd.concat([cells, signals.astype(str).add_prefix(SIGNAL)], axis=1), chunk


Reader = Callable[[Any, Path, Tally, Advance], Iterator[tuple[pd.DataFrame, Chunk]]]
READERS: dict[type[PairSource], Reader] = {
    BengiTable: _bengi,
    TargetFinderTable: _targetfinder,
    BedpeTable: _bedpe,
    CsvTable: _csv,
    SequenceTables: _named,
    AbcTable: scored_cells,
    EncodeRe2gTable: scored_cells,
    Sce2gTable: scored_cells,
    CrisprTable: _crispr,
}
"""The reader of each kind of source."""
