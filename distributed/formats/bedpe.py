"""Format `bedpe`: called pairs as arcs for IGV, in the ten columns of BEDPE as ABC writes them, without a header.

The second end is the base of the TSS. ABC's files make it an interval of no length, which BEDPE does not know.
"""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distributed.formats.output_format import Format
from distributed.formats.subject import Batch
from distributed.formats.table_file import TableFile

SCHEMA = pa.schema(
    [
        ("chrom1", pa.string()),
        ("start1", pa.int32()),
        ("end1", pa.int32()),
        ("chrom2", pa.string()),
        ("start2", pa.int64()),
        ("end2", pa.int64()),
        ("name", pa.string()),
        ("score", pa.float64()),
        ("strand1", pa.string()),
        ("strand2", pa.string()),
    ]
)
"""`name` is GENE_ENHANCER, `score` the probability."""


class BedpeFormat(Format):
    """Pairs that reach the threshold."""

    def start(self, opened: ExitStack) -> None:
        """Open the file."""
        self._table = opened.enter_context(TableFile(self.file, SCHEMA, header=False))

    def write(self, batch: Batch) -> None:
        """The rows that reach the threshold."""
        kept = batch.kept()
        promoter = self.subject.store.pairs.promoter[kept.rows]
        tss = self.subject.catalogue.tss[promoter]
        nowhere = pa.array(np.full(len(promoter), "."), pa.string())
        columns = {
            "chrom1": kept["enhancer_chrom"],
            "start1": kept["enhancer_start"],
            "end1": kept["enhancer_end"],
            "chrom2": kept["promoter_chrom"],
            "start2": pa.array(tss),
            "end2": pa.array(tss + 1),
            "name": pc.binary_join_element_wise(
                self.subject.catalogue.targets.take(pa.array(promoter)),
                kept["enhancer"].combine_chunks(),
                "_",
            ),
            "score": kept["probability"],
            "strand1": nowhere,
            "strand2": nowhere,
        }
        self._table.write(pa.table(columns, schema=SCHEMA))
