"""Signals of pairs from tables joined by the names of the pair's elements and the line.

Names are compared without their line part and with places written in one way (`element_names`), because pair tables
and signal tables write them differently. Tables are streamed; memory is the signals of the kept pairs. Every row of a
table is joined, passed over (other pairs, other lines, a pair that has its signals already) or quarantined.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_pipeline.errors import UserError, listed
from data_pipeline.sources.element_names import ElementNames
from data_pipeline.sources.numbers_as_text import values
from data_pipeline.sources.pair_rows import Interned
from data_pipeline.sources.quarantine import Quarantine
from data_pipeline.sources.settings import SignalTable
from data_pipeline.sources.text_tables import COMMA, Chunk, Tally, column, read_chunks
from data_pipeline.store import KINDS, Kind

FEW = 0.5
"""Share of a table's lines' pairs below which what it joins is worth a note."""


@dataclass
class Joined:
    """What one table brought."""

    rows: Counter[str] = field(default_factory=Counter)
    """Good rows by what became of them: joined, repeated, other_pair, other_line."""
    missing: Counter[str] = field(default_factory=Counter)
    """Values that are missing or not finite in joined rows, by track."""
    lines: set[int] = field(default_factory=set)
    """Lines of the store that the table has."""
    other_lines: dict[str, None] = field(default_factory=dict)
    """Lines that the store has not."""
    other_pair: str = ""
    """The first name that no pair has."""


class PairSignals:
    """Fills the signals of the kept pairs from one or more tables."""

    def __init__(
        self, pairs: pd.DataFrame, names: dict[Kind, Interned], lines: dict[str, int], plain: ElementNames
    ) -> None:
        """`pairs` has numbers for line, enhancer_name, promoter_name; `names` numbers the names, `lines` the lines."""
        self._lines, self._plain = lines, plain
        self._names: dict[Kind, Interned] = {}
        numbers: dict[Kind, NDArray[np.int64]] = {}
        for kind in KINDS:
            self._names[kind] = Interned()
            own = self._names[kind].column(plain.plain_column(pd.Series([str(name) for name in names[kind].codes])))
            numbers[kind] = own.astype(np.int64)[pairs[f"{kind}_name"].to_numpy()]
        self._line = pairs["line"].to_numpy(np.int64)
        key = self._key(self._line, numbers["enhancer"], numbers["promoter"])
        self._order = np.argsort(key, kind="stable")
        self._sorted = key[self._order]
        self._filled = np.zeros(len(pairs), dtype=bool)
        self.tracks: list[str] = []
        """Names of the signals, known after the first table."""
        self.values = np.empty((len(pairs), 0), dtype=np.float32)
        """(N, S) float32, NaN where no table has the pair, or not this value."""

    def add(
        self,
        table: SignalTable,
        path: Path,
        quarantine: Quarantine,
        advance: Callable[[int], None] | None = None,
    ) -> tuple[int, list[str]]:
        """Read one table; returns how many kept pairs it had, and notes on what is unusual about it.

        Raises `UserError` for a table of another form, one that joins no pair, or one with too many bad rows.
        """
        file, tally, seen = quarantine.register(table.file, path), Tally(), Joined()
        for number, chunk in enumerate(read_chunks(path, COMMA, header=True, tally=tally, advance=advance)):
            tracks = self._tracks(table, path, chunk)
            if not self.tracks:
                self.tracks = tracks
                self.values = np.full((len(self._order), len(tracks)), np.nan, dtype=np.float32)
            if tracks != self.tracks:
                raise UserError(f"{path} has other signals than the tables before it: {listed(tracks)}")
            self._fill(table, path, file, chunk, quarantine, seen, first=number == 0)
        quarantine.require_whole(file, tally, seen.rows)
        quarantine.check(file, tally.rows, table.max_bad_fraction)
        return seen.rows["joined"], self._notes(path, seen)

    def _fill(
        self, table: SignalTable, path: Path, file: int, chunk: Chunk, quarantine: Quarantine, seen: Joined, first: bool
    ) -> None:
        keys = (table.enhancer_column, table.promoter_column, table.line_column)
        enhancer, promoter, line_name = (column(chunk, path, key) for key in keys)
        for reason, lines in chunk.rejected.items():
            quarantine.reject(file, reason, lines)
        unnamed = ((enhancer == "") | (promoter == "") | (line_name == "")).to_numpy()
        numbers, no_number = self._numbers(path, chunk, first)
        quarantine.reject(file, "missing_field", chunk.line_number[unnamed])
        quarantine.reject(file, "bad_number", chunk.line_number[no_number & ~unnamed])
        good = ~(unnamed | no_number)
        enhancer, promoter, line_name, numbers = enhancer[good], promoter[good], line_name[good], numbers[good]
        line = line_name.map(self._lines).fillna(-1).to_numpy(np.int64)
        plain = {"enhancer": self._plain.plain_column(enhancer), "promoter": self._plain.plain_column(promoter)}
        code = {kind: self._names[kind].lookup(plain[kind]).astype(np.int64) for kind in KINDS}
        key = self._key(line, code["enhancer"], code["promoter"])
        place, after = (np.searchsorted(self._sorted, key, side=side) for side in ("left", "right"))
        known = (line >= 0) & (code["enhancer"] >= 0) & (code["promoter"] >= 0) & (place < after)
        self._remember(seen, line, known, line_name, plain)
        # Of several table rows for a pair the first one stays, as of several pairs the first one stayed.
        rows, once = np.unique(self._order[place[known]], return_index=True)
        fresh = ~self._filled[rows]
        taken = numbers[known][once[fresh]]
        self.values[rows[fresh]] = taken
        self._filled[rows[fresh]] = True
        seen.rows.update(joined=int(fresh.sum()), repeated=int(known.sum() - fresh.sum()))
        gaps = np.isnan(taken).sum(axis=0).tolist()
        seen.missing.update({track: gap for track, gap in zip(self.tracks, gaps, strict=True) if gap})

    def _numbers(self, path: Path, chunk: Chunk, first: bool) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(k, S) float32 values, and (k,) bool: a cell of the row is text."""
        numbers = np.empty((len(chunk.cells), len(self.tracks)), dtype=np.float32)
        no_number = np.zeros(len(chunk.cells), dtype=bool)
        for index, track in enumerate(self.tracks):
            numbers[:, index], wrong = values(column(chunk, path, track))
            if first and len(wrong) and wrong.all():
                text = column(chunk, path, track).iloc[0]
                raise UserError(f"{path}: column '{track}' holds text ({text!r}); mend it or name it in `ignore`")
            no_number |= wrong
        return numbers, no_number

    @staticmethod
    def _remember(
        seen: Joined,
        line: NDArray[np.int64],
        known: NDArray[np.bool_],
        line_name: pd.Series,
        plain: dict[str, pd.Series],
    ) -> None:
        seen.lines |= set(np.unique(line[line >= 0]).tolist())
        seen.other_lines |= dict.fromkeys(line_name[line < 0].unique())
        unknown = np.flatnonzero(~known & (line >= 0))
        if len(unknown) and not seen.other_pair:
            names = (plain[kind].iloc[unknown[0]] for kind in KINDS)
            seen.other_pair = f"'{' + '.join(names)}' in {line_name.iloc[unknown[0]]}"
        seen.rows.update(other_pair=len(unknown), other_line=int((line < 0).sum()))

    def _notes(self, path: Path, seen: Joined) -> list[str]:
        notes = [f"{path.name}: {n} values of '{track}' are missing or not finite" for track, n in seen.missing.items()]
        if not seen.lines:
            raise UserError(
                f"{path} joins no pair: its lines are {listed(list(seen.other_lines))}, those of the store "
                f"{listed(list(self._lines))}; add line_aliases if the names differ"
            )
        own = np.isin(self._line, list(seen.lines))
        matched = int((self._filled & own).sum())
        unmatched = np.flatnonzero(own & ~self._filled)
        told = f"its first name without a pair is {seen.other_pair or 'none'}"
        if len(unmatched):
            told += f", the first pair without a row is {self._shown(int(unmatched[0]))}"
        if not seen.rows["joined"] + seen.rows["repeated"]:
            raise UserError(f"{path} joins no pair: {told}; make the names of both tables agree")
        if matched < FEW * own.sum():
            notes.append(f"{path.name} has only {matched} of the {own.sum()} pairs of its lines: {told}")
        return notes

    def _shown(self, row: int) -> str:
        key = int(self._sorted[np.flatnonzero(self._order == row)[0]])
        key, promoter = divmod(key, len(self._names["promoter"].codes))
        line, enhancer = divmod(key, len(self._names["enhancer"].codes))
        names = (
            str(list(self._names[kind].codes)[code]) for kind, code in zip(KINDS, (enhancer, promoter), strict=True)
        )
        return f"'{' + '.join(names)}' in {list(self._lines)[line]}"

    def _key(
        self, line: NDArray[np.int64], enhancer: NDArray[np.int64], promoter: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        return (line * len(self._names["enhancer"].codes) + enhancer) * len(self._names["promoter"].codes) + promoter

    def _tracks(self, table: SignalTable, path: Path, chunk: Chunk) -> list[str]:
        for key in (table.enhancer_column, table.promoter_column, table.line_column):
            if key not in chunk.cells.columns:
                raise UserError(f"{path} has no column '{key}'; its columns are {listed(chunk.cells.columns)}")
        no_signals = {*table.ignore, table.enhancer_column, table.promoter_column, table.line_column}
        tracks = [name for name in chunk.cells.columns if name not in no_signals]
        # Spreadsheets leave empty columns without a name behind the table.
        filled = {
            index: (chunk.cells.iloc[:, index] != "").any()
            for index, name in enumerate(chunk.cells.columns)
            if not name
        }
        if "" in tracks and any(filled.values()):
            first = next(index for index, some in filled.items() if some)
            raise UserError(f"{path}: column {first + 1} has no name; give it one, or add '' to `ignore`")
        tracks = [name for name in tracks if name]
        if not tracks:
            raise UserError(f"{path} has no column of signals beside {listed(sorted(no_signals))}")
        return tracks
