"""What goes into a store: elements with their sequence, unique pairs, and only the elements those pairs use.

Everything here is arrays in memory: about 40 bytes per pair and one packed window per element.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_pipeline.sources.genome import UNPLACED, Genome
from data_pipeline.sources.pair_rows import PairCollector, without_duplicates
from data_pipeline.sources.quarantine import Quarantine
from data_pipeline.store import KINDS, Kind


@dataclass
class Content:
    """Pairs and the elements they point to; pairs hold element numbers, that is rows of `elements[kind]`."""

    pairs: pd.DataFrame
    """enhancer, promoter, line, label, distance, file, row, enhancer_name, promoter_name: integers.

    Also weight, effect and signal:NAME, float32, where a source told any.
    """
    elements: dict[Kind, pd.DataFrame]
    """name, chrom, start, end, anchor, strand, symbol, gene_id of every element."""
    packed: dict[Kind, NDArray[np.uint8]]
    """(n, window/2) uint8 sequences in the order of `elements`."""
    edge_padded: int = 0
    """Windows that reach over the edge of their chromosome."""
    asked: pd.DataFrame | None = None
    """pair (row of `pairs`), enhancer_name, promoter_name of every usable input row, in the order of the input."""

    @property
    def chroms(self) -> list[str]:
        """Chromosomes of the elements in the usual order."""
        return sorted({name for table in self.elements.values() for name in table["chrom"]}, key=_chrom_order)


def with_sequences(
    collector: PairCollector, windows: dict[Kind, int], genome: Genome | None, quarantine: Quarantine
) -> Content:
    """All collected pairs with the sequence of their elements; pairs with an unreadable window are quarantined."""
    pairs = collector.pairs
    content = Content(pairs, {kind: collector.elements[kind].table for kind in KINDS}, {})
    unreadable = np.zeros(len(pairs), dtype=bool)
    for kind in KINDS:
        table, given = content.elements[kind], collector.elements[kind].given
        packed = np.full((len(table), windows[kind] // 2), 0xFF, dtype=np.uint8)
        for row, sequence in given.items():
            packed[row] = sequence
        if genome and windows[kind]:
            missing = np.setdiff1d(np.arange(len(table)), list(given))
            chrom, anchor = table["chrom"].to_numpy(object)[missing], table["anchor"].to_numpy(np.int64)[missing]
            packed[missing], bad, padded = genome.cut(chrom, anchor, windows[kind])
            unreadable |= np.isin(pairs[kind], missing[bad])
            content.edge_padded += padded
        content.packed[kind] = packed
    reject_pairs(quarantine, pairs[unreadable], "bad_letter")
    content.pairs = pairs[~unreadable]
    return content


def unique_pairs(content: Content, quarantine: Quarantine) -> tuple[Content, pd.Series]:
    """`content` with each pair once, and how many duplicates each file had; conflicting pairs are quarantined."""
    pairs = content.pairs
    kept, conflict = without_duplicates(pairs, tuple(len(content.elements[kind]) for kind in KINDS))
    reject_pairs(quarantine, pairs[conflict], "conflicting_label")
    keep = (kept == np.arange(len(pairs))) & ~conflict
    duplicates = pairs["file"][~keep & ~conflict].value_counts()
    number = np.cumsum(keep) - 1
    asked = pairs.loc[~conflict, ["enhancer_name", "promoter_name"]].assign(pair=number[kept[~conflict]])
    return Content(pairs[keep], content.elements, content.packed, content.edge_padded, asked), duplicates


def only_used(content: Content) -> Content:
    """`content` without elements that no pair uses, elements sorted by place; pairs keep their order."""
    pairs, elements, packed = content.pairs, {}, {}
    order = {name: index for index, name in enumerate(content.chroms)}
    for kind in KINDS:
        table = content.elements[kind]
        used = np.unique(pairs[kind])
        places = table.iloc[used].assign(order=table["chrom"].map(order))
        used = places.sort_values(["order", "start", "end", "name", "anchor"]).index.to_numpy()
        number = np.full(len(table), -1, dtype=np.int32)
        number[used] = np.arange(len(used))
        pairs = pairs.assign(**{kind: number[pairs[kind].to_numpy()]})
        elements[kind], packed[kind] = table.iloc[used].reset_index(drop=True), content.packed[kind][used]
    return Content(pairs.reset_index(drop=True), elements, packed, content.edge_padded, content.asked)


def reject_pairs(quarantine: Quarantine, pairs: pd.DataFrame, reason: str) -> None:
    """Quarantine the rows that `pairs` came from."""
    for file in pairs["file"].unique():
        # A row that became several pairs is one row still.
        rows = np.unique(pairs["row"].to_numpy(np.int64)[(pairs["file"] == file).to_numpy()])
        quarantine.reject(int(file), reason, rows)


def _chrom_order(name: str) -> tuple[bool, int, str]:
    bare = name.removeprefix("chr")
    return name == UNPLACED, int(bare) if bare.isdigit() else 1000, name
