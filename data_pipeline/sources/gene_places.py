"""Where a pair stands among annotated genes: which of them lie between its two ends, and which are nearer.

Counted in a gene annotation and never among the genes of a table: which ones a screen measured tells its result.
Read is a BED whose header names its columns, one window around the TSS per gene (as ABC publishes them).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_pipeline.errors import UserError
from data_pipeline.sources.genome import ChromNames

GENE_COLUMNS = (
    "genes_between",
    "genes_nearer_to_element",
    "genes_nearer_to_tss",
    "gap_element_to_gene",
    "gap_tss_to_gene",
)
"""TSSs strictly between; nearer to the element than this gene's is; nearer to this TSS than the element is; bp from the
element to the nearest TSS; bp from this TSS to the next one."""
SAME = 300
"""TSSs within so many bp of one another are one place: annotations differ by that much."""
FARTHEST = 1_000_000
"""A gap is never told as larger, in bp."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GenePlaces:
    """TSSs of an annotation."""

    chroms: ChromNames
    by_chrom: dict[str, Floats]
    """Ascending distinct TSSs of each chromosome, in bp."""
    by_name: dict[str, float]
    """TSS of a gene by its Ensembl identifier, and by its symbol."""

    def around(self, chrom: pd.Series, centre: Floats, tss: Floats, distance: Floats, genes: pd.DataFrame) -> Floats:
        """(k, 5) `GENE_COLUMNS` of pairs: chromosome and middle (k,) of the element, TSS (k,) or NaN, bp (k,) apart.

        The gene's own TSS is that of the annotation (`genes` has `gene_id` and `symbol`), else that of the table,
        else the place at the table's distance to the right. NaN on chromosomes without an annotated gene.
        """
        own = genes["gene_id"].map(self.by_name).fillna(genes["symbol"].map(self.by_name)).to_numpy(np.float64)
        own = np.where(np.isnan(own), tss, own)
        own = np.where(np.isnan(own), centre + distance, own)
        found = np.full((len(chrom), len(GENE_COLUMNS)), np.nan)
        names = self.chroms.canonical_column(chrom).to_numpy(object)
        for name in set(names) & set(self.by_chrom):
            here = np.flatnonzero(names == name)
            found[here] = _counted(self.by_chrom[name], centre[here], own[here])
        return found


def read_gene_places(path: Path, chroms: ChromNames) -> GenePlaces:
    """The annotation at `path`; raises `UserError` where a column is missing."""
    table = pd.read_csv(path, sep="\t", dtype=str, encoding="utf-8", keep_default_na=False).rename(
        columns=lambda name: name.lstrip("#").lower()
    )
    wanted = ("chr", "start", "end", "name", "ensembl_id")
    if missing := [name for name in wanted if name not in table]:
        raise UserError(f"{path} has no column {', '.join(missing)}; its header must name {', '.join(wanted)}")
    tss = (pd.to_numeric(table["start"]) + pd.to_numeric(table["end"])) // 2
    chrom = chroms.canonical_column(table["chr"])
    by_chrom = {str(name): np.unique(part.to_numpy(np.float64)) for name, part in tss.groupby(chrom)}
    by_name: dict[str, float] = {}
    for key in ("ensembl_id", "name"):
        first = ~table[key].duplicated() & (table[key] != "")
        by_name = dict(zip(table.loc[first, key], tss[first].astype(float), strict=True)) | by_name
    return GenePlaces(chroms, by_chrom, by_name)


def _counted(genes: Floats, centre: Floats, own: Floats) -> Floats:
    """(k, 5) `GENE_COLUMNS` of pairs on one chromosome with TSSs `genes` (g,) ascending."""
    reach = np.abs(own - centre)
    low, high = np.minimum(own, centre), np.maximum(own, centre)
    nearest = _nearest(genes, centre)
    left = genes[np.maximum(np.searchsorted(genes, own - SAME) - 1, 0)]
    right = genes[np.minimum(np.searchsorted(genes, own + SAME, side="right"), len(genes) - 1)]
    gaps = [np.where(np.abs(side - own) > SAME, np.abs(side - own), FARTHEST) for side in (left, right)]
    return np.stack(
        [
            _inside(genes, low, high),
            _inside(genes, centre - reach, centre + reach),
            np.maximum(_inside(genes, own - reach, own + reach) - _inside(genes, own - 2 * SAME, own + 2 * SAME), 0),
            np.minimum(nearest, FARTHEST),
            np.minimum(np.minimum(*gaps), FARTHEST),
        ],
        axis=1,
    )


def _inside(genes: Floats, low: Floats, high: Floats) -> Floats:
    """(k,) TSSs in (low, high) that are further than `SAME` from both ends."""
    count = np.searchsorted(genes, high - SAME) - np.searchsorted(genes, low + SAME, side="right")
    return np.maximum(count, 0).astype(np.float64)


def _nearest(genes: Floats, places: Floats) -> Floats:
    """(k,) bp from `places` to the nearest TSS."""
    after = np.searchsorted(genes, places)
    left, right = genes[np.maximum(after - 1, 0)], genes[np.minimum(after, len(genes) - 1)]
    return np.minimum(np.abs(places - left), np.abs(places - right))
