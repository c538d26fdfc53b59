"""Genes that a user names, found among those of the input, and what is drawn around each."""

from __future__ import annotations

import difflib
from collections import defaultdict

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_pipeline.errors import UserError
from data_pipeline.store import Store
from distributed.formats.catalogue import Catalogue
from distributed.formats.subject import Batch, Subject
from evaluation.line_page import Gene, LineAtLocus, Locus, ScoredEnhancers, shown_pairs, window

BINS = 600
"""Bins of a track; about one per pixel of a panel."""
NEAR = 5
"""Names that an unknown gene may have meant."""
SHOWN = ("CTCF", "DNase", "ATAC", "H3K27ac", "H3K4me3", "H3K4me1")
"""Assays whose signals at the enhancers are drawn where no track was given, as many as the input has."""


def find_gene(catalogue: Catalogue, asked: str) -> NDArray[np.int64]:
    """Promoters (p,) of the gene called `asked`: symbol, Ensembl identifier, or a promoter's own name.

    Raises `UserError`, with names like it, where there is none.
    """
    wanted = _key(asked)
    names = (catalogue.symbols, catalogue.gene_ids, catalogue.targets.to_pylist())
    for known in names:
        found = np.flatnonzero([_key(own) == wanted for own in known])
        if len(found):
            # A symbol may stand for genes on several chromosomes (PAR); one picture shows the first.
            same = catalogue.gene[found] == catalogue.gene[found[0]]
            return found[same]
    known = sorted({own for own in (*catalogue.symbols, *catalogue.targets.to_pylist()) if own})
    folded = {_key(own): own for own in known}
    near = [folded[key] for key in difflib.get_close_matches(wanted, folded, NEAR, 0.6)]
    like = f"; names like it are {', '.join(near)}" if near else ""
    raise UserError(
        f"no pair of the input is of a gene called '{asked}'{like}; give --locus a symbol or Ensembl identifier of a "
        f"gene that pairs were made with ({len(known):,} are)"
    )


class LocusFinder:
    """Keeps the pairs of one gene as they go by."""

    def __init__(self, subject: Subject, asked: str) -> None:
        """Raises `UserError` where no pair is of the gene `asked`."""
        self._subject = subject
        self._promoters = find_gene(subject.catalogue, asked)
        self._mine = np.zeros(len(subject.catalogue.tss), dtype=bool)
        self._mine[self._promoters] = True
        self._seen: list[Batch] = []
        promoters = np.unique(subject.store.pairs.promoter[subject.rows])
        if not self._mine[promoters].any():
            raise UserError(f"none of the lines that are scored has a pair of gene '{asked}'; give another --locus")

    @property
    def name(self) -> str:
        """What the gene is called."""
        name: str = self._subject.catalogue.targets[int(self._promoters[0])].as_py()
        return name

    def add(self, batch: Batch) -> None:
        """Take the next rows."""
        own = self._mine[self._subject.store.pairs.promoter[batch.rows]]
        if own.any():
            self._seen.append(batch.where(own))

    def locus(self) -> Locus:
        """The picture, when all rows were taken."""
        subject, store, catalogue = self._subject, self._subject.store, self._subject.catalogue
        promoter = int(self._promoters[0])
        chrom = store.manifest.chroms[catalogue.promoters.chrom[promoter]]
        tss = int(catalogue.tss[promoter])
        pairs = self._pairs()
        start, end = window(list(pairs.values()), tss)
        bins = np.linspace(start, end, BINS + 1).astype(np.int64)
        lines = []
        for line, own in pairs.items():
            shown, left_out = shown_pairs(own, start, end)
            tracks = {
                name: landscape.density(bins[:-1], bins[1:])[:, 0]
                for name, landscape in subject.background.signals(line, chrom).items()
            }
            lines.append(LineAtLocus(line, shown, left_out, tracks))
        threshold = subject.threshold if subject.threshold is not None else 1.0
        return Locus(self.name, chrom, tss, start, end, bins, self._genes(promoter, start, end), lines, threshold)

    def _pairs(self) -> dict[str, ScoredEnhancers]:
        store, catalogue = self._subject.store, self._subject.catalogue
        columns = _element_signals(store)
        parts: dict[str, list[ScoredEnhancers]] = defaultdict(list)
        for batch in self._seen:
            enhancer, promoter = store.pairs.enhancer[batch.rows], store.pairs.promoter[batch.rows]
            here = catalogue.enhancers.chrom[enhancer] == catalogue.promoters.chrom[promoter]
            names = batch["enhancer"].to_pylist()
            for code in np.unique(store.pairs.line[batch.rows]):
                mine = np.flatnonzero(here & (store.pairs.line[batch.rows] == code))
                values = store.signals(batch.rows[mine])[:, list(columns.values())]
                parts[store.lines[code]].append(
                    ScoredEnhancers(
                        catalogue.enhancers.start[enhancer[mine]],
                        catalogue.enhancers.end[enhancer[mine]],
                        catalogue.tss[promoter[mine]],
                        batch.probability[mine],
                        pc.fill_null(batch["call"], 0).to_numpy()[mine] == 1,
                        [names[row] for row in mine],
                        {name: values[:, at].astype(np.float64) for at, name in enumerate(columns)},
                    )
                )
        return {line: ScoredEnhancers.joined(own) for line, own in parts.items()}

    def _genes(self, promoter: int, start: int, end: int) -> list[Gene]:
        catalogue = self._subject.catalogue
        places = catalogue.promoters
        near = (places.chrom == places.chrom[promoter]) & (catalogue.tss >= start) & (catalogue.tss < end)
        names = catalogue.targets.to_pylist()
        return sorted(
            (Gene(names[row], int(catalogue.tss[row]), int(places.strand[row])) for row in np.flatnonzero(near)),
            key=lambda gene: (gene.tss, gene.name),
        )


def _key(name: str) -> str:
    """Without case, and without the version of an Ensembl identifier."""
    folded = name.strip().casefold()
    return folded.partition(".")[0] if folded.startswith("ens") else folded


def _element_signals(store: Store) -> dict[str, int]:
    """Columns of signals of enhancers, by assay: of elements (`enhancer:CTCF`) or of pairs (`pair:CTCF (enhancer)`)."""
    found: dict[str, int] = {}
    for wanted in SHOWN:
        for column, name in enumerate(store.signal_names):
            owner, _, track = name.partition(":")
            of_enhancer = owner == "enhancer" or (owner == "pair" and track.endswith(" (enhancer)"))
            if of_enhancer and track.removesuffix(" (enhancer)").casefold() == wanted.casefold():
                found.setdefault(wanted, column)
    return found
