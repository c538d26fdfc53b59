"""From rows of text to pairs: every row is judged, elements are stored once, pairs are de-duplicated.

Memory per good row is about 40 bytes (numbers only; names are interned), so five million pairs fit in a few hundred
megabytes. A row is rejected for the first reason that applies, in the order of the checks below.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_pipeline.genome import UNPLACED, ChromNames, Regions
from data_pipeline.quarantine import Quarantine
from data_pipeline.sources import RawPairs
from data_pipeline.store import KINDS, STRANDS, Kind

LABELS = {"1": 1, "0": 0, "1.0": 1, "0.0": 0}
MAX_POSITION = 2**31 - 1
PLACE = ("chrom", "start", "end")


class Interned:
    """Strings (or other keys) numbered in the order of first sight."""

    def __init__(self) -> None:
        """Start empty."""
        self.codes: dict[Hashable, int] = {}

    def column(self, values: pd.Series) -> NDArray[np.int32]:
        """(k,) int32 numbers of `values`, adding those not seen before."""
        places, distinct = pd.factorize(values)
        numbers = [self.codes.setdefault(value, len(self.codes)) for value in distinct]
        return np.array(numbers, dtype=np.int32)[places]

    def lookup(self, values: pd.Series) -> NDArray[np.int32]:
        """(k,) int32 numbers of `values`, -1 for those not seen before."""
        places, distinct = pd.factorize(values)
        return np.array([self.codes.get(value, -1) for value in distinct], dtype=np.int32)[places]


class ElementCatalog:
    """Every distinct element of one kind: by coordinates, or by name where the source gives none."""

    def __init__(self) -> None:
        """Start empty."""
        self._codes: dict[Hashable, int] = {}
        self._rows: list[tuple[str, str, int, int, int, int]] = []
        self.given: dict[int, NDArray[np.uint8]] = {}
        """Packed sequences of elements that came with one, by element number."""

    def column(self, rows: pd.DataFrame, sequences: dict[str, NDArray[np.uint8]] | None) -> NDArray[np.int32]:
        """(k,) int32 element numbers of `rows` (name, chrom, start, end, anchor, strand); the first sight decides."""
        place = [rows["chrom"], rows["start"], rows["end"]]
        name = rows["name"].where(rows["chrom"] == UNPLACED, "")
        group = rows.groupby([*place, name], sort=False).ngroup().to_numpy()
        _, first = np.unique(group, return_index=True)
        numbers = np.empty(len(first), dtype=np.int32)
        for index, row in enumerate(rows.iloc[first].itertuples(index=False)):
            key = (row.chrom, row.start, row.end) if row.chrom != UNPLACED else row.name
            number = self._codes.setdefault(key, len(self._codes))
            if number == len(self._rows):
                self._rows.append((row.name, row.chrom, row.start, row.end, row.anchor, row.strand))
                if sequences is not None:
                    self.given[number] = sequences[row.name]
            numbers[index] = number
        return numbers[group]

    @property
    def table(self) -> pd.DataFrame:
        """All elements: name, chrom, start, end, anchor (bp the window is centred on), strand."""
        return pd.DataFrame(self._rows, columns=["name", *PLACE, "anchor", "strand"])


@dataclass
class Rules:
    """What a row is judged by."""

    chroms: ChromNames
    regions: Regions
    lines: dict[str, int]
    """Line index by every name it may have."""
    lengths: dict[str, int] | None = None
    """Chromosome lengths, or None where no sequence is cut."""


@dataclass
class PairCollector:
    """Good rows of all sources, as numbers."""

    rules: Rules
    quarantine: Quarantine
    elements: dict[Kind, ElementCatalog] = field(default_factory=lambda: {kind: ElementCatalog() for kind in KINDS})
    names: dict[Kind, Interned] = field(default_factory=lambda: {kind: Interned() for kind in KINDS})
    outside_regions: dict[int, int] = field(default_factory=dict)
    _parts: list[pd.DataFrame] = field(default_factory=list)

    def add(
        self, file: int, raw: RawPairs, labels: bool, sequences: dict[Kind, dict[str, NDArray[np.uint8]]] | None = None
    ) -> int:
        """Judge a chunk of the registered `file`; returns the number of rows seen.

        `sequences` are the packed sequences by name where the source has its own; its elements need no coordinates.
        """
        self.quarantine.reject(file, "wrong_field_count", raw.wrong_width)
        rows = _Rows(self, file, raw.cells.assign(row=raw.line_number).reset_index(drop=True))
        rows.require_fields(placed=sequences is None, labels=labels)
        rows.resolve_lines()
        rows.resolve_places(placed=sequences is None)
        rows.keep_regions()
        if sequences is None:
            rows.check_genome()
        else:
            rows.require_sequences(sequences)
        rows.resolve_labels(labels)
        self._parts.append(self._numbers(file, rows.cells, sequences))
        return len(raw.cells) + len(raw.wrong_width)

    @property
    def pairs(self) -> pd.DataFrame:
        """enhancer, promoter, line, label, distance, file, row, enhancer_name, promoter_name: all integers."""
        return pd.concat(self._parts, ignore_index=True)

    def _numbers(
        self, file: int, cells: pd.DataFrame, sequences: dict[Kind, dict[str, NDArray[np.uint8]]] | None
    ) -> pd.DataFrame:
        anchors = {}
        columns: dict[str, NDArray[np.integer]] = {}
        for kind in KINDS:
            element = pd.DataFrame({key: cells[f"{kind}_{key}"] for key in ("name", *PLACE)})
            centre = (element["start"] + element["end"]) // 2
            anchors[kind] = (cells["tss"].fillna(centre) if kind == "promoter" else centre).astype(np.int64)
            strand = cells["strand"].map(STRANDS).fillna(0).astype(np.int8) if kind == "promoter" else 0
            element = element.assign(anchor=anchors[kind], strand=strand)
            columns[kind] = self.elements[kind].column(element, sequences[kind] if sequences else None)
            columns[f"{kind}_name"] = self.names[kind].column(cells[f"{kind}_name"])
        known = (cells["enhancer_chrom"] == cells["promoter_chrom"]) & (cells["enhancer_chrom"] != UNPLACED)
        distance = (anchors["enhancer"] - anchors["promoter"]).abs().where(known, -1)
        return pd.DataFrame(
            columns
            | {
                "line": cells["line"].to_numpy(np.int16),
                "label": cells["label"].to_numpy(np.int8),
                "distance": distance.to_numpy(np.int32),
                "file": np.full(len(cells), file, dtype=np.int16),
                "row": cells["row"].to_numpy(np.int64),
            }
        )


class _Rows:
    """A chunk on its way through the checks; `cells` shrinks as rows are rejected."""

    def __init__(self, owner: PairCollector, file: int, cells: pd.DataFrame) -> None:
        self.owner, self.file, self.cells = owner, file, cells

    def _reject(self, reason: str, bad: NDArray[np.bool_] | pd.Series) -> None:
        bad = np.asarray(bad, dtype=bool)
        self.owner.quarantine.reject(self.file, reason, self.cells["row"].to_numpy(np.int64)[bad])
        self.cells = self.cells[~bad]

    def require_fields(self, placed: bool, labels: bool) -> None:
        needed = [f"{kind}_{part}" for kind in KINDS for part in (PLACE if placed else ("name",))]
        needed += ["label"] if labels else []
        self._reject("missing_field", (self.cells[needed] == "").any(axis=1))

    def resolve_lines(self) -> None:
        line = self.cells["line"].map(self.owner.rules.lines).astype(np.float64)
        self._reject("unknown_line", line.isna())
        self.cells = self.cells.assign(line=line.dropna().astype(np.int64))

    def resolve_places(self, placed: bool) -> None:
        tss = pd.to_numeric(self.cells["tss"], errors="coerce")
        bad = ((self.cells["tss"] != "") & ~((tss >= 0) & (tss <= MAX_POSITION) & (tss % 1 == 0))).to_numpy()
        columns: dict[str, pd.Series] = {"tss": tss}
        for kind in KINDS:
            start, end = (pd.to_numeric(self.cells[f"{kind}_{part}"], errors="coerce") for part in ("start", "end"))
            wrong = ~((start >= 0) & (start < end) & (end <= MAX_POSITION) & (start % 1 == 0) & (end % 1 == 0))
            chrom = self.owner.rules.chroms.canonical_column(self.cells[f"{kind}_chrom"])
            if placed:
                bad = bad | wrong.to_numpy()
            else:
                chrom = chrom.where(~wrong, UNPLACED)
            columns |= {
                f"{kind}_chrom": chrom,
                f"{kind}_start": start.where(~wrong, 0).astype(np.int64),
                f"{kind}_end": end.where(~wrong, 0).astype(np.int64),
            }
        self.cells = self.cells.assign(**columns)
        self._reject("bad_coordinates", bad)

    def keep_regions(self) -> None:
        inside = np.ones(len(self.cells), dtype=bool)
        for kind in KINDS:
            inside &= self.owner.rules.regions.contain(*(self.cells[f"{kind}_{part}"] for part in PLACE))
        outside = self.owner.outside_regions
        outside[self.file] = outside.get(self.file, 0) + int((~inside).sum())
        self.cells = self.cells[inside]

    def check_genome(self) -> None:
        lengths = self.owner.rules.lengths
        if lengths is None:
            return
        missing, beyond = np.zeros((2, len(self.cells)), dtype=bool)
        for kind in KINDS:
            length = self.cells[f"{kind}_chrom"].map(lengths).astype(np.float64)
            missing |= length.isna().to_numpy()
            beyond |= (self.cells[f"{kind}_end"] > length).to_numpy()
            if kind == "promoter":
                beyond |= (self.cells["tss"] >= length).to_numpy()
        self._reject("missing_chromosome", missing)
        self._reject("outside_genome", beyond[~missing])

    def require_sequences(self, sequences: dict[Kind, dict[str, NDArray[np.uint8]]]) -> None:
        missing = np.zeros(len(self.cells), dtype=bool)
        for kind in KINDS:
            missing |= ~self.cells[f"{kind}_name"].isin(sequences[kind].keys()).to_numpy()
        self._reject("missing_sequence", missing)

    def resolve_labels(self, labels: bool) -> None:
        label = self.cells["label"].map(LABELS).astype(np.float64) if labels else pd.Series(-1, index=self.cells.index)
        self._reject("bad_label", label.isna())
        self.cells = self.cells.assign(label=label.dropna().astype(np.int64))


def without_duplicates(pairs: pd.DataFrame, elements: tuple[int, ...]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which `pairs` to keep, and which conflict; `elements` are the numbers of enhancers and promoters.

    The same (line, enhancer, promoter) is kept once: the first copy with a label, or the first. All copies of a pair
    with both labels conflict and none is kept. Both results are (N,) bool.
    """
    enhancers, promoters = elements
    key = (pairs["line"].to_numpy(np.int64) * enhancers + pairs["enhancer"].to_numpy()) * promoters
    key += pairs["promoter"].to_numpy()
    label = pairs["label"].to_numpy()
    order = np.lexsort((label < 0, key))
    start = np.flatnonzero(np.diff(key[order], prepend=-1))
    group = np.repeat(np.arange(len(start)), np.diff(start, append=len(key)))
    both = np.maximum.reduceat(label[order] == 1, start) & np.maximum.reduceat(label[order] == 0, start)
    conflict = np.zeros(len(pairs), dtype=bool)
    conflict[order] = both[group]
    keep = np.zeros(len(pairs), dtype=bool)
    keep[order[start]] = True
    return keep & ~conflict, conflict
