"""Formats `per_gene` and `per_enhancer`: one row per gene, or enhancer, of a line, modelled on ABC's gene statistics.

A gene with several TSSs is one gene: an enhancer counts once for it, with the TSS that scores highest. Counts of called
pairs leave out a gene's own promoter (ABC's distal enhancers). Memory is some tens of bytes per gene or enhancer of a
line; rows wait on disk (`grouping`).
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import ExitStack
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from distributed.formats.catalogue import Places
from distributed.formats.grouping import ROW, Grouping
from distributed.formats.output_format import Format
from distributed.formats.subject import Batch, Subject
from distributed.formats.table_file import TableFile

_FIGURES = [("maxScore", pa.float64()), ("sumScore", pa.float64())]
GENE_SCHEMA = pa.schema(
    [
        ("CellType", pa.string()),
        ("chr", pa.string()),
        ("TargetGene", pa.string()),
        ("TargetGeneEnsembl_ID", pa.string()),
        ("TargetGeneTSS", pa.int64()),
        ("nEnhancersConsidered", pa.int64()),
        ("nDistalEnhancersPredicted", pa.int64()),
        *_FIGURES,
        ("bestEnhancer", pa.string()),
        ("bestEnhancerDistance", pa.int64()),
    ]
)
ENHANCER_SCHEMA = pa.schema(
    [
        ("CellType", pa.string()),
        ("chr", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("name", pa.string()),
        ("class", pa.string()),
        ("nGenesConsidered", pa.int64()),
        ("nGenesPredicted", pa.int64()),
        *_FIGURES,
        ("bestGene", pa.string()),
        ("bestGeneDistance", pa.int64()),
    ]
)
FOUND = np.dtype([("row", "<i8"), ("members", "<i8"), ("called", "<i8"), ("sum", "<f8"), ("max", "<f8")])
"""Of a group: the store row of its best pair, its members, those called, and sum and maximum of their scores."""


def gene_groups(subject: Subject, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], int, NDArray[np.int64]]:
    """Gene of each of the pairs `rows` (i,), number of genes, and the pair's enhancer."""
    pairs, gene = subject.store.pairs, subject.catalogue.gene
    return gene[pairs.promoter[rows]], int(gene.max()) + 1, pairs.enhancer[rows].astype(np.int64)


def enhancer_groups(subject: Subject, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], int, NDArray[np.int64]]:
    """Enhancer of each of the pairs `rows` (i,), number of enhancers, and the pair's gene."""
    store = subject.store
    gene = subject.catalogue.gene[store.pairs.promoter[rows]]
    return store.pairs.enhancer[rows].astype(np.int64), len(store.enhancers), gene


class Summary(Format):
    """Groups of pairs of a line, by the element of one kind."""

    placed = False
    schema: ClassVar[pa.Schema]

    def start(self, opened: ExitStack) -> None:
        """Open the table and the files in which rows wait."""
        self._table = opened.enter_context(TableFile(self.file, self.schema))
        self._grouping = Grouping(self.file, opened)

    def write(self, batch: Batch) -> None:
        """Put the rows down by their group."""
        group, groups, member = self.keys(batch.rows)
        rows = np.empty(len(batch.rows), dtype=ROW)
        rows["group"] = self.subject.store.pairs.line[batch.rows].astype(np.int64) * groups + group
        rows["member"], rows["score"], rows["row"] = member, batch.probability, batch.rows
        rows["own"] = self.subject.catalogue.overlaps_own_promoter(self.subject.store, batch.rows)
        rows["called"] = batch.called
        self._grouping.add(rows)

    def finish(self) -> None:
        """Write the groups in the order of line, chromosome and place."""
        parts = [np.empty(0, dtype=FOUND)]
        for rows, starts in self._grouping.groups():
            found = np.empty(len(starts), dtype=FOUND)
            score = rows["score"]
            found["members"] = np.diff(np.append(starts, len(rows)))
            found["max"] = np.maximum.reduceat(score, starts)
            found["sum"] = np.add.reduceat(score, starts)
            called = rows["called"] & ~rows["own"]
            found["called"] = np.add.reduceat(called.astype(np.int64), starts)
            group = np.repeat(np.arange(len(starts)), found["members"])
            # The first of a group's highest, so that equals do not depend on how rows were cut into files.
            best = np.lexsort((rows["row"], -score, group))[starts]
            found["row"] = rows["row"][best]
            parts.append(found)
        self._table.write(self.table(np.concatenate(parts)))

    def columns(self, row: NDArray[np.int64], found: NDArray[np.void]) -> dict[str, object]:
        """Columns that both summaries have, of groups whose best pairs are `row`."""
        store = self.subject.store
        distance = store.pairs.distance[row]
        return {
            "CellType": pa.array(store.lines).take(pa.array(store.pairs.line[row])),
            "maxScore": found["max"],
            "sumScore": found["sum"],
            "distance": pa.array(distance.astype(np.int64), mask=distance < 0),
        }

    def chrom(self, places: Places, elements: NDArray[np.int32]) -> pa.Array:
        """Names of the chromosomes of `elements`, null of those without a place."""
        names = np.array(self.subject.store.manifest.chroms, dtype=object)[places.chrom[elements]]
        return pa.array(names, pa.string(), mask=~places.known[elements])

    @abstractmethod
    def keys(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], int, NDArray[np.int64]]:
        """Group of each of the pairs `rows` (i,) within its line, number of groups, and its member in the group."""

    @abstractmethod
    def table(self, found: NDArray[np.void]) -> pa.Table:
        """The finished rows of groups `found` (g,) of dtype `FOUND`."""


