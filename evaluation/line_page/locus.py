"""One gene and what lies around it: its enhancers with their scores, neighbouring genes and signals, ready to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_ARCS = 150
"""Pairs that are drawn, the called ones first."""
MARGIN = 0.06
"""Share of the span that is shown on both sides of it."""
LEAST_SPAN = 100_000
"""bp that are shown at least."""
BEST = 10
"""Pairs that decide what is shown where none is called."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ScoredEnhancers:
    """The n pairs of a gene in one line that lie on its chromosome."""

    start: NDArray[np.int64]
    """(n,) bp."""
    end: NDArray[np.int64]
    """(n,) bp."""
    tss: NDArray[np.int64]
    """(n,) TSS of the gene that the pair was scored with."""
    probability: Floats
    """(n,) P(interaction)."""
    called: NDArray[np.bool_]
    """(n,) whether the pair is called."""
    names: Sequence[str]
    """(n,) of the enhancers."""
    signals: dict[str, Floats]
    """(n,) numbers of the enhancers by signal, where no tracks were given."""

    @property
    def centre(self) -> NDArray[np.int64]:
        """(n,) middle of each enhancer."""
        return (self.start + self.end) // 2

    def take(self, rows: NDArray[np.int64]) -> ScoredEnhancers:
        """The pairs `rows`."""
        return ScoredEnhancers(
            self.start[rows],
            self.end[rows],
            self.tss[rows],
            self.probability[rows],
            self.called[rows],
            [self.names[row] for row in rows],
            {name: values[rows] for name, values in self.signals.items()},
        )

    @staticmethod
    def joined(parts: Sequence[ScoredEnhancers]) -> ScoredEnhancers:
        """The pairs of all `parts`, one at least."""
        return ScoredEnhancers(
            np.concatenate([own.start for own in parts]),
            np.concatenate([own.end for own in parts]),
            np.concatenate([own.tss for own in parts]),
            np.concatenate([own.probability for own in parts]),
            np.concatenate([own.called for own in parts]),
            [name for own in parts for name in own.names],
            {name: np.concatenate([own.signals[name] for own in parts]) for name in parts[0].signals},
        )


@dataclass(frozen=True)
class Gene:
    """A gene near the locus."""

    name: str
    tss: int
    """bp."""
    strand: int
    """1 plus, -1 minus, 0 unknown."""


@dataclass(frozen=True)
class LineAtLocus:
    """A line's part of the picture."""

    line: str
    pairs: ScoredEnhancers
    """Those that are drawn, the weakest first so that the strongest lie on top."""
    left_out: int
    """Pairs that lie within the window and are not drawn, because there are too many."""
    tracks: dict[str, Floats]
    """(b,) mean signal in the bins of the locus, by assay."""


@dataclass(frozen=True)
class Locus:
    """All of a picture."""

    gene: str
    chrom: str
    tss: int
    start: int
    """First base shown."""
    end: int
    """One past the last base shown."""
    bins: NDArray[np.int64]
    """(b + 1,) edges of the bins of tracks."""
    genes: Sequence[Gene]
    """All genes within the window, by place."""
    lines: Sequence[LineAtLocus]
    threshold: float


def window(pairs: Sequence[ScoredEnhancers], tss: int) -> tuple[int, int]:
    """First and last base to show: around the gene and its called enhancers, or its best ones where none is called."""
    centres = [np.array([tss])]
    for own in pairs:
        best = np.argsort(-own.probability)[:BEST]
        centres.append(own.centre[own.called] if own.called.any() else own.centre[best])
    places = np.concatenate(centres)
    low, high = int(places.min()), int(places.max())
    widen = max(int((high - low) * MARGIN), (LEAST_SPAN - (high - low)) // 2, 0)
    return max(low - widen, 0), high + widen


def shown_pairs(pairs: ScoredEnhancers, start: int, end: int) -> tuple[ScoredEnhancers, int]:
    """The pairs within [start, end) that are drawn, the weakest first, and how many are not."""
    inside = np.flatnonzero((pairs.centre >= start) & (pairs.centre < end))
    order = inside[np.argsort(pairs.probability[inside], kind="stable")]
    return pairs.take(order[-MOST_ARCS:]), max(len(order) - MOST_ARCS, 0)


def arc(centre: int, tss: int, span: int, points: int = 41) -> tuple[Floats, Floats]:
    """x and y (points,) of an arc over a pair; its height grows with the square root of its share of `span`."""
    share = np.linspace(0, 1, points)
    height = np.sqrt(min(abs(centre - tss) / max(span, 1), 1.0))
    return centre + (tss - centre) * share, 4 * height * share * (1 - share)


def weight(probability: float, threshold: float, called: bool) -> tuple[float, float]:
    """Width and opacity of an arc: called ones stand out, and more with a higher probability."""
    if not called:
        return 0.6, 0.25
    above = (probability - threshold) / max(1 - threshold, 1e-9)
    return 1.2 + 2.8 * above, 0.55 + 0.45 * above


def reads(locus: Locus) -> str:
    """What is to be seen, in sentences."""
    told = []
    for own in locus.lines:
        called = int(own.pairs.called.sum())
        best = len(own.pairs.names) - 1
        farthest = np.abs(own.pairs.centre - own.pairs.tss)[own.pairs.called]
        more = f", up to {farthest.max() / 1000:,.0f} kb away" if called else ""
        most = (
            f"; the strongest, {own.pairs.names[best]}, has a probability of {own.pairs.probability[best]:.2f}"
            if best >= 0
            else ""
        )
        out = f" ({own.left_out:,} weaker pairs are not drawn)" if own.left_out else ""
        told.append(f"In {own.line} {called} of {len(own.pairs.names)} enhancers shown are called{more}{most}{out}.")
    return " ".join(
        [
            *told,
            "Each arc leads from an enhancer to the TSS: blue ones are called, the thicker the more probable, grey "
            "ones are not. Marks below are the genes that were asked about.",
        ]
    )
