"""What a format is given: the facts of a prediction before it starts, then its rows in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_pipeline.context import Landscape
from data_pipeline.store import Store
from distributed.formats.catalogue import Catalogue
from evaluation.line_page import LineRanges


@dataclass(frozen=True)
class Background:
    """What a page and pictures show beside the pairs."""

    ranges: LineRanges | None = None
    """Of the training lines; None: the model carries none."""
    train_lines: Sequence[str] = ()
    missing_tracks: Sequence[str] = ()
    """Tracks that the model knows and the input lacks."""
    logit_threshold: float = 0.0
    """The score, before calibration, at which a pair is called."""
    notes: Sequence[str] = ()
    """Sentences on how the pairs were scored."""
    environment: Callable[[str], NDArray[np.float64]] = lambda line: np.empty((0, 0))
    """Line -> z_E (s, dE) of its support sets; asked when all pairs were scored."""
    loci: Sequence[str] = ()
    """Genes whose loci are drawn."""
    signals: Callable[[str, str], dict[str, Landscape]] = lambda line, chrom: {}
    """(line, chromosome) -> tracks of one signal each by assay; empty where none were given."""


@dataclass(frozen=True)
class Subject:
    """What is known of a prediction before a pair is scored."""

    store: Store
    """Store of the pairs."""
    catalogue: Catalogue
    """Its genes and places."""
    rows: NDArray[np.int64]
    """(k,) store rows that will be scored."""
    schema: pa.Schema
    """Columns of a batch's table; docs/predict.md says what each means."""
    threshold: float | None
    """Probability at and above which a pair is called; None where the model has no calibration."""
    asked: bool
    """Whether the user named a threshold."""
    model: str
    """The run the model comes from."""
    background: Background = field(default_factory=Background)
    """For pages and pictures."""


@dataclass(frozen=True)
class Batch:
    """A stretch of the answers, in the order of the input."""

    table: pa.Table
    """(i,) rows of `Subject.schema`."""
    rows: NDArray[np.int64]
    """(i,) store rows they answer for."""

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        """A column of the table."""
        return self.table[name]

    @cached_property
    def probability(self) -> NDArray[np.float64]:
        """(i,) P(interaction); NaN without calibration."""
        values: NDArray[np.float64] = pc.fill_null(self.table["probability"], np.nan).to_numpy()
        return values

    @cached_property
    def called(self) -> NDArray[np.bool_]:
        """(i,) the pairs that the table calls; a prevalence shift moves their probabilities and not the calls."""
        values: NDArray[np.bool_] = pc.fill_null(self.table["call"], 0).to_numpy() == 1
        return values

    def kept(self) -> Batch:
        """The rows that are called."""
        return self.where(self.called)

    def where(self, chosen: NDArray[np.bool_]) -> Batch:
        """The rows where `chosen` (i,) is true."""
        return Batch(self.table.filter(pa.array(chosen)), self.rows[chosen])
