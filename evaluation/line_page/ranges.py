"""What the training lines look like, frozen with the model: the ranges that a new line is held against.

    ranges.json     in the report of a run and in an export, beside the calibration

A number is kept as the shares of its values between fixed cuts, per line: small, comparable between lines whatever
their size, and countable for a new line batch by batch.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from data_pipeline.settings import Settings

RANGES = "ranges.json"
"""Name of the file, in a report and in an export."""
DISTANCE_CUTS = [
    *(1e3, 2e3, 5e3, 1e4, 2e4, 3e4, 4e4, 5e4, 7e4, 1e5, 1.5e5, 2e5, 3e5, 4e5, 5e5, 7e5),
    *(1e6, 1.5e6, 2e6, 3e6, 5e6),
]
"""bp at which distances are cut; about the resolution that the eye has on a logarithmic axis."""
COUNT_CUTS = [*(count + 0.5 for count in range(10)), 14.5, 19.5, 29.5, 49.5, 99.5, 199.5]
"""Counts, one by one where they are small."""
LOGIT_CUTS = [float(value) for value in np.arange(-12, 12.5, 0.5)]
"""Log-odds of a model nothing is known of."""


class Spread(Settings):
    """How one number is distributed in each line."""

    cuts: list[float]
    """B - 1 ascending values; bin b holds what is at least cut b - 1 and below cut b."""
    shares: dict[str, list[float]]
    """B shares of the values of each line that are known; they add up to 1, or are all 0 where none is known."""
    known: dict[str, float]
    """Share of each line's values that are known."""
    mean: dict[str, float]
    """Of each line's known values; 0 where none is known."""

    @model_validator(mode="after")
    def _lines_agree(self) -> Spread:
        if any(len(own) != len(self.cuts) + 1 for own in self.shares.values()):
            raise ValueError("a line needs one share more than there are cuts")
        if not self.shares.keys() == self.known.keys() == self.mean.keys():
            raise ValueError("shares, known and mean need the same lines")
        return self


class LinkRanges(Settings):
    """Called pairs of the training lines at one threshold."""

    threshold: float = Field(ge=0, le=1)
    """Probability at and above which pairs were called."""
    called: dict[str, float]
    """Share of each line's pairs that are called."""
    per_gene: Spread
    """Called enhancers of a gene, its own promoter left out."""
    per_enhancer: Spread
    """Called genes of an enhancer, the gene whose promoter it is left out."""
    distance: Spread
    """bp between enhancer and TSS of called pairs."""


class LineRanges(Settings):
    """All that is kept of the lines a model was trained on, and of the one its calibration comes from."""

    format_version: Literal[1] = 1
    """Version of this layout."""
    train_lines: list[str] = Field(min_length=1)
    """Lines trained on."""
    held_out: str
    """The validation line: what a line looks like that the model was not trained on and is known to do well or not."""
    pairs: dict[str, int]
    """Pairs of each line that this was counted on."""
    distance: Spread
    """bp between enhancer and TSS."""
    logit: Spread
    """Scores before calibration."""
    considered: Spread
    """Enhancers of a gene, called or not."""
    links: list[LinkRanges]
    """Per threshold that the calibration names."""
    signals: dict[str, Spread]
    """Per signal track of the model."""
    environment: dict[str, list[float]]
    """z_E of each line, mean over support sets; empty lists of a model without."""
    support_sd: list[float]
    """Standard deviation of z_E between support sets of one line, over all lines, per component."""

    @property
    def lines(self) -> list[str]:
        """Training lines, then the validation line."""
        return [*self.train_lines, self.held_out]

    def links_at(self, threshold: float) -> LinkRanges | None:
        """What was counted at `threshold`; None where it was none of the calibration's."""
        return next((own for own in self.links if abs(own.threshold - threshold) < 1e-9), None)


class Counts:
    """Values of one line counted between cuts as they come; memory is that of the bins."""

    def __init__(self, cuts: list[float]) -> None:
        """`cuts` as in `Spread`."""
        self.cuts = cuts
        self._cuts = np.array(cuts, dtype=np.float64)
        self.bins = np.zeros(len(cuts) + 1, dtype=np.int64)
        self.total = 0
        """Values seen, known or not."""
        self._sum = 0.0

    def add(self, values: NDArray[np.floating] | NDArray[np.integer]) -> None:
        """Take `values` (n,); what is not finite is unknown."""
        known = np.asarray(values, dtype=np.float64)
        self.total += len(known)
        known = known[np.isfinite(known)]
        self.bins += np.bincount(np.searchsorted(self._cuts, known, side="right"), minlength=len(self.bins))
        self._sum += float(known.sum())

    @property
    def count(self) -> int:
        """Known values."""
        return int(self.bins.sum())

    @property
    def mean(self) -> float:
        """Of the known values; 0 where there is none."""
        return self._sum / self.count if self.count else 0.0

    @property
    def known(self) -> float:
        """Share of the values that are known."""
        return self.count / self.total if self.total else 0.0

    @property
    def shares(self) -> NDArray[np.float64]:
        """(B,) shares of the known values; 0 where there is none."""
        return self.bins / max(self.count, 1)


def spread_of(counted: dict[str, Counts]) -> Spread:
    """The spread of lines counted with the same cuts, rounded to what a figure shows."""
    return Spread(
        cuts=next(iter(counted.values())).cuts,
        shares={line: [round(float(own), 5) for own in counts.shares] for line, counts in counted.items()},
        known={line: round(counts.known, 5) for line, counts in counted.items()},
        mean={line: float(f"{counts.mean:.6g}") for line, counts in counted.items()},
    )


def counts_of(cuts: list[float], values: NDArray[np.floating] | NDArray[np.integer]) -> Counts:
    """`values` (n,) counted at once."""
    counts = Counts(cuts)
    counts.add(values)
    return counts


def quantile_cuts(values: list[NDArray[np.float32]], bins: int) -> list[float]:
    """Cuts into `bins` that hold like shares of the lines' `values` together, every line with the same weight."""
    at = np.linspace(0, 1, 101)
    known = [own[np.isfinite(own)] for own in values]
    pooled = np.concatenate([np.zeros(0), *(np.quantile(own, at) for own in known if len(own))])
    if not len(pooled):
        return [0.0]
    cuts = np.quantile(pooled, np.linspace(0, 1, bins + 1)[1:-1])
    return sorted({float(f"{cut:.6g}") for cut in cuts})
