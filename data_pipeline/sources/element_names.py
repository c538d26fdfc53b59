"""Names of elements, compared by what they mean: `1:3000.0-3400`, `K562|chr1:3000-3400` and `chr1:3000-3400` are one.

Tables write the line beside, before or behind the name, and chromosomes and numbers as their programs do.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import pandas as pd

from data_pipeline.sources.genome import ChromNames

NAMED_INTERVAL = re.compile(r"(?:^|\|)(?P<chrom>[A-Za-z0-9_.]+):(?P<start>\d+)(?:\.0*)?-(?P<end>\d+)(?:\.0*)?")
"""A place in a name; of several parts, the first that is one."""


class ElementNames:
    """Names without the line, with places written in one way."""

    def __init__(self, lines: Collection[str], chroms: ChromNames) -> None:
        """`lines` are all names a line may have, `chroms` says what chromosomes are called."""
        self._lines, self._chroms = lines, chroms

    def plain(self, name: str) -> str:
        """`name` without parts that are a line, empty or `_`."""
        parts = (part for part in name.split("|") if part not in self._lines and part not in ("", "_"))
        return "|".join(self._place(part) for part in parts)

    def plain_column(self, names: pd.Series) -> pd.Series:
        """`plain` of every row."""
        return names.map({name: self.plain(name) for name in names.unique()})

    def _place(self, part: str) -> str:
        found = NAMED_INTERVAL.fullmatch(part)
        if found is None:
            return part
        return f"{self._chroms.canonical(found['chrom'])}:{int(found['start'])}-{int(found['end'])}"
