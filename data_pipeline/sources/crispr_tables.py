"""Tables of CRISPR-tested pairs, as ENCODE's benchmark of enhancer-gene predictions publishes them.

A row is a perturbed element and a measured gene: a label (`Regulated`), the effect on expression, a weight (how likely
a drop in expression is a direct effect), and the element's signals in the row's cell line. The benchmark itself drops
rows whose `ValidConnection` is anything but TRUE, where there is that column, and rows whose `Regulated` is NA; so
does this reader, with a reason each. Distances are the table's own (`distanceToTSS`): its studies used other start
sites of some genes than `startTSS` says, and a start site of 0 is one that nobody knew.

Three more columns are made from those of the row, and five from a gene annotation where one is given (`gene_places`):

    activity                      sqrt(accessibility x H3K27ac), the activity of ABC (Fulco et al. 2019)
    activity_by_distance          activity x (d / 5 kb + 1)^-1.024, ABC's contact without Hi-C, before it is a share
    log_activity_by_distance      its logarithm, which a sum can take apart

ABC's share within the candidates of a gene is not among them: which candidates a benchmark lists says what was tested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_pipeline.errors import UserError, listed
from data_pipeline.sources.crispr_source import CrisprTable
from data_pipeline.sources.gene_places import GENE_COLUMNS, GenePlaces
from data_pipeline.sources.text_tables import TAB, Chunk, Tally, column, read_chunks

CONTACT_EXPONENT, CONTACT_SCALE = -1.024, 5_000.0
"""Contact falls with distance as in ABC's own fit of average Hi-C maps; below 5 kb it is flat."""
FLOOR = 1e-3
"""Activity by distance below which its logarithm is flat: reads of a few elements are 0."""
MADE = ("activity", "activity_by_distance", "log_activity_by_distance")
TRUTHS = {"TRUE": "1", "FALSE": "0", "1": "1", "0": "0"}

Advance = Callable[[int], None] | None


def crispr_tracks(source: CrisprTable) -> list[str]:
    """Names of the pair signals that a store gets from `source`, in order."""
    return [*source.signals, *(MADE if source.made else ()), *(GENE_COLUMNS if source.genes else ())]


def crispr_cells(
    source: CrisprTable, path: Path, tally: Tally, advance: Advance, genes: GenePlaces | None
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame, Chunk]]:
    """Cells of pairs, with `distance`, `weight`, `effect`, `symbol` and `gene_id`; their signals (k, S); chunks.

    Raises `UserError` where a column is missing or a signal holds text.
    """
    for chunk in read_chunks(path, TAB, header=True, tally=tally, advance=advance):
        chunk = _valid(source, path, chunk)
        told = {key: column(chunk, path, name) for key, name in _COLUMNS.items()}
        cells = pd.DataFrame(told)
        unknown = cells["tss"] == "0"
        cells["label"] = column(chunk, path, "Regulated").str.upper().map(TRUTHS).fillna("NA")
        cells["promoter_name"] = cells["gene"] = cells["symbol"]
        cells["promoter_start"] = cells["promoter_end"] = cells["strand"] = ""
        cells["enhancer_name"] = ""
        for key, name in (("weight", source.weight), ("effect", source.effect)):
            cells[key] = column(chunk, path, name) if name else ""
        signals = _signals(source, path, chunk, cells, genes, unknown.to_numpy())
        yield cells, signals, chunk


_COLUMNS = {
    "enhancer_chrom": "chrom",
    "enhancer_start": "chromStart",
    "enhancer_end": "chromEnd",
    "promoter_chrom": "chrTSS",
    "tss": "startTSS",
    "symbol": "measuredGeneSymbol",
    "gene_id": "measuredGeneEnsemblId",
    "line": "CellType",
    "distance": "distanceToTSS",
}
"""Columns of the benchmark by the cell they fill."""


def _valid(source: CrisprTable, path: Path, chunk: Chunk) -> Chunk:
    """`chunk` without rows that the benchmark leaves out, which are rejected by reason."""
    reasons: list[tuple[str, NDArray[np.bool_]]] = []
    if "ValidConnection" in chunk.cells:
        reasons.append(
            ("invalid_connection", (column(chunk, path, "ValidConnection").str.upper() != "TRUE").to_numpy())
        )
    if source.labels:
        label = column(chunk, path, "Regulated").str.upper()
        reasons.append(("unknown_label", label.isin(["NA", "NAN", ""]).to_numpy()))
    rejected, kept = dict(chunk.rejected), np.ones(len(chunk.cells), dtype=bool)
    for reason, bad in reasons:
        rejected[reason] = np.concatenate([rejected.get(reason, chunk.line_number[:0]), chunk.line_number[kept & bad]])
        kept &= ~bad
    return Chunk(chunk.cells[kept].reset_index(drop=True), chunk.line_number[kept], rejected)


def _signals(
    source: CrisprTable,
    path: Path,
    chunk: Chunk,
    cells: pd.DataFrame,
    genes: GenePlaces | None,
    unknown: NDArray[np.bool_],
) -> pd.DataFrame:
    """(k, S) float64 signals, NaN where missing; `unknown` says which start sites the table does not know."""
    signals = pd.DataFrame({name: _numbers(column(chunk, path, name), path, name) for name in source.signals})
    distance = pd.to_numeric(cells["distance"], errors="coerce").to_numpy(np.float64)
    if source.made:
        accessibility, acetylation = (
            _numbers(column(chunk, path, name), path, name) for name in (source.accessibility, source.acetylation)
        )
        activity = np.sqrt(np.maximum(accessibility, 0) * np.maximum(acetylation, 0))
        contacted = activity * (distance / CONTACT_SCALE + 1) ** CONTACT_EXPONENT
        signals[list(MADE)] = np.stack([activity, contacted, np.log(contacted + FLOOR)], axis=1)
    if genes is not None:
        start, end, tss = (
            pd.to_numeric(cells[key], errors="coerce").to_numpy(np.float64)
            for key in ("enhancer_start", "enhancer_end", "tss")
        )
        tss[unknown] = np.nan
        centre = (start + end) // 2
        signals[list(GENE_COLUMNS)] = genes.around(cells["enhancer_chrom"], centre, tss, distance, cells)
    return signals


def _numbers(text: pd.Series, path: Path, name: str) -> NDArray[np.float64]:
    """(k,) float64 of a column of numbers or TRUE and FALSE; NaN for NA and empty cells."""
    upper = text.str.upper()
    number = pd.to_numeric(upper.map(TRUTHS).where(upper.isin(TRUTHS), text), errors="coerce")
    wrong = number.isna() & ~upper.isin(["NA", "NAN", ""])
    if wrong.any():
        raise UserError(
            f"{path}: column '{name}' holds text ({text[wrong].iloc[0]!r}); leave it out of the source's `signals` "
            f"({listed([name])})"
        )
    return number.to_numpy(np.float64)
