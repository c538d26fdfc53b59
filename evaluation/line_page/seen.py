"""What is known of a predicted line when all its pairs are scored, and of the prediction as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evaluation.line_page.ranges import COUNT_CUTS, DISTANCE_CUTS, LOGIT_CUTS, Counts, LineRanges


@dataclass(frozen=True)
class SeenLine:
    """A line's scores, counted."""

    line: str
    distance: Counts
    """bp of all pairs."""
    called_distance: Counts
    """bp of called pairs."""
    logit: Counts
    """Scores before calibration."""
    signals: dict[str, Counts]
    """Per signal track of the model; of a line of very many pairs, over some of them, evenly spread."""
    considered: NDArray[np.int64]
    """(g,) enhancers of each gene."""
    per_gene: NDArray[np.int64]
    """(g,) called ones among them, the gene's own promoter left out."""
    per_enhancer: NDArray[np.int64]
    """(u,) called genes of each enhancer, likewise."""
    environment: NDArray[np.float64]
    """(s, dE) z_E of its support sets; (0, 0) where there is none."""


class LineCounts:
    """The part of a `SeenLine` that is counted batch by batch."""

    def __init__(self, line: str, tracks: Sequence[str], ranges: LineRanges | None) -> None:
        """Cuts are those of `ranges`; without them no tracks are counted, because nothing is known to hold them to."""
        self.line = line
        self.distance, self.called_distance = Counts(DISTANCE_CUTS), Counts(DISTANCE_CUTS)
        self.logit = Counts(ranges.logit.cuts if ranges else LOGIT_CUTS)
        known = ranges.signals if ranges else {}
        self.signals = {track: Counts(known[track].cuts) for track in tracks if track in known}

    def add(self, distance: NDArray[np.floating], logit: NDArray[np.floating], called: NDArray[np.bool_]) -> None:
        """Take distances (bp, NaN unknown), scores and calls of pairs, each (k,)."""
        self.distance.add(distance)
        self.called_distance.add(distance[called])
        self.logit.add(logit)

    def add_signals(self, tracks: Sequence[str], values: NDArray[np.float32]) -> None:
        """Take signals (k, S) of pairs, in the order of `tracks` (S,)."""
        for column, track in enumerate(tracks):
            if track in self.signals:
                self.signals[track].add(values[:, column])

    def seen(
        self,
        considered: NDArray[np.int64],
        per_gene: NDArray[np.int64],
        per_enhancer: NDArray[np.int64],
        environment: NDArray[np.float64],
    ) -> SeenLine:
        """Everything of the line, arguments as in `SeenLine`."""
        counted = (self.distance, self.called_distance, self.logit, self.signals)
        return SeenLine(self.line, *counted, considered, per_gene, per_enhancer, environment)


@dataclass(frozen=True)
class Facts:
    """What a page says of the prediction beside its lines."""

    run: str
    """The run the model comes from."""
    threshold: float
    """Probability at and above which a pair is called."""
    logit_threshold: float
    """The same as a score before calibration."""
    train_lines: Sequence[str]
    missing_tracks: Sequence[str]
    """Tracks that the model knows and the input lacks."""
    ranges: LineRanges | None
    """None: the model carries none."""
    notes: Sequence[str] = field(default=())
    """Sentences on how the scores were made."""


def count_spread(values: NDArray[np.int64]) -> Counts:
    """Counts of links or members, with the cuts that all lines share."""
    counts = Counts(COUNT_CUTS)
    counts.add(values)
    return counts
