"""The formats a prediction can be written in, and the check that they fit what is to be written.

A new one is a class in a file of its own, its name and ending in `names`, and a line here.
"""

from __future__ import annotations

import shlex

import numpy as np

from data_pipeline.errors import UserError
from distributed.formats.abc_table import AbcFormat
from distributed.formats.bedpe import BedpeFormat
from distributed.formats.igvf import IgvfFormat
from distributed.formats.interact import InteractFormat
from distributed.formats.line_page import LocusFormat, PageFormat
from distributed.formats.names import OutputFormat, Outputs
from distributed.formats.output_format import Format
from distributed.formats.score_table import ScoreTableFormat
from distributed.formats.subject import Subject
from distributed.formats.summaries import PerEnhancer, PerGene

FORMATS: dict[OutputFormat, type[Format]] = {
    "parquet": ScoreTableFormat,
    "tsv": ScoreTableFormat,
    "abc": AbcFormat,
    "bedpe": BedpeFormat,
    "interact": InteractFormat,
    "igvf": IgvfFormat,
    "per_gene": PerGene,
    "per_enhancer": PerEnhancer,
    "page": PageFormat,
}


def opened(outputs: Outputs, subject: Subject) -> list[Format]:
    """A format per file of `outputs` and per locus; raises `UserError` where one does not fit the pairs or the model.

    Nothing is written yet, so that a mistake is named before pairs are scored.
    """
    require_calibration(outputs, subject.threshold is not None, subject.model)
    made: list[Format] = []
    for name, file in outputs.files.items():
        _require_fit(f"format {name}", FORMATS[name], subject)
        made.append(FORMATS[name](file, subject))
    for gene in subject.background.loci:
        _require_fit("--locus", LocusFormat, subject)
        made.append(LocusFormat(outputs.stem, subject, gene))
    for own in made:
        for wanted in own.files:
            outputs.require_free(wanted)
    return made


def require_calibration(outputs: Outputs, calibrated: bool, run: str) -> None:
    """Raise `UserError` where something is to be written that a model of `run` without calibration cannot give."""
    wanted = [f"format {name}" for name in outputs.files if FORMATS[name].calibrated]
    wanted += ["--locus"] if outputs.loci else []
    if wanted and not calibrated:
        raise UserError(
            f"{wanted[0]} gives probabilities and the model has no calibration; run evaluate.py --run "
            f"{shlex.quote(f'runs/{run}')} first, or write --format parquet or tsv"
        )


def _require_fit(name: str, own: type[Format], subject: Subject) -> None:
    catalogue, pairs = subject.catalogue, subject.store.pairs
    promoters = np.unique(pairs.promoter[subject.rows])
    if own.placed:
        missing = [
            int(np.count_nonzero(~places.known[elements]))
            for places, elements in (
                (catalogue.enhancers, np.unique(pairs.enhancer[subject.rows])),
                (catalogue.promoters, promoters),
            )
        ]
        if any(missing):
            raise UserError(
                f"{name} gives coordinates, and {missing[0]} enhancers and {missing[1]} promoters of the input "
                "are known by name only; give pairs with coordinates, or write --format parquet or tsv"
            )
    if own.genes:
        nameless = sum(not (catalogue.symbols[row] or catalogue.gene_ids[row]) for row in promoters)
        if nameless:
            raise UserError(
                f"{name} needs a gene for every pair, and {nameless} of {len(promoters)} promoters of the input "
                "have neither symbol nor Ensembl identifier; give pairs with genes, or write another --format"
            )
