"""Genes of a genome as their transcription start sites: which genes there are, where they start, what they are called.

Read are BED with a header that names its columns (ABC's `CollapsedGeneBounds...TSS500bp.bed` and `GeneList.txt`), BED6
without one, GTF and GFF3 (rows whose feature is `gene`). A TSS is, in this order: the column `tss`; the centre of
the interval, where all intervals of the file are equally long (and no longer than 10 kb), because then they are windows
around the TSS; else the interval's 5' end. Every line is a gene, passed over, or in quarantine with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_pipeline.errors import UserError, listed
from data_pipeline.sources.gene_settings import GeneColumns, GeneSettings
from data_pipeline.sources.genome import ChromNames
from data_pipeline.sources.numbers_as_text import MISSING, whole_numbers
from data_pipeline.sources.quarantine import Quarantine
from data_pipeline.sources.text_tables import (
    BROWSER,
    HEADED_BED,
    Chunk,
    Dialect,
    Tally,
    column,
    header_names,
    read_chunks,
)
from data_pipeline.store import STRANDS

Advance = Callable[[int], None] | None
GTF = Dialect("\t", comments=("#",))
RECOGNISED: dict[str, tuple[str, ...]] = {
    "chrom": ("chr", "chrom", "chromosome", "seqnames"),
    "start": ("start", "chromstart", "txstart"),
    "end": ("end", "chromend", "txend"),
    "tss": ("tss",),
    "strand": ("strand",),
    "symbol": ("symbol", "gene", "gene_name", "name"),
    "gene_id": ("ensembl_id", "gene_id", "ensembl"),
    "kind": ("gene_type", "gene_biotype", "biotype"),
}
"""Names (lower case, without #) under which a header has each column, the first that is there counts."""
BED_COLUMNS = GeneColumns(chrom=1, start=2, end=3, symbol=4, strand=6)
BED_NAME = 4
ATTRIBUTES = {
    "gene_id": r'(?:^|[;\s])(?:gene_id[ =]"?|ID=gene:)([^";\s]+)',
    "symbol": r'(?:^|[;\s])(?:gene_name[ =]"?|gene[ =]"?|Name=)([^";]+)',
    "kind": r'(?:^|[;\s])(?:gene_type|gene_biotype|biotype)[ =]"?([^";\s]+)',
}
"""Where column 9 of GTF and GFF3 keeps what is wanted, as GENCODE, Ensembl and RefSeq write it."""
ENSEMBL = r"^(ENS[A-Z]*G\d+)(?:\.\d+)?(?:_PAR_Y)?$"
LONGEST_WINDOW = 10_000
"""Bases up to which intervals of one length are windows around a TSS, not genes."""


@dataclass(frozen=True)
class Genes:
    """Genes in the order of chromosome (as text) and TSS; every array is (n,)."""

    chrom: NDArray[np.object_]
    """Chromosome, as the store names it."""
    tss: NDArray[np.int64]
    """0-based transcription start site."""
    strand: NDArray[np.int8]
    """1 plus, -1 minus, 0 unknown."""
    symbol: NDArray[np.object_]
    """Gene symbol; "" unknown."""
    gene_id: NDArray[np.object_]
    """Ensembl identifier without version; "" unknown."""
    kind: NDArray[np.object_]
    """Gene type (`protein_coding`, `lincRNA`, ...); "" unknown."""

    def __len__(self) -> int:
        """Number of genes."""
        return len(self.tss)

    @cached_property
    def chroms(self) -> list[str]:
        """Chromosomes that have genes."""
        return list(pd.unique(self.chrom))

    def on(self, chrom: str) -> slice:
        """The genes of a chromosome, by rising TSS; an empty slice where there are none."""
        return self._slices.get(chrom, slice(0, 0))

    def lookup(self, gene_id: pd.Series, symbol: pd.Series) -> NDArray[np.int64]:
        """(k,) int64 gene of each identifier, or of the symbol where that is not known; -1 for neither."""
        place = gene_id.map(self._places("gene_id")).fillna(symbol.map(self._places("symbol")))
        return place.fillna(-1).to_numpy(np.int64)

    @cached_property
    def _slices(self) -> dict[str, slice]:
        if not len(self):
            return {}
        starts = np.flatnonzero(np.r_[True, self.chrom[1:] != self.chrom[:-1]])
        return {
            str(self.chrom[a]): slice(int(a), int(b)) for a, b in zip(starts, [*starts[1:], len(self)], strict=True)
        }

    def _places(self, key: str) -> pd.Series:
        names = pd.Series(np.arange(len(self)), index=pd.Index(getattr(self, key)))
        # Of several rows under one name (a gene of both X and Y) the first counts.
        return names[~names.index.duplicated() & (names.index != "")]


def read_genes(
    path: Path, shown: str, settings: GeneSettings, names: ChromNames, quarantine: Quarantine, advance: Advance = None
) -> Genes:
    """The genes of an annotation file; `shown` is its name for the quarantine.

    Raises `UserError` where the file is no annotation, has no gene, or over `settings.max_bad_fraction` bad rows.
    """
    file, tally = quarantine.register(shown, path), Tally()
    parts, passed = [], 0
    for cells, chunk in _cells(path, settings, tally, advance):
        for reason, lines in chunk.rejected.items():
            quarantine.reject(file, reason, lines)
        passed += len(chunk.cells) - len(cells)
        parts.append(_judged(cells, file, quarantine))
    rows = _with_tss(pd.concat(parts, ignore_index=True), path, file, quarantine)
    quarantine.require_whole(file, tally, {"genes": len(rows), "other features": passed})
    quarantine.check(file, tally.rows - passed, settings.max_bad_fraction)
    if rows.empty:
        raise UserError(
            f"{path} has no gene among its {tally.rows} rows; give a BED of TSS, or GTF with rows of `gene`"
        )
    return _sorted(rows, names)


def _cells(path: Path, settings: GeneSettings, tally: Tally, advance: Advance) -> Iterator[tuple[pd.DataFrame, Chunk]]:
    """chrom, start, end, tss, strand, symbol, gene_id, kind and row (physical line), all text but the last."""
    if _is_gtf(path):
        for chunk in read_chunks(path, GTF, header=False, tally=tally, width=9, advance=advance):
            genes = (chunk.cells[3] == "gene").to_numpy()
            yield _gtf_cells(chunk.cells[genes]).assign(row=chunk.line_number[genes]), chunk
        return
    header = header_names(path, {name for options in RECOGNISED.values() for name in options})
    columns = settings.columns or (_recognised(path, header) if header else BED_COLUMNS)
    dialect = HEADED_BED if header else BROWSER
    for chunk in read_chunks(path, dialect, header=bool(header), tally=tally, advance=advance):
        chunk.cells.columns = [str(name).removeprefix("#") if header else name for name in chunk.cells.columns]
        wanted = columns.model_dump()
        if not settings.columns and not header:
            if chunk.cells.shape[1] < BED_NAME:
                raise UserError(
                    f"{path} has {chunk.cells.shape[1]} columns; genes in BED have at least {BED_NAME}, separated by "
                    "tabs: chromosome, start, end, name"
                )
            wanted = {key: at if at and at <= chunk.cells.shape[1] else None for key, at in wanted.items()}
        cells = {
            key: pd.Series("", index=chunk.cells.index) if at is None else column(chunk, path, at)
            for key, at in wanted.items()
        }
        yield pd.DataFrame(cells).assign(row=chunk.line_number), chunk


def _is_gtf(path: Path) -> bool:
    return Path(path.name.removesuffix(".gz")).suffix.lower() in (".gtf", ".gff", ".gff3")


def _recognised(path: Path, header: list[str]) -> GeneColumns:
    lower = [name.lower() for name in header]
    found = {
        key: next((header[lower.index(name)] for name in options if name in lower), None)
        for key, options in RECOGNISED.items()
    }
    needed = [key for key in ("chrom", "start", "end") if found[key] is None]
    if needed:
        raise UserError(f"{path} has no column for {needed[0]}; its columns are {listed(header)}: give genes.columns")
    return GeneColumns(**{key: name for key, name in found.items() if name is not None})


def _gtf_cells(rows: pd.DataFrame) -> pd.DataFrame:
    # GTF counts from 1 and includes the end.
    start = (pd.to_numeric(rows[4], errors="coerce") - 1).astype(str)
    told = {key: rows[9].str.extract(pattern, expand=False).fillna("") for key, pattern in ATTRIBUTES.items()}
    return pd.DataFrame({"chrom": rows[1], "start": start, "end": rows[5], "tss": "", "strand": rows[7], **told})


def _judged(cells: pd.DataFrame, file: int, quarantine: Quarantine) -> pd.DataFrame:
    start, end, tss = (whole_numbers(cells[key]) for key in ("start", "end", "tss"))
    wrong = ~(start < end) | ((cells["tss"] != "") & tss.isna())
    nameless = ~wrong & ((cells["chrom"] == "") | ((cells["symbol"] == "") & (cells["gene_id"] == "")))
    for reason, bad in (("bad_coordinates", wrong), ("missing_field", nameless)):
        quarantine.reject(file, reason, cells["row"].to_numpy(np.int64)[bad.to_numpy()])
    return cells.assign(start=start, end=end, tss=tss)[~(wrong | nameless)]


def _with_tss(rows: pd.DataFrame, path: Path, file: int, quarantine: Quarantine) -> pd.DataFrame:
    """`rows` with a TSS; those without tss, window and strand are quarantined."""
    length, strand = rows["end"] - rows["start"], rows["strand"].map(STRANDS).fillna(0)
    if not _is_gtf(path) and length.nunique() == 1 and length.iloc[0] <= LONGEST_WINDOW:
        told = (rows["start"] + rows["end"]) // 2
    else:
        told = rows["start"].where(strand > 0, (rows["end"] - 1).where(strand < 0))
    tss = rows["tss"].fillna(told)
    if len(rows) and tss.isna().all():
        raise UserError(
            f"{path} has intervals of different lengths and no strand, so no TSS is known; give genes.columns with "
            "`strand` or `tss`"
        )
    quarantine.reject(file, "missing_field", rows["row"].to_numpy(np.int64)[tss.isna().to_numpy()])
    return rows.assign(tss=tss, strand=strand)[tss.notna()]


def _sorted(rows: pd.DataFrame, names: ChromNames) -> Genes:
    tss, strand = rows["tss"].to_numpy(np.int64), rows["strand"].to_numpy(np.int8)
    chrom = names.canonical_column(rows["chrom"])
    symbol, gene_id = gene_names(rows["symbol"], rows["gene_id"])
    order = np.lexsort((tss, chrom.to_numpy(str)))
    columns = {"chrom": chrom, "symbol": symbol, "gene_id": gene_id, "kind": _told(rows["kind"])}
    arrays = {key: values.to_numpy(object)[order] for key, values in columns.items()}
    return Genes(tss=tss[order], strand=strand[order], **arrays)


def gene_names(symbol: pd.Series, gene_id: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Symbols and Ensembl identifiers as `Genes` has them: without versions, words for a missing one as ""."""
    symbol, gene_id = _told(symbol), _told(gene_id).str.replace(ENSEMBL, r"\1", regex=True)
    # A BED6 of identifiers has them where symbols stand in others.
    in_symbol = symbol.str.extract(ENSEMBL, expand=False)
    return symbol.where(in_symbol.isna(), ""), gene_id.where(gene_id != "", in_symbol.fillna(""))


def _told(text: pd.Series) -> pd.Series:
    return text.where(~text.str.lower().isin(MISSING), "")
