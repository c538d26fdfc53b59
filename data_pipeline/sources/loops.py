"""Loops: two anchors without roles become pairs of an element at one and a gene whose TSS lies in the other.

Both ways round are tried, so a loop between two promoters gives two pairs, and one between regions without a TSS none.
The element is the anchor itself, or with `elements` each of these that overlaps it. An anchor that is a point (ABC's
BEDPE has TSSs so) is never an element. HiCCUPS, Mustache, cooltools and plain BEDPE have the six coordinates first; a
header, with or without #, is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from bioframe.core.arrops import overlap_intervals
from numpy.typing import NDArray

from data_pipeline.errors import UserError
from data_pipeline.sources.annotation import Genes
from data_pipeline.sources.field_formats import LoopTable
from data_pipeline.sources.gene_pairs import MadePairs, runs
from data_pipeline.sources.input_files import open_bytes
from data_pipeline.sources.lift_over import LiftOver
from data_pipeline.sources.numbers_as_text import whole_numbers
from data_pipeline.sources.pair_rows import Rules
from data_pipeline.sources.quarantine import Quarantine
from data_pipeline.sources.text_tables import BROWSER, Chunk, Tally, read_chunks, text_lines

ANCHOR = ("chrom", "start", "end")
COORDINATES = 6


def read_loops(
    path: Path,
    file: int,
    tally: Tally,
    rules: Rules,
    quarantine: Quarantine,
    lift: LiftOver | None = None,
    advance: Callable[[int], None] | None = None,
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Yield the good loops of the registered `file` as their two anchors: chrom, start, end (bp), row each.

    A point has end = start + 1 and `point` true. Bad rows are quarantined; loops that lie outside the regions are
    among those that are yielded.
    """
    headed = _has_header(path)
    for chunk in read_chunks(path, BROWSER, header=headed, tally=tally, least=COORDINATES, advance=advance):
        for reason, lines in chunk.rejected.items():
            quarantine.reject(file, reason, lines)
        yield _judged(chunk, file, rules, quarantine, lift)


def _has_header(path: Path) -> bool:
    """Whether the first line that is no comment names the columns: none of its coordinates is a number."""
    with open_bytes(path) as stream:
        lines = (text for text in text_lines(path, stream) if not BROWSER.is_blank(text))
        first = next((text for text in lines if not text.startswith(BROWSER.comments)), "")
    fields = BROWSER.fields(first) or []
    if len(fields) < COORDINATES:
        raise UserError(f"{path} is no table of loops: its first row has {len(fields)} columns, two anchors have six")
    return not any(fields[at].isdigit() for at in (1, 2, 4, 5))


def _judged(
    chunk: Chunk, file: int, rules: Rules, quarantine: Quarantine, lift: LiftOver | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    cells, line = chunk.cells, chunk.line_number
    anchors, empty, wrong = [], np.zeros(len(cells), bool), np.zeros(len(cells), bool)
    for first in (0, 3):
        chrom, start, end = (cells.iloc[:, first + at] for at in range(3))
        table = pd.DataFrame({"chrom": rules.chroms.canonical_column(chrom), "row": line})
        table = table.assign(start=whole_numbers(start), end=whole_numbers(end))
        empty |= ((chrom == "") | (start == "") | (end == "")).to_numpy()
        wrong |= ~(table["start"] <= table["end"]).to_numpy()
        anchors.append(table.assign(point=table["start"] == table["end"]))
    quarantine.reject(file, "missing_field", line[empty])
    quarantine.reject(file, "bad_coordinates", line[wrong & ~empty])
    good = ~(empty | wrong)
    for at, table in enumerate(anchors):
        table = table[good].astype({"start": np.int64, "end": np.int64}).reset_index(drop=True)
        anchors[at] = table.assign(end=table["end"] + table["point"])
    if lift and good.any():
        (left, lost), (right, also) = (lift.elements(table) for table in anchors)
        quarantine.reject(file, "not_lifted", line[good][lost | also])
        anchors = [table[~(lost | also)].reset_index(drop=True) for table in (left, right)]
    return anchors[0], anchors[1]


def anchors_as_elements(anchors: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    """The anchors of loops as elements: chrom, start, end, name; anchor `a` of loop i is row i + a x loops."""
    both = pd.concat([table[[*ANCHOR, "point"]] for table in anchors], ignore_index=True)
    return both.assign(name=both["chrom"] + ":" + both["start"].astype(str) + "-" + both["end"].astype(str))


def looped(
    anchors: tuple[pd.DataFrame, pd.DataFrame], elements: pd.DataFrame | None, genes: Genes, source: LoopTable
) -> MadePairs:
    """The pairs of loops with these `anchors`; elements are rows of `elements`, or of `anchors_as_elements`."""
    parts = []
    for at in (0, 1):
        own, other = anchors[at], anchors[1 - at]
        loop, element = _elements_at(own, at * len(own), elements, source.flank)
        holder, gene = _genes_in(other, genes, source.flank)
        left = pd.DataFrame({"loop": loop, "element": element})
        parts.append(left.merge(pd.DataFrame({"loop": holder, "gene": gene}), on="loop"))
    pairs = pd.concat(parts, ignore_index=True)
    row = anchors[0]["row"].to_numpy(np.int64)[pairs["loop"].to_numpy(np.int64)]
    return MadePairs(pairs["element"].to_numpy(np.int64), pairs["gene"].to_numpy(np.int64), row)


def _elements_at(
    anchor: pd.DataFrame, offset: int, elements: pd.DataFrame | None, flank: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(k,) loops and (k,) the elements at their anchor."""
    if elements is None:
        loop = np.flatnonzero(~anchor["point"])
        return loop, loop + offset
    loops, found = [], []
    for chrom in anchor["chrom"].unique():
        here, there = np.flatnonzero(anchor["chrom"] == chrom), np.flatnonzero(elements["chrom"] == chrom)
        start, end = (anchor[key].to_numpy(np.int64)[here] for key in ("start", "end"))
        spans = (elements[key].to_numpy(np.int64)[there] for key in ("start", "end"))
        mine, theirs = overlap_intervals(start - flank, end + flank, *spans)
        loops.append(here[mine])
        found.append(there[theirs])
    return np.concatenate([np.empty(0, np.int64), *loops]), np.concatenate([np.empty(0, np.int64), *found])


def _genes_in(anchor: pd.DataFrame, genes: Genes, flank: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(k,) loops and (k,) the genes whose TSS lies in their anchor."""
    low, high = np.zeros(len(anchor), np.int64), np.zeros(len(anchor), np.int64)
    for chrom in anchor["chrom"].unique():
        own, of_chrom = np.flatnonzero(anchor["chrom"] == chrom), genes.on(chrom)
        start, end = (anchor[key].to_numpy(np.int64)[own] for key in ("start", "end"))
        low[own] = of_chrom.start + np.searchsorted(genes.tss[of_chrom], start - flank, side="left")
        high[own] = of_chrom.start + np.searchsorted(genes.tss[of_chrom], end + flank, side="left")
    return runs(low, high)
