"""Format `abc`: the tables that ABC and ENCODE-rE2G write, one of all pairs and one of those above the threshold.

    a549.tsv.gz                     all pairs
    a549_threshold0.243.tsv.gz      pairs whose score reaches the threshold, which stands in the name as theirs does

Column names, order and the words of values (True and False) are ABC's where the column means the same; the score has a
name of its own. There is no `genic` and no `intergenic`: a store knows no gene bodies, so what is no promoter is
`distal`.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa

from distributed.formats.names import without_ending
from distributed.formats.output_format import Format
from distributed.formats.subject import Batch, Subject
from distributed.formats.table_file import TableFile

SCORE = "PRISM-EPI.Score"
SCHEMA = pa.schema(
    [
        ("chr", pa.string()),
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("name", pa.string()),
        ("class", pa.string()),
        ("TargetGene", pa.string()),
        ("TargetGeneTSS", pa.int64()),
        ("TargetGeneEnsembl_ID", pa.string()),
        ("distance", pa.int32()),
        ("isSelfPromoter", pa.string()),
        ("CellType", pa.string()),
        (SCORE, pa.float64()),
        (f"{SCORE}.Lower", pa.float64()),
        (f"{SCORE}.Upper", pa.float64()),
        ("PRISM-EPI.Logit", pa.float32()),
    ]
)
"""`TargetGeneTSS` is 0-based; `distance` is empty where the gene lies on another chromosome."""


class AbcFormat(Format):
    """The full table and the thresholded one."""

    def __init__(self, file: Path, subject: Subject) -> None:
        """The second file has the threshold in its name."""
        super().__init__(file, subject)
        self._thresholded = thresholded(file, subject.threshold or 0.0)

    @property
    def files(self) -> list[Path]:
        """Both tables."""
        return [self.file, self._thresholded]

    def start(self, opened: ExitStack) -> None:
        """Open both."""
        self._all, self._kept = (opened.enter_context(TableFile(file, SCHEMA)) for file in self.files)

    def write(self, batch: Batch) -> None:
        """All rows to the one, those that reach the threshold to the other."""
        table = abc_table(batch, self.subject)
        self._all.write(table)
        self._kept.write(table.filter(pa.array(batch.called)))


def thresholded(file: Path, threshold: float) -> Path:
    """`file` with the threshold, to three digits, in front of its ending."""
    stem, ending = without_ending(file)
    return file.with_name(
        f"{stem}_threshold{np.format_float_positional(threshold, 3, fractional=False, trim='-')}{ending}"
    )


def abc_table(batch: Batch, subject: Subject) -> pa.Table:
    """The rows of `batch` in ABC's columns."""
    catalogue, pairs = subject.catalogue, subject.store.pairs
    enhancer, promoter = pairs.enhancer[batch.rows], pairs.promoter[batch.rows]
    own = catalogue.overlaps_own_promoter(subject.store, batch.rows)
    columns = {
        "chr": batch["enhancer_chrom"],
        "start": batch["enhancer_start"],
        "end": batch["enhancer_end"],
        "name": batch["enhancer"],
        "class": pa.array(np.where(catalogue.is_promoter[enhancer], "promoter", "distal")),
        "TargetGene": catalogue.targets.take(pa.array(promoter)),
        "TargetGeneTSS": pa.array(catalogue.tss[promoter]),
        "TargetGeneEnsembl_ID": batch["gene_id"],
        "distance": batch["distance"],
        "isSelfPromoter": pa.array(np.where(own, "True", "False")),
        "CellType": batch["line"],
        SCORE: batch["probability"],
        f"{SCORE}.Lower": batch["probability_lower"],
        f"{SCORE}.Upper": batch["probability_upper"],
        "PRISM-EPI.Logit": batch["logit"],
    }
    return pa.table(columns, schema=SCHEMA)
