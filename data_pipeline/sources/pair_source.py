"""What every source of pairs has in its description, whatever its format."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from data_pipeline.settings import PathText, Settings

Column = str | Annotated[int, Field(ge=1)]
"""A column by its name in the header row, or by its number counted from 1."""


class LiftSettings(Settings):
    """Coordinates of a source are moved to the build of the store."""

    chain: PathText
    """UCSC chain file from the source's build, plain or gzip, relative to the root."""
    to: str = Field(min_length=1)
    """Build the chain leads to (hg38, GRCh38, ...); that of the store."""


class PairSource(Settings):
    """What every source of pairs has."""

    file: PathText
    """Table of pairs, plain or gzip, relative to the root."""
    line: str | None = None
    """Cell line of the whole file; otherwise the rows name it."""
    labels: bool = True
    """False: the table has no labels (or they are not to be read); every label becomes -1, unknown."""
    lift: LiftSettings | None = None
    """Lift-over of the pairs to another genome build; rows that do not lift are quarantined."""
    max_bad_fraction: float = Field(default=0.02, ge=0, le=1)
    """Share of rows (those outside `regions` not counted) that may be quarantined before the ingest stops."""
