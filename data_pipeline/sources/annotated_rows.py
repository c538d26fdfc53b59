"""Rows of pairs beside the annotation: genes get their other name and strand, rows without a place get their TSS.

Where a table gives both, its TSSs are compared with the annotation's: a table of another genome build would otherwise
become pairs at wrong places, of which nothing tells.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_pipeline.errors import UserError
from data_pipeline.sources.annotation import Genes, gene_names
from data_pipeline.sources.numbers_as_text import whole_numbers

NEAR = 1_000
"""Bases between a table's TSS and the annotation's up to which they are of one promoter."""
FEWEST_NEAR = 0.2
"""Share of near TSSs below which two builds are different; of the right build half and more are near."""
FEWEST_COMPARED = 5
STRAND_TEXT = np.array([".", "+", "-"], dtype=object)
"""Indexed by the strand as a number."""


class TssComparison:
    """Which genes of the annotation the tables have where, by file."""

    def __init__(self) -> None:
        """Start empty."""
        self._near: dict[int, dict[int, bool]] = {}

    def add(self, file: int, cells: pd.DataFrame, genes: Genes, found: NDArray[np.int64]) -> None:
        """Compare the TSSs that rows of `file` give with those of the genes `found` (k,), -1 for none."""
        given = whole_numbers(cells["tss"]).to_numpy()
        rows = np.flatnonzero((found >= 0) & ~np.isnan(given))
        near = np.abs(given[rows] - genes.tss[found[rows]]) <= NEAR
        self._near.setdefault(file, {}).update(zip(found[rows].tolist(), near.tolist(), strict=True))

    def require_agreement(self, file: int, path: Path, annotation: Path) -> None:
        """Raise `UserError` where hardly any gene of `file` has its TSS where the annotation has it."""
        compared = self._near.get(file, {})
        near = sum(compared.values())
        if len(compared) >= FEWEST_COMPARED and near < FEWEST_NEAR * len(compared):
            raise UserError(
                f"{path} has the TSS of only {near} of {len(compared)} genes within {NEAR} bp of where {annotation} "
                "has it, so the two are of different genome builds: give the annotation of the table's build, or "
                "`lift` the table"
            )


def named(cells: pd.DataFrame) -> pd.DataFrame:
    """`cells` with symbols and identifiers written in one way."""
    if (cells[["symbol", "gene_id"]] == "").all(axis=None):
        return cells
    symbol, gene_id = gene_names(cells["symbol"], cells["gene_id"])
    return cells.assign(symbol=symbol, gene_id=gene_id)


def completed(cells: pd.DataFrame, genes: Genes, found: NDArray[np.int64]) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """`cells` completed from the genes `found` (k,), and (k,) bool rows with a gene that has no place and is not known.

    What a row says itself is left as it is.
    """
    nowhere = (cells[["promoter_start", "promoter_end", "tss"]] == "").all(axis=1).to_numpy()
    named_rows = (cells[["symbol", "gene_id"]] != "").any(axis=1).to_numpy()
    known = np.flatnonzero(found >= 0)
    rows = found[known]
    told = {
        "symbol": genes.symbol[rows],
        "gene_id": genes.gene_id[rows],
        "strand": STRAND_TEXT[genes.strand[rows]],
        "promoter_chrom": np.where(nowhere[known], genes.chrom[rows], ""),
        "tss": np.where(nowhere[known], genes.tss[rows].astype(str).astype(object), ""),
    }
    columns: dict[str, NDArray[np.object_]] = {}
    for key, values in told.items():
        own = cells[key].to_numpy(object).copy()
        own[known] = np.where(own[known] == "", values, own[known])
        columns[key] = own
    return cells.assign(**columns), nowhere & named_rows & (found < 0)
