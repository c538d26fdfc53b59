"""What the context of pairs is made of: pairs of one line on one chromosome, its landscape, annotated genes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data_pipeline.context.landscape import Landscape, Positions
from data_pipeline.context.names import MARKS

BIN = 10_000
"""Width of a bin in bp; loops are seen at 5 to 10 kb."""
NEIGHBOURHOOD = 500_000
"""Genes within so many bp of an enhancer compete with one another for it."""
OWN = 250
"""An annotated TSS within so many bp of the pair's is the pair's own: annotations differ by some bases, and one base
off, the gene itself would stand between."""


@dataclass(frozen=True)
class Places:
    """k pairs on one chromosome."""

    enhancer_start: Positions
    """(k,) bp, 0-based."""
    enhancer_end: Positions
    """(k,) one past the last base."""
    promoter_start: Positions
    """(k,) bp, 0-based."""
    promoter_end: Positions
    """(k,) one past the last base."""
    tss: Positions
    """(k,) transcription start site."""

    @cached_property
    def centre(self) -> Positions:
        """(k,) middle of the enhancer."""
        return (self.enhancer_start + self.enhancer_end) // 2

    @cached_property
    def outward(self) -> NDArray[np.int64]:
        """(k,) +1 where the promoter lies at higher positions than the enhancer, -1 where at lower ones."""
        return np.where(self.tss >= self.centre, 1, -1)

    @property
    def distance(self) -> Positions:
        """(k,) bp from the enhancer's middle to the TSS."""
        return np.abs(self.tss - self.centre)

    def take(self, rows: NDArray[np.int64]) -> Places:
        """The pairs `rows`."""
        return Places(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Scene:
    """Pairs and what surrounds them."""

    places: Places
    landscape: Landscape
    """Its signals are `MARKS`, in that order."""
    genes: Positions
    """(g,) ascending distinct TSSs of the annotation on this chromosome."""

    def take(self, rows: NDArray[np.int64]) -> Scene:
        """The same with the pairs `rows` alone."""
        return Scene(self.places.take(rows), self.landscape, self.genes)

    def neighbours(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(k, most) rows of `genes` within the neighbourhood of each enhancer, and (k, most) bool where there is one.

        The pair's own gene is none of them. Rows where there is none are 0, and must not be looked at.
        """
        first = np.searchsorted(self.genes, self.places.centre - NEIGHBOURHOOD, side="left")
        last = np.searchsorted(self.genes, self.places.centre + NEIGHBOURHOOD, side="right")
        index = first[:, None] + np.arange((last - first).max(initial=0))
        there = index < last[:, None]
        index = np.where(there, index, 0)
        return index, there & (np.abs(self.genes[index] - self.places.tss[:, None]) > OWN)


@dataclass(frozen=True)
class Column:
    """A number of a pair."""

    name: str
    assays: tuple[str, ...] = ()
    """What it cannot be known without."""


def signal(mark: str) -> int:
    """Column of `mark` in a landscape."""
    return MARKS.index(mark)


def along(places: Places, before: int, width: int) -> NDArray[np.int64]:
    """(k, before + longest + before + 1) bins from `before` behind the enhancer to as many beyond the promoter.

    Column `before` is the enhancer's bin, and columns go towards the promoter; -1 for what lies before the chromosome
    or farther than `before` beyond the promoter's bin.
    """
    first, last = places.centre // width, places.tss // width
    steps = np.abs(last - first)
    column = np.arange(-before, int(steps.max(initial=0)) + before + 1)
    index = first[:, None] + places.outward[:, None] * column
    return np.where((index >= 0) & (column <= (steps + before)[:, None]), index, -1)
