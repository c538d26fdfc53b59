"""The parts of a page: what a report says, before anything is drawn or set.

Text is plain text and is escaped where it is set. Text inside a plotly figure is not: pass what users have named
through `plots.plain`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from plotly.graph_objects import Figure as Drawing


@dataclass(frozen=True)
class Prose:
    """Sentences, one paragraph each."""

    paragraphs: Sequence[str]
    kind: ClassVar[str] = "prose"


@dataclass(frozen=True)
class Points:
    """Sentences as a list."""

    sentences: Sequence[str]
    kind: ClassVar[str] = "points"


@dataclass(frozen=True)
class Callout:
    """A sentence that must not be overlooked."""

    text: str
    tone: Literal["good", "note", "warning"] = "note"
    kind: ClassVar[str] = "callout"


@dataclass(frozen=True)
class Table:
    """A table of finished cells, for the console, for Markdown and for a page alike."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    """Cells; a line break in one is kept where there is room for it, '-' or nothing where a number does not exist."""
    words: Sequence[str] = ()
    """Columns of words. The others hold numbers: set to the right, and sorted by the number a cell begins with."""
    reads: str = ""
    """What to read off it, in a sentence; a page needs one."""
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Plot:
    """One panel of a figure."""

    title: str
    """What sets it apart from the other panels; empty where there is one."""
    drawing: Drawing
    """Plotly's figure, best begun with `plots.drawing`; its height is kept, its width is that of the place."""


@dataclass(frozen=True)
class Figure:
    """Panels that are read together: side by side where there is room, else below one another."""

    name: str
    """Its name on the page (`figure-NAME`): small letters, digits and dashes."""
    title: str
    plots: Sequence[Plot]
    reads: str
    """What to read off it, in a sentence."""
    alt: str
    """What is drawn, for those who do not see it."""
    wide: bool = False
    """Whether a panel needs half of a desktop's width, and not a third."""
    kind: ClassVar[str] = "figure"


Part = Prose | Points | Callout | Table | Figure


@dataclass(frozen=True)
class Section:
    """Parts under one heading."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Page:
    """A whole report."""

    title: str
    subtitle: str
    """What it is about: the run, the store; a time only if the content has one."""
    answer: Sequence[str]
    """The sentences it opens with; three are read."""
    sections: Sequence[Section]
