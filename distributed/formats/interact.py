"""Format `interact`: called pairs for the UCSC Genome Browser, sorted, with the autoSql text that bigInteract needs.

    a549.bed    bed5+13 without a track line: `bedToBigBed -type=bed5+13 -as=a549.as -tab a549.bed chrom.sizes a549.bb`
    a549.as     names and types of the columns

Rows are kept in an Arrow file beside the result until the last is there, then written in the order of chromosome and
start; memory is 12 bytes per kept row. A pair on two chromosomes stands twice, once at each end, as the format asks.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_pipeline.durable import FullDiskNamed, draft_of, write_durably
from distributed.formats.names import without_ending
from distributed.formats.output_format import Format
from distributed.formats.subject import Batch
from distributed.formats.table_file import TableFile

ROWS_AT_A_TIME = 1 << 16
COLUMNS = (
    ("string", "chrom", "Chromosome of the pair, or of this end of a pair on two chromosomes"),
    ("uint", "chromStart", "First base of the pair, or of this end"),
    ("uint", "chromEnd", "One past the last base"),
    ("string", "name", "Enhancer/gene"),
    ("uint", "score", "1000 times the probability"),
    ("double", "value", "Probability that enhancer and gene interact"),
    ("string", "exp", "Cell line"),
    ("string", "color", "0: shaded by score"),
    ("string", "sourceChrom", "Chromosome of the enhancer"),
    ("uint", "sourceStart", "First base of the enhancer"),
    ("uint", "sourceEnd", "One past its last base"),
    ("string", "sourceName", "Name of the enhancer"),
    ("string", "sourceStrand", "No strand"),
    ("string", "targetChrom", "Chromosome of the gene"),
    ("uint", "targetStart", "Transcription start site"),
    ("uint", "targetEnd", "One base further"),
    ("string", "targetName", "Gene"),
    ("string", "targetStrand", "Strand of the gene"),
)
"""Type, name and meaning of each column; types and names are those of UCSC's interact.as."""
_ARROW = {"string": pa.string(), "uint": pa.int64(), "double": pa.float64()}
SCHEMA = pa.schema([(name, _ARROW[kind]) for kind, name, _ in COLUMNS])
AUTO_SQL = "\n".join(
    ["table interact", '"Enhancer-gene interactions predicted by prism-epi"', "    (",
     *(f'    {kind} {name}; "{meaning}"' for kind, name, meaning in COLUMNS), "    )", ""]
)  # fmt: skip
_STRANDS = {1: "+", -1: "-", 0: "."}


class InteractFormat(Format):
    """Pairs that reach the threshold, sorted."""

    @property
    def files(self) -> list[Path]:
        """The rows and what their columns are."""
        stem, _ = without_ending(self.file)
        return [self.file, self.file.with_name(f"{stem}.as")]

    def start(self, opened: ExitStack) -> None:
        """Open the result and the file of unsorted rows."""
        self._table = opened.enter_context(TableFile(self.file, SCHEMA, header=False))
        self._unsorted = draft_of(self.file)
        opened.callback(self._unsorted.unlink, missing_ok=True)
        self._writer = opened.enter_context(pa.ipc.new_file(str(self._unsorted), SCHEMA))
        self._chrom: list[NDArray[np.int32]] = []
        self._start: list[NDArray[np.int64]] = []
        self._chroms: dict[str, int] = {}

    def write(self, batch: Batch) -> None:
        """Keep the rows that reach the threshold."""
        table = self._rows(batch.kept())
        with FullDiskNamed(self.file):
            self._writer.write_table(table)
        chrom = table["chrom"].combine_chunks().dictionary_encode()
        codes = [self._chroms.setdefault(name, len(self._chroms)) for name in chrom.dictionary.to_pylist()]
        self._chrom.append(np.array(codes, dtype=np.int32)[chrom.indices.to_numpy()])
        self._start.append(table["chromStart"].to_numpy())

    def finish(self) -> None:
        """Write the kept rows in order."""
        with FullDiskNamed(self.file):
            self._writer.close()
        order = np.empty(0, dtype=np.int64)
        if self._chrom:
            # By name as `sort -k1,1` with bytes does, which is what bedToBigBed wants.
            rank = np.argsort(np.argsort(np.array(list(self._chroms), dtype=object).astype(bytes)))
            order = np.lexsort((np.concatenate(self._start), rank[np.concatenate(self._chrom)]))
        with pa.memory_map(str(self._unsorted)) as source:
            kept = pa.ipc.open_file(source).read_all()
            for first in range(0, len(order), ROWS_AT_A_TIME):
                self._table.write(kept.take(pa.array(order[first : first + ROWS_AT_A_TIME])))
            del kept
        write_durably(self.files[1], AUTO_SQL)

    def _rows(self, kept: Batch) -> pa.Table:
        store, catalogue = self.subject.store, self.subject.catalogue
        promoter = store.pairs.promoter[kept.rows]
        tss = catalogue.tss[promoter]
        target = catalogue.targets.take(pa.array(promoter))
        strand = np.array([_STRANDS[sign] for sign in catalogue.promoters.strand[promoter].tolist()], dtype=object)
        source = [kept[name].to_numpy() for name in ("enhancer_chrom", "enhancer_start", "enhancer_end")]
        there = kept["promoter_chrom"].to_numpy()
        probability = kept.probability
        named = [f"{e}/{g}" for e, g in zip(kept["enhancer"].to_pylist(), target.to_pylist(), strict=True)]
        shared = {
            "name": named,
            "score": np.rint(1000 * probability).astype(np.int64),
            "value": probability,
            "exp": kept["line"],
            "color": np.full(len(tss), "0", dtype=object),
            "sourceChrom": source[0],
            "sourceStart": source[1],
            "sourceEnd": source[2],
            "sourceName": kept["enhancer"],
            "sourceStrand": np.full(len(tss), ".", dtype=object),
            "targetChrom": there,
            "targetStart": tss,
            "targetEnd": tss + 1,
            "targetName": target,
            "targetStrand": strand,
        }
        same = source[0] == there
        whole = {
            "chrom": source[0],
            "chromStart": np.where(same, np.minimum(source[1], tss), source[1]),
            "chromEnd": np.where(same, np.maximum(source[2], tss + 1), source[2]),
        }
        table = pa.table(whole | shared, schema=SCHEMA)
        if same.all():
            return table
        other = pa.table({"chrom": there, "chromStart": tss, "chromEnd": tss + 1} | shared, schema=SCHEMA)
        return pa.concat_tables([table, other.filter(pa.array(~same))])
