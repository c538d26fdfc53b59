"""Tables of ABC, ENCODE-rE2G and scE2G as their programs write them: an element, a gene with its TSS, and scores.

All three have the same columns by the same names, but for the Ensembl identifier, which older ABC tables lack and some
spell otherwise. The promoter is its window around the TSS. Scores and features are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from data_pipeline.errors import UserError, listed
from data_pipeline.sources.field_formats import AbcTable, EncodeRe2gTable, Sce2gTable
from data_pipeline.sources.text_tables import TAB, Chunk, Tally, column, read_chunks

ScoredTable = AbcTable | EncodeRe2gTable | Sce2gTable
NEEDED = {
    "enhancer_chrom": ("chr", "#chr", "chrom", "#chrom"),
    "enhancer_start": ("start",),
    "enhancer_end": ("end",),
    "symbol": ("TargetGene",),
    "tss": ("TargetGeneTSS",),
}
"""Columns without which a table is none of these, under each of their names."""
OPTIONAL = {
    "enhancer_name": ("name",),
    "gene_id": ("TargetGeneEnsembl_ID", "TargetGeneEnsemblID"),
    "line": ("CellType",),
}


def scored_cells(
    source: ScoredTable, path: Path, tally: Tally, advance: Callable[[int], None] | None
) -> Iterator[tuple[pd.DataFrame, Chunk]]:
    """Rows of a scored table in the columns of `RawPairs`; raises `UserError` where it is none."""
    for chunk in read_chunks(path, TAB, header=True, tally=tally, advance=advance):
        has = list(chunk.cells.columns)
        keys = {key: next((name for name in names if name in has), None) for key, names in (NEEDED | OPTIONAL).items()}
        if missing := [names[0] for key, names in NEEDED.items() if keys[key] is None]:
            raise UserError(
                f"{path} is no {source.format} table: it has no column {missing[0]}; its columns are {listed(has)}"
            )
        if source.line is None and keys["line"] is None:
            raise UserError(f"{path} has no column CellType; give the `line` of the file")
        empty = pd.Series("", index=chunk.cells.index, dtype=str)
        cells = pd.DataFrame({k: empty if name is None else column(chunk, path, name) for k, name in keys.items()})
        nothing = dict.fromkeys(("promoter_start", "promoter_end", "strand", "label"), "")
        gene = cells["symbol"]
        yield cells.assign(promoter_chrom=cells["enhancer_chrom"], promoter_name=gene, gene=gene, **nothing), chunk
