"""What pages are made of, counted while batches of scored pairs go by: distances, scores, signals, links by gene.

Counts are of fixed size; links of genes and enhancers wait on disk as those of the summaries do, and pairs of named
genes in memory.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from distributed.formats.grouping import ROW, Grouping
from distributed.formats.subject import Batch, Subject
from distributed.formats.summaries import enhancer_groups, gene_groups
from evaluation.line_page import LineCounts, SeenLine

MOST_SIGNALS = 200_000
"""Pairs whose signals are counted; of more, evenly spread ones."""


class CountedLines:
    """Takes the batches of a prediction, gives what was seen of each of its lines."""

    def __init__(self, subject: Subject, beside: Path, opened: ExitStack) -> None:
        """Files lie beside the file `beside` until `opened` ends."""
        self._subject, store = subject, subject.store
        ranges = subject.background.ranges
        self._lines = {
            int(code): LineCounts(store.lines[code], store.signal_names, ranges)
            for code in np.unique(store.pairs.line[subject.rows])
        }
        self._by_gene, self._by_enhancer = Grouping(beside, opened), Grouping(beside, opened)
        self._step = max(len(subject.rows) // MOST_SIGNALS, 1)

    def add(self, batch: Batch) -> None:
        """Take the next rows."""
        subject, store = self._subject, self._subject.store
        lines = store.pairs.line[batch.rows]
        distance = pc.fill_null(batch["distance"].cast("float64"), np.nan).to_numpy()
        logit, called = batch["logit"].to_numpy(), batch.called
        for code, own in self._lines.items():
            mine = lines == code
            own.add(distance[mine], logit[mine], called[mine])
            thinned = batch.rows[mine][:: self._step]
            if own.signals and len(thinned):
                own.add_signals(store.signal_names, store.signals(thinned))
        at_home = subject.catalogue.overlaps_own_promoter(store, batch.rows)
        for grouping, of in ((self._by_gene, gene_groups), (self._by_enhancer, enhancer_groups)):
            group, groups, member = of(subject, batch.rows)
            rows = np.empty(len(batch.rows), dtype=ROW)
            rows["group"] = lines.astype(np.int64) * groups + group
            rows["member"], rows["score"], rows["row"], rows["own"] = member, called, batch.rows, at_home
            rows["called"] = called
            grouping.add(rows)

    def lines(self) -> list[SeenLine]:
        """What was seen, when all rows were taken."""
        genes, enhancers = _linked(self._by_gene, self._subject), _linked(self._by_enhancer, self._subject)
        return [
            own.seen(*genes[code], enhancers[code][1], self._subject.background.environment(own.line))
            for code, own in self._lines.items()
        ]


def _linked(grouping: Grouping, subject: Subject) -> dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Members and called members of each group (g,), by the index of the line."""
    lines, members, called = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for rows, starts in grouping.groups():
        lines.append(subject.store.pairs.line[rows["row"][starts]].astype(np.int64))
        members.append(np.diff(np.append(starts, len(rows))))
        called.append(np.add.reduceat((rows["called"] & ~rows["own"]).astype(np.int64), starts))
    line, member, call = (np.concatenate(parts) for parts in (lines, members, called))
    return {int(code): (member[line == code], call[line == code]) for code in np.unique(line)}
