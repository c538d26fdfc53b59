"""Descriptions of what other programs of the field write, read as pairs to score: none of them has labels."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from data_pipeline.settings import PathText
from data_pipeline.sources.pair_source import PairSource


class UnlabelledSource(PairSource):
    """A source that says which pairs there are, not which of them interact."""

    labels: Literal[False] = False
    """There are none: a score of another program is no label."""


class AbcTable(UnlabelledSource):
    """Table of the ABC model (`EnhancerPredictionsAllPutative`, `...Full_threshold...`), columns by its header."""

    format: Literal["abc"]
    """Chooses this kind of source."""


class EncodeRe2gTable(UnlabelledSource):
    """Table of ENCODE-rE2G (`encode_e2g_predictions...`), columns by its header."""

    format: Literal["encode_re2g"]
    """Chooses this kind of source."""


class Sce2gTable(UnlabelledSource):
    """Table of scE2G, columns by its header."""

    format: Literal["sce2g"]
    """Chooses this kind of source."""


class GeneSource(UnlabelledSource):
    """A source whose rows become pairs with the genes of `genes`, several or none per row."""

    format: str
    """Chooses this kind of source."""
    line: str
    """Cell line of the file."""


class CandidateTable(GeneSource):
    """Elements (BED, narrowPeak, or a table whose header begins chr, start, end): all pairs with genes nearby."""

    format: Literal["candidates"]
    """Chooses this kind of source."""
    window: int = Field(default=5_000_000, ge=1, le=1_000_000_000)
    """Largest distance from the element's centre to a TSS, in bp."""
    own_promoters: bool = True
    """False: without pairs of an element and the gene whose TSS, 250 bp to both sides, it overlaps."""


class LoopTable(GeneSource):
    """Loops (HiCCUPS, Mustache, BEDPE): an element at one anchor, a TSS in the other, either way round."""

    format: Literal["loops"]
    """Chooses this kind of source."""
    elements: PathText | None = None
    """BED of elements, relative to the root: those that overlap an anchor are paired; without it, the anchor itself."""
    flank: int = Field(default=0, ge=0, le=1_000_000)
    """Bases added on both sides of an anchor where TSSs and elements are looked up."""
