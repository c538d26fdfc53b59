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

from data_pipeline.errors import listed
from data_pipeline.sources.annotated_rows import TssComparison, completed, named
from data_pipeline.sources.annotation import Genes
from data_pipeline.sources.element_names import ElementNames
from data_pipeline.sources.genome import UNPLACED, ChromNames, Genome, Regions
from data_pipeline.sources.lift_over import LiftOver
from data_pipeline.sources.numbers_as_text import MAX_POSITION, whole_numbers
from data_pipeline.sources.pair_tables import SIGNAL, RawPairs
from data_pipeline.sources.quarantine import Quarantine
from data_pipeline.store import KINDS, STRANDS, Kind

PLACE = ("chrom", "start", "end")
ELEMENT = ("name", *PLACE, "anchor", "strand", "symbol", "gene_id")
"""What is known of an element; symbol and gene_id, of promoters only, are "" where no source told them."""
TOLD = ("weight", "effect")
"""Numbers of a pair that a source may tell, beside its signals."""


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
    """Every distinct element of one kind: by place, by the point its window is centred on, and by gene.

    Elements without a place are known by name. Two sequences given for one place are two elements.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._codes: dict[Hashable, int] = {}
        self._rows: list[tuple[Hashable, ...]] = []
        self.given: dict[int, NDArray[np.uint8]] = {}
        """Packed sequences of elements that came with one, by element number."""

    def column(self, rows: pd.DataFrame, sequences: dict[str, NDArray[np.uint8]] | None) -> NDArray[np.int32]:
        """(k,) int32 element numbers of `rows` (`ELEMENT` and gene); first sight decides."""
        identity = [*PLACE, "anchor", "gene"]
        groups = rows.groupby(identity if sequences is None else [*identity, "name"], sort=False).ngroup().to_numpy()
        _, first = np.unique(groups, return_index=True)
        numbers = np.empty(len(first), dtype=np.int32)
        for index, row in enumerate(rows.iloc[first].itertuples(index=False)):
            given = None if sequences is None else sequences[row.name]
            key = (row.chrom, row.start, row.end, row.anchor, row.gene, None if given is None else given.tobytes())
            number = self._codes.setdefault(key if row.chrom != UNPLACED else row.name, len(self._codes))
            if number == len(self._rows):
                self._rows.append(tuple(getattr(row, key) for key in ELEMENT))
                if given is not None:
                    self.given[number] = given
            numbers[index] = number
        return numbers[groups]

    @property
    def table(self) -> pd.DataFrame:
        """All elements: `ELEMENT`, where `anchor` is the bp that the window is centred on."""
        return pd.DataFrame(self._rows, columns=list(ELEMENT))


@dataclass
class Rules:
    """What a row is judged by."""

    chroms: ChromNames
    regions: Regions
    lines: dict[str, int]
    """Line index by every name it may have."""
    names: ElementNames
    """How names are compared."""
    promoter_window: int = 0
    """Bases of a promoter whose row gives only its TSS; 0: the TSS alone."""
    name_outside: bool = False
    """Quarantine pairs outside `regions` as well, where every row must be answered for."""
    genome: Genome | None = None
    """The genome, or None where no sequence is cut."""
    genes: Genes | None = None
    """The annotation, or None where there is none."""


@dataclass
class PairCollector:
    """Good rows of all sources, as numbers."""

    rules: Rules
    quarantine: Quarantine
    elements: dict[Kind, ElementCatalog] = field(default_factory=lambda: {kind: ElementCatalog() for kind in KINDS})
    names: dict[Kind, Interned] = field(default_factory=lambda: {kind: Interned() for kind in KINDS})
    outside_regions: dict[int, int] = field(default_factory=dict)
    first_outside: dict[int, str] = field(default_factory=dict)
    """Chromosome of the first row outside the regions, by file."""
    compared: TssComparison = field(default_factory=TssComparison)
    _parts: list[pd.DataFrame] = field(default_factory=list)

    def add(
        self,
        file: int,
        raw: RawPairs,
        labels: bool,
        sequences: dict[Kind, dict[str, NDArray[np.uint8]]] | None = None,
        lift: LiftOver | None = None,
    ) -> None:
        """Judge a chunk of the registered `file`, its places lifted by `lift`.

        `sequences` are the packed sequences by name where the source has its own; its elements need no coordinates.
        """
        for reason, lines in raw.rejected.items():
            self.quarantine.reject(file, reason, lines)
        rows = _Rows(self, file, raw.cells.assign(row=raw.line_number).reset_index(drop=True))
        if lift:
            rows.lift(lift)
        if sequences is None:
            rows.resolve_genes()
        rows.require_fields(placed=sequences is None, labels=labels)
        rows.resolve_lines()
        rows.resolve_places(placed=sequences is None)
        rows.keep_regions()
        if sequences is None:
            rows.check_genome()
        else:
            rows.require_sequences(sequences)
        rows.resolve_labels(labels)
        rows.resolve_distances()
        self.take(self._numbers(file, rows.cells, sequences))

    def take(self, pairs: pd.DataFrame) -> None:
        """Add pairs that are numbers already, in the columns of `pairs`."""
        self._parts.append(pairs)

    @property
    def pairs(self) -> pd.DataFrame:
        """enhancer, promoter, line, label, distance, file, row, enhancer_name, promoter_name: all integers.

        Also weight, effect and signal:NAME, float32, where a source told any; NaN in the rows of others.
        """
        return pd.concat(self._parts, ignore_index=True)

    def _numbers(
        self, file: int, cells: pd.DataFrame, sequences: dict[Kind, dict[str, NDArray[np.uint8]]] | None
    ) -> pd.DataFrame:
        anchors = {}
        columns: dict[str, NDArray[np.integer]] = {}
        for kind in KINDS:
            element = pd.DataFrame({key: cells[f"{kind}_{key}"] for key in ("name", *PLACE)})
            gene = self.rules.names.plain_column(cells["gene"]) if kind == "promoter" else ""
            centre = (element["start"] + element["end"]) // 2
            anchors[kind] = (cells["tss"].fillna(centre) if kind == "promoter" else centre).astype(np.int64)
            strand = cells["strand"].map(STRANDS).fillna(0).astype(np.int8) if kind == "promoter" else 0
            told = {key: cells[key] if kind == "promoter" else "" for key in ("symbol", "gene_id")}
            element = element.assign(anchor=anchors[kind], strand=strand, gene=gene, **told)
            columns[kind] = self.elements[kind].column(element, sequences[kind] if sequences else None)
            columns[f"{kind}_name"] = self.names[kind].column(cells[f"{kind}_name"])
        known = (cells["enhancer_chrom"] == cells["promoter_chrom"]) & (cells["enhancer_chrom"] != UNPLACED)
        distance = (anchors["enhancer"] - anchors["promoter"]).abs().where(known, -1)
        if "distance" in cells:
            distance = cells["distance"].fillna(distance)
        more = [key for key in cells if key in TOLD or key.startswith(SIGNAL)]
        numbers = {key: pd.to_numeric(cells[key], errors="coerce").to_numpy(np.float32) for key in more}
        return pd.DataFrame(
            columns
            | {
                "line": cells["line"].to_numpy(np.int16),
                "label": cells["label"].to_numpy(np.int8),
                "distance": distance.to_numpy(np.int32),
                "file": np.full(len(cells), file, dtype=np.int16),
                "row": cells["row"].to_numpy(np.int64),
            }
            | numbers
        )


class _Rows:
    """A chunk on its way through the checks; `cells` shrinks as rows are rejected."""

    def __init__(self, owner: PairCollector, file: int, cells: pd.DataFrame) -> None:
        self.owner, self.file, self.cells = owner, file, cells

    def _reject(self, reason: str, bad: NDArray[np.bool_] | pd.Series, key: str = "", wanted: str = "") -> None:
        """Quarantine the `bad` rows; `wanted` says what column `key` should have held."""
        bad = np.asarray(bad, dtype=bool)
        self.owner.quarantine.reject(self.file, reason, self.cells["row"].to_numpy(np.int64)[bad])
        if key and bad.any():
            first = self.cells[key].to_numpy()[bad][0]
            self.owner.quarantine.hint(self.file, reason, f"the row says {first!r}, {wanted}")
        self.cells = self.cells[~bad]

    def lift(self, lift: LiftOver) -> None:
        self.cells, lost = lift.pairs(self.cells)
        self._reject("not_lifted", lost)

    def resolve_genes(self) -> None:
        self.cells = named(self.cells)
        genes = self.owner.rules.genes
        if genes is None:
            return
        found = genes.lookup(self.cells["gene_id"], self.cells["symbol"])
        self.owner.compared.add(self.file, self.cells, genes, found)
        self.cells, unknown = completed(self.cells, genes, found)
        self._reject("unknown_gene", unknown, "symbol", f"the annotation begins with {listed(list(genes.symbol[:3]))}")

    def require_fields(self, placed: bool, labels: bool) -> None:
        needed = [f"{kind}_{part}" for kind in KINDS for part in (PLACE if placed else ("name",))]
        needed += ["label"] if labels else []
        empty = self.cells[needed] == ""
        if placed:
            span = ["promoter_start", "promoter_end"]
            by_tss = empty[span].all(axis=1) & (self.cells["tss"] != "")
            empty = empty.assign(**{key: empty[key] & ~by_tss for key in span})
        self._reject("missing_field", empty.any(axis=1))

    def resolve_lines(self) -> None:
        line = self.cells["line"].map(self.owner.rules.lines).astype(np.float64)
        known = listed(list(self.owner.rules.lines))
        self._reject("unknown_line", line.isna(), "line", f"the settings have {known}")
        self.cells = self.cells.assign(line=line.dropna().astype(np.int64))

    def resolve_places(self, placed: bool) -> None:
        tss = whole_numbers(self.cells["tss"])
        bad = ((self.cells["tss"] != "") & tss.isna()).to_numpy()
        columns: dict[str, pd.Series] = {}
        for kind in KINDS:
            start, end = (whole_numbers(self.cells[f"{kind}_{part}"]) for part in ("start", "end"))
            chrom = self.owner.rules.chroms.canonical_column(self.cells[f"{kind}_chrom"])
            if kind == "promoter" and placed:
                start, end, tss = self._promoter(chrom, start, end, tss)
            wrong = ~(start < end)
            if placed:
                bad = bad | wrong.to_numpy()
            else:
                chrom = chrom.where(~wrong, UNPLACED)
            start, end = (place.where(~wrong, 0).astype(np.int64) for place in (start, end))
            name = self.cells[f"{kind}_name"]
            made = chrom + ":" + start.astype(str) + "-" + end.astype(str)
            columns |= {f"{kind}_chrom": chrom, f"{kind}_start": start, f"{kind}_end": end}
            columns[f"{kind}_name"] = name.where(name != "", made)
        self.cells = self.cells.assign(tss=tss, **columns)
        self._reject("bad_coordinates", bad)

    def _promoter(
        self, chrom: pd.Series, start: pd.Series, end: pd.Series, tss: pd.Series
    ) -> tuple[pd.Series, pd.Series, pd.Series]:
        """Start, end and TSS of promoters; one that is a point, or not given at all, is the window around its TSS."""
        no_span = (self.cells["promoter_start"] == "") & (self.cells["promoter_end"] == "") & tss.notna()
        point = (start == end) & ((tss == start) | (self.cells["tss"] == ""))
        by_tss = no_span | point
        tss = tss.where(~point, start)
        half = self.owner.rules.promoter_window // 2
        low, high = (tss - half).clip(lower=0), tss + max(half, 1)
        if genome := self.owner.rules.genome:
            # A window may reach over the edge of a chromosome, an element may not.
            high = np.minimum(high, np.maximum(chrom.map(genome.lengths).fillna(np.inf), tss + 1))
        return start.where(~by_tss, low), end.where(~by_tss, high), tss

    def keep_regions(self) -> None:
        rules = self.owner.rules
        inside = np.ones(len(self.cells), dtype=bool)
        for kind in KINDS:
            inside &= rules.regions.contain(*(self.cells[f"{kind}_{part}"] for part in PLACE))
        if not inside.all():
            self.owner.first_outside.setdefault(self.file, str(self.cells["enhancer_chrom"].to_numpy()[~inside][0]))
        if rules.name_outside:
            self._reject("outside_regions", ~inside)
            return
        outside = self.owner.outside_regions
        outside[self.file] = outside.get(self.file, 0) + int((~inside).sum())
        self.cells = self.cells[inside]

    def check_genome(self) -> None:
        genome = self.owner.rules.genome
        if genome is None:
            return
        lengths = genome.lengths
        genome.require_once({*self.cells["enhancer_chrom"], *self.cells["promoter_chrom"]})
        has = f"the genome has {listed(list(lengths))}"
        for kind in KINDS:
            missing = ~self.cells[f"{kind}_chrom"].isin(lengths.keys())
            self._reject("missing_chromosome", missing, f"{kind}_chrom", has)
        beyond = np.zeros(len(self.cells), dtype=bool)
        for kind in KINDS:
            length = self.cells[f"{kind}_chrom"].map(lengths).astype(np.float64)
            beyond |= (self.cells[f"{kind}_end"] > length).to_numpy()
            if kind == "promoter":
                beyond |= (self.cells["tss"] >= length).to_numpy()
        self._reject("outside_genome", beyond)

    def require_sequences(self, sequences: dict[Kind, dict[str, NDArray[np.uint8]]]) -> None:
        for kind in KINDS:
            key = f"{kind}_name"
            missing = ~self.cells[key].isin(sequences[kind].keys())
            first = next(iter(sequences[kind]), "")
            self._reject("missing_sequence", missing, key, f"the table of {kind}s begins with {first!r}")

    def resolve_distances(self) -> None:
        """Distances that the source itself tells, in bp and rounded; empty ones are measured between the places."""
        if "distance" not in self.cells:
            return
        distance = pd.to_numeric(self.cells["distance"], errors="coerce").astype(np.float64)
        wrong = (self.cells["distance"] != "") & ~distance.between(0, MAX_POSITION)
        self.cells = self.cells.assign(distance=distance.round())
        self._reject("bad_number", wrong)

    def resolve_labels(self, labels: bool) -> None:
        label = whole_numbers(self.cells["label"]) if labels else pd.Series(-1, index=self.cells.index)
        label = label.where(label <= 1)
        self._reject("bad_label", label.isna())
        self.cells = self.cells.assign(label=label.dropna().astype(np.int64))


def without_duplicates(pairs: pd.DataFrame, elements: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which copy of each of `pairs` is kept, and which conflict; `elements` are the numbers of enhancers and promoters.

    The same (line, enhancer, promoter) is kept once: the first copy with a label, or the first. All copies of a pair
    with both labels conflict and none is kept. Returns (N,) int64, the row kept for each row, and (N,) bool.
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
    kept = np.empty(len(pairs), dtype=np.int64)
    kept[order] = order[start][group]
    return kept, conflict