class PerGene(Summary):
    """A gene: how many enhancers were scored and called, and the best of them."""

    schema = GENE_SCHEMA

    def keys(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], int, NDArray[np.int64]]:
        """Genes, by their enhancers."""
        return gene_groups(self.subject, rows)

    def table(self, found: NDArray[np.void]) -> pa.Table:
        """See `Summary.table`."""
        store, catalogue = self.subject.store, self.subject.catalogue
        promoters, promoter, tss = catalogue.promoters, store.pairs.promoter[found["row"]], catalogue.tss
        order = np.lexsort((tss[promoter], promoters.chrom[promoter], store.pairs.line[found["row"]]))
        found, promoter = found[order], promoter[order]
        shared = self.columns(found["row"], found)
        best = pa.array(store.enhancers.names).take(pa.array(store.pairs.enhancer[found["row"]]))
        columns = {
            "CellType": shared["CellType"],
            "chr": self.chrom(promoters, promoter),
            "TargetGene": catalogue.targets.take(pa.array(promoter)),
            "TargetGeneEnsembl_ID": pa.array([own or None for own in catalogue.gene_ids], pa.string()).take(
                pa.array(promoter)
            ),
            "TargetGeneTSS": pa.array(tss[promoter], mask=tss[promoter] < 0),
            "nEnhancersConsidered": found["members"],
            "nDistalEnhancersPredicted": found["called"],
            "maxScore": shared["maxScore"],
            "sumScore": shared["sumScore"],
            "bestEnhancer": best,
            "bestEnhancerDistance": shared["distance"],
        }
        return pa.table(columns, schema=self.schema)


class PerEnhancer(Summary):
    """An enhancer: how many genes were scored and called, and the best of them."""

    schema = ENHANCER_SCHEMA

    def keys(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], int, NDArray[np.int64]]:
        """Enhancers, by their genes."""
        return enhancer_groups(self.subject, rows)

    def table(self, found: NDArray[np.void]) -> pa.Table:
        """See `Summary.table`."""
        store, catalogue = self.subject.store, self.subject.catalogue
        enhancers, enhancer = catalogue.enhancers, store.pairs.enhancer[found["row"]]
        order = np.lexsort((enhancers.start[enhancer], enhancers.chrom[enhancer], store.pairs.line[found["row"]]))
        found, enhancer = found[order], enhancer[order]
        shared = self.columns(found["row"], found)
        nowhere = ~enhancers.known[enhancer]
        best = catalogue.targets.take(pa.array(store.pairs.promoter[found["row"]]))
        columns = {
            "CellType": shared["CellType"],
            "chr": self.chrom(enhancers, enhancer),
            "start": pa.array(enhancers.start[enhancer], mask=nowhere),
            "end": pa.array(enhancers.end[enhancer], mask=nowhere),
            "name": pa.array(store.enhancers.names).take(pa.array(enhancer)),
            "class": np.where(catalogue.is_promoter[enhancer], "promoter", "distal"),
            "nGenesConsidered": found["members"],
            "nGenesPredicted": found["called"],
            "maxScore": shared["maxScore"],
            "sumScore": shared["sumScore"],
            "bestGene": best,
            "bestGeneDistance": shared["distance"],
        }
        return pa.table(columns, schema=self.schema)
