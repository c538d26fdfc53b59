"""Sources whose rows become pairs with annotated genes: candidates and loops, from their file to the collector.

A row makes several pairs, or none; every row is paired, without genes, outside the regions, or in quarantine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from data_pipeline.errors import UserError
from data_pipeline.sources.annotation import Genes
from data_pipeline.sources.candidates import candidates, in_slices
from data_pipeline.sources.element_files import read_elements, require_common_chromosome
from data_pipeline.sources.field_formats import CandidateTable, GeneSource, LoopTable
from data_pipeline.sources.gene_pairs import GenePairs, MadePairs
from data_pipeline.sources.lift_over import LiftOver
from data_pipeline.sources.loops import anchors_as_elements, looped, read_loops
from data_pipeline.sources.pair_rows import PLACE, PairCollector
from data_pipeline.sources.text_tables import Tally


@dataclass(frozen=True)
class Reading:
    """A file on its way in."""

    path: Path
    file: int
    """Its number in the quarantine."""
    tally: Tally
    lift: LiftOver | None = None
    """Moves its coordinates to the store's build."""
    advance: Callable[[int], None] | None = None
    """Is told of the bytes read."""


@dataclass
class RowFates:
    """What became of the rows of a source that are not in quarantine."""

    paired: int = 0
    """Rows that made at least one pair."""
    without_genes: int = 0
    """Rows with no gene in reach."""
    outside_regions: int = 0
    """Rows with an element or anchor outside the regions."""

    def count(self, rows: int, made: MadePairs) -> None:
        """Take note of `rows` more rows, which `made` these pairs."""
        paired = len(np.unique(made.row))
        self.paired, self.without_genes = self.paired + paired, self.without_genes + rows - paired


class GeneSourceReader:
    """Reads candidates and loops into a collector; one for all such sources of a store."""

    def __init__(self, collector: PairCollector, genes: Genes, annotation: Path, root: Path) -> None:
        """`annotation` is the file of `genes`, for messages; other files are below `root`."""
        self._collector, self._genes, self._annotation, self._root = collector, genes, annotation, root
        self._pairs = GenePairs(collector, genes)

    def read(self, source: GeneSource, reading: Reading) -> RowFates:
        """Read the file of `source`.

        Raises `UserError` where the line is unknown, chromosomes are named otherwise than the genes', or no row makes
        a pair.
        """
        path, lines = reading.path, self._collector.rules.lines
        if source.line not in lines:
            raise UserError(f"{path}: line '{source.line}' is not in `lines` or `line_aliases`; add it there")
        fates = RowFates()
        if isinstance(source, CandidateTable):
            chroms = self._candidates(source, reading, lines[source.line], fates)
        elif isinstance(source, LoopTable):
            chroms = self._loops(source, reading, lines[source.line], fates)
        else:
            raise TypeError(f"no reader for {type(source).__name__}")
        self._collector.quarantine.require_whole(reading.file, reading.tally, vars(fates))
        if reading.lift:
            reading.lift.require_fit(path)
        if not fates.paired and fates.without_genes:
            require_common_chromosome(path, chroms, self._genes, self._annotation)
            raise UserError(f"{path} gives no pair: {_out_of_reach(source)} of {self._annotation}; {_remedy(source)}")
        return fates

    def _candidates(self, source: CandidateTable, reading: Reading, line: int, fates: RowFates) -> set[str]:
        """Add the pairs, count the rows in `fates`; returns the chromosomes that have elements."""
        chroms: set[str] = set()
        rules, own = self._collector.rules, reading
        for chunk in read_elements(
            own.path, own.file, own.tally, rules, self._collector.quarantine, own.lift, own.advance
        ):
            inside = rules.regions.contain(*(chunk[key] for key in PLACE))
            fates.outside_regions += int((~inside).sum())
            chroms |= set(chunk["chrom"])
            for elements in in_slices(chunk[inside]):
                made = self._take(elements, candidates(elements, self._genes, source), own.file, line)
                fates.count(len(elements), made)
        return chroms

    def _loops(self, source: LoopTable, reading: Reading, line: int, fates: RowFates) -> set[str]:
        """As `_candidates`, with the chromosomes that have anchors."""
        chroms: set[str] = set()
        rules, own = self._collector.rules, reading
        given = self._elements_of(source, own.lift) if source.elements else None
        for anchors in read_loops(
            own.path, own.file, own.tally, rules, self._collector.quarantine, own.lift, own.advance
        ):
            inside = np.logical_and(*(rules.regions.contain(*(table[key] for key in PLACE)) for table in anchors))
            fates.outside_regions += int((~inside).sum())
            left, right = (table[inside].reset_index(drop=True) for table in anchors)
            chroms |= {*left["chrom"], *right["chrom"]}
            elements = anchors_as_elements((left, right)) if given is None else given
            made = self._take(elements, looped((left, right), given, self._genes, source), own.file, line)
            fates.count(len(left), made)
        return chroms

    def _take(self, elements: pd.DataFrame, made: MadePairs, file: int, line: int) -> MadePairs:
        """Add what is usable of `made`, and return it."""
        usable = self._pairs.usable[made.gene]
        genome = self._collector.rules.genome
        if genome:
            length = elements["chrom"].map(genome.lengths).fillna(0).to_numpy(np.float64)
            usable &= (elements["end"].to_numpy() <= length)[made.element]
        made = MadePairs(made.element[usable], made.gene[usable], made.row[usable])
        self._pairs.add(elements, made, file, line)
        return made

    def _elements_of(self, source: LoopTable, lift: LiftOver | None) -> pd.DataFrame:
        """The elements that loops are paired through; as they come from the same build, they are lifted like them."""
        quarantine, rules = self._collector.quarantine, self._collector.rules
        path = self._root / str(source.elements)
        file, tally = quarantine.register(str(source.elements), path), Tally()
        parts = list(read_elements(path, file, tally, rules, quarantine, lift))
        elements = pd.concat(parts, ignore_index=True)
        quarantine.require_whole(file, tally, {"elements": len(elements)})
        quarantine.check(file, tally.rows, source.max_bad_fraction)
        return elements[rules.regions.contain(*(elements[key] for key in PLACE))].reset_index(drop=True)


def _out_of_reach(source: GeneSource) -> str:
    if isinstance(source, CandidateTable):
        return f"no element has a gene within {source.window} bp"
    return "no loop joins an element at one anchor and a TSS at the other"


def _remedy(source: GeneSource) -> str:
    if isinstance(source, CandidateTable):
        return "give a larger `window`, or the annotation of the elements' genome build"
    return "give a larger `flank`, other `elements`, or the annotation of the loops' genome build"
