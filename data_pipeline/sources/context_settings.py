"""Settings of the context of pairs: where its landscapes come from, and which columns are made."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from data_pipeline.context import GROUP_NAMES, MARKS
from data_pipeline.settings import PathText, Settings

if TYPE_CHECKING:
    GroupName = str
    MarkName = str
else:
    GroupName = Literal[GROUP_NAMES]
    MarkName = Literal[MARKS]
PLACEHOLDER = re.compile(r"\{line\}|\{mark\}")
"""What stands for a line and for an assay in the names of files."""


class ContextSettings(Settings):
    """What surrounds a pair in its line, as columns of the store: see docs/context.md for each."""

    landscape: Literal["pairs", "peaks", "tracks"] = "pairs"
    """Signals along the genome: reconstructed from `signals` (means over enhancer, promoter and window of each pair),
    from the files of `peaks`, or from `tracks`."""
    tracks: PathText | None = None
    """bigWig or bedGraph files with `{line}` and `{mark}`, relative to the root; a file that is not there is an assay
    that the line lacks."""
    assays: dict[MarkName, str] = Field(default={})
    """What files or tables call an assay, where it is not the name used here: {H3K27ac: H3K27AC, DNase: ATAC}."""
    groups: list[GroupName] = Field(default=[*GROUP_NAMES], min_length=1)
    """Groups of columns to make; `order`, `promoter` and `activity` need `genes`."""
    profile: bool = False
    """Whether bins of 10 kb of each line's landscape are stored, from which `model.environment.profile` cuts a profile
    of each pair; with `genes`, TSSs are in it."""

    @model_validator(mode="after")
    def _tracks_are_named(self) -> Self:
        if self.landscape == "tracks" and self.tracks is None:
            raise ValueError("context.landscape=tracks needs context.tracks, a file name with {line} and {mark}")
        if self.tracks is not None and ("{line}" not in self.tracks or "{mark}" not in self.tracks):
            raise ValueError("context.tracks must contain {line} and {mark}")
        return self

    def called(self, mark: str) -> str:
        """What files and tables call `mark`."""
        return self.assays.get(mark, mark)

    def track(self, line: str, mark: str) -> str:
        """The name of a line's track of a mark, relative to the root."""
        own = {"{line}": line, "{mark}": self.called(mark)}
        return PLACEHOLDER.sub(lambda found: own[found[0]], self.tracks or "")
