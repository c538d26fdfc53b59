"""Signals of pairs from tables joined by the names of the pair's elements and the line.

Names are compared without their line part (`K562|chr1:5-9`, `chr1:5-9|K562|_` and `chr1:5-9` are one name), because
pair tables and signal tables write it differently. Tables are streamed; memory is the signals of the kept pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_pipeline.errors import UserError
from data_pipeline.pair_rows import Interned
from data_pipeline.store import KINDS, Kind
from data_pipeline.store_settings import SignalTable
from data_pipeline.text_tables import CHUNK_ROWS, open_bytes


class PairSignals:
    """Fills the signals of the kept pairs from one or more tables."""

    def __init__(self, pairs: pd.DataFrame, names: dict[Kind, Interned], lines: dict[str, int]) -> None:
        """`pairs` has numbers for line, enhancer_name, promoter_name; `names` numbers the names, `lines` the lines."""
        self._lines = lines
        self._names: dict[Kind, Interned] = {}
        numbers: dict[Kind, NDArray[np.int64]] = {}
        for kind in KINDS:
            self._names[kind] = Interned()
            plain = self._names[kind].column(pd.Series([self._plain(str(name)) for name in names[kind].codes]))
            numbers[kind] = plain.astype(np.int64)[pairs[f"{kind}_name"].to_numpy()]
        key = self._key(pairs["line"].to_numpy(np.int64), numbers["enhancer"], numbers["promoter"])
        self._order = np.argsort(key, kind="stable")
        self._sorted = key[self._order]
        self.tracks: list[str] = []
        """Names of the signals, known after the first table."""
        self.values = np.empty((len(pairs), 0), dtype=np.float32)
        """(N, S) float32, NaN where no table has the pair."""

    def add(self, table: SignalTable, path: Path, advance: Callable[[int], None] | None = None) -> int:
        """Read one table; returns how many kept pairs it had. Raises `UserError` for a table of another form."""
        found = 0
        for chunk in self._chunks(table, path, advance):
            tracks = [name for name in chunk.columns if name not in self._ignored(table)]
            if not self.tracks:
                self.tracks = tracks
                self.values = np.full((len(self._order), len(tracks)), np.nan, dtype=np.float32)
            if tracks != self.tracks:
                raise UserError(f"{path} has other signals than the tables before it: {', '.join(tracks)}")
            found += self._fill(table, chunk)
        return found

    def _fill(self, table: SignalTable, chunk: pd.DataFrame) -> int:
        columns: dict[Kind, str] = {"enhancer": table.enhancer_column, "promoter": table.promoter_column}
        numbers = {
            kind: self._names[kind].lookup(self._plain_column(chunk[column])) for kind, column in columns.items()
        }
        line = chunk[table.line_column].map(self._lines).fillna(-1).to_numpy(np.int64)
        known = (line >= 0) & (numbers["enhancer"] >= 0) & (numbers["promoter"] >= 0)
        key = self._key(line, *(numbers[kind].astype(np.int64) for kind in KINDS))[known]
        first, last = (np.searchsorted(self._sorted, key, side=side) for side in ("left", "right"))
        hits = np.flatnonzero(first < last)
        values = chunk[self.tracks].to_numpy(np.float32)[known]
        rows = self._order[first[hits]]
        # Of several table rows for a pair the first one stays, as of several pairs the first one stayed.
        rows, once = np.unique(rows, return_index=True)
        fresh = np.isnan(self.values[rows]).all(axis=1)
        self.values[rows[fresh]] = values[hits[once[fresh]]]
        return int(fresh.sum())

    def _key(
        self, line: NDArray[np.int64], enhancer: NDArray[np.int64], promoter: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        return (line * len(self._names["enhancer"].codes) + enhancer) * len(self._names["promoter"].codes) + promoter

    def _plain(self, name: str) -> str:
        return "|".join(part for part in name.split("|") if part not in self._lines and part not in ("", "_"))

    def _plain_column(self, names: pd.Series) -> pd.Series:
        return names.map({name: self._plain(name) for name in names.unique()})

    @staticmethod
    def _ignored(table: SignalTable) -> set[str]:
        return {*table.ignore, table.enhancer_column, table.promoter_column, table.line_column}

    def _chunks(self, table: SignalTable, path: Path, advance: Callable[[int], None] | None) -> Iterator[pd.DataFrame]:
        keys = dict.fromkeys((table.enhancer_column, table.promoter_column, table.line_column), str)
        with open_bytes(path, advance) as stream:
            try:
                for chunk in pd.read_csv(stream, chunksize=CHUNK_ROWS, dtype=keys):
                    self._check_columns(table, path, chunk, list(keys))
                    yield chunk
            except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
                raise UserError(f"{path} cannot be read as a comma-separated table: {str(error).strip()}") from error

    def _check_columns(self, table: SignalTable, path: Path, chunk: pd.DataFrame, keys: list[str]) -> None:
        for name in keys:
            if name not in chunk.columns:
                raise UserError(f"{path} has no column '{name}'; its columns are {', '.join(map(str, chunk.columns))}")
        for name in chunk.columns:
            if name not in self._ignored(table) and not pd.api.types.is_numeric_dtype(chunk[name]):
                raise UserError(f"{path}: column '{name}' holds text; mend it or name it in `ignore`")
