"""Delimited text, plain or gzip, in chunks: one physical line is one row, and every line is accounted for.

A quote can therefore never swallow lines: a line whose quotes do not close is a bad row of its own. Quotes and comments
are read only in formats that have them (`Dialect`). Line numbers count from 1 in the uncompressed file, so that a
complaint leads an editor to the right place. Every way a whole file can be broken ends in a `UserError`.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_pipeline.errors import UserError, listed
from data_pipeline.sources.input_files import open_bytes, require_text

CHUNK_ROWS = 50_000

csv.field_size_limit(sys.maxsize)


@dataclass(frozen=True)
class Dialect:
    """What the lines of a format mean."""

    delimiter: str
    """Character between fields."""
    quotes: bool = False
    """Fields may stand in double quotes and then hold the delimiter (RFC 4180, but never a line end)."""
    comments: tuple[str, ...] = ()
    """Beginnings of lines that are no rows."""

    def fields(self, text: str) -> list[str] | None:
        """The fields of a line, stripped of blanks around them; None where its quotes do not close."""
        if '"' not in text:
            return [cell.strip() for cell in self._split(text)]
        if not self.quotes:
            # Some programs put quotes around every text; a quote on one side only is part of the name.
            return [_unquoted(cell.strip()) for cell in self._split(text)]
        try:
            return [
                cell.strip()
                for cell in next(csv.reader([text], delimiter=self.delimiter, skipinitialspace=True, strict=True))
            ]
        except csv.Error:
            return None

    def is_blank(self, text: str) -> bool:
        """Whether all fields of a line are empty, as in the rows that spreadsheets leave at the end."""
        return not text.strip(self.delimiter + " \t" + ('"' if self.quotes else ""))

    def _split(self, text: str) -> list[str]:
        return text.split(self.delimiter)


class BrowserDialect(Dialect):
    """BED and its kin, where blanks separate the fields of a line without tabs."""

    def _split(self, text: str) -> list[str]:
        return text.split("\t") if "\t" in text else text.split()


COMMA, SEMICOLON, TAB = Dialect(",", quotes=True), Dialect(";", quotes=True), Dialect("\t")
BROWSER = BrowserDialect("\t", comments=("#", "track ", "track\t", "browser ", "browser\t"))
HEADED_BED = Dialect("\t", comments=("##", "track ", "browser "))
"""BED whose first line names the columns, with or without a # before the first name."""


@dataclass
class Tally:
    """How many lines a file has, and how many of them are no rows."""

    lines: int = 0
    """Physical lines."""
    header: int = 0
    """1 where the first line names the columns."""
    comments: int = 0
    """Lines that begin like a comment."""
    blank: int = 0
    """Lines without a filled field."""

    @property
    def rows(self) -> int:
        """Lines that are rows, good or bad."""
        return self.lines - self.header - self.comments - self.blank

    @property
    def passed_over(self) -> dict[str, int]:
        """Lines that are neither rows nor header, by kind, where there are any."""
        counts = {"comments": self.comments, "blank": self.blank}
        return {kind: count for kind, count in counts.items() if count}


@dataclass(frozen=True)
class Chunk:
    """Some rows of a table."""

    cells: pd.DataFrame
    """(k, columns) strings; the columns are the header's names, or 1, 2, ... without a header."""
    line_number: NDArray[np.int64]
    """(k,) physical line of each row, from 1."""
    rejected: dict[str, NDArray[np.int64]]
    """Physical lines of rows that could not be split into fields, by reason; these rows are not in `cells`."""


@dataclass
class _Collected:
    """Rows on their way to a chunk."""

    cells: list[list[str]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    rejected: dict[str, list[int]] = field(default_factory=dict)

    def add(self, number: int, row: list[str] | str) -> None:
        """Take a row, or the reason why it is none."""
        if isinstance(row, str):
            self.rejected.setdefault(row, []).append(number)
        else:
            self.cells.append(row)
            self.numbers.append(number)

    def chunk(self, names: Sequence[str | int]) -> Chunk:
        frame = pd.DataFrame(self.cells, columns=list(names), dtype=str)
        rejected = {reason: np.array(lines, dtype=np.int64) for reason, lines in self.rejected.items()}
        return Chunk(frame, np.array(self.numbers, dtype=np.int64), rejected)

    def __len__(self) -> int:
        return len(self.numbers) + sum(map(len, self.rejected.values()))


def read_chunks(
    path: Path,
    dialect: Dialect,
    header: bool,
    tally: Tally,
    width: int | None = None,
    least: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> Iterator[Chunk]:
    """Yield the rows of a table and count its lines in `tally`.

    The header, or else the first row, decides the number of fields, which without a header must be `width`; with
    `least`, rows may have any number of fields from `least`, and the first `least` are kept. Raises `UserError` for an
    empty table, a table without rows, a first row of another width, or a file that is no text.
    """
    rows = _rows(path, dialect, tally, advance)
    number, first = next(rows, (0, None))
    if first is None:
        comments = f" but for {tally.comments} comments" if tally.comments else ""
        raise UserError(f"{path} is empty{comments}; a table was expected")
    if isinstance(first, str):
        raise UserError(f"{path}:{number} cannot be read as a row of a table ({first}); mend or remove the line")
    if width is not None and len(first) != width:
        raise UserError(
            f"{path}:{number} has {len(first)} columns where {width} are expected; check format and separator"
        )
    tally.header = int(header)
    collected, count = _Collected(), least or len(first)
    names: list[str | int] = [*first[:least]] if header else [*range(1, count + 1)]
    if not header:
        collected.add(number, _fitted(first, count, least))
    for number, row in rows:
        collected.add(number, row if isinstance(row, str) else _fitted(row, count, least))
        if len(collected) >= CHUNK_ROWS:
            yield collected.chunk(names)
            collected = _Collected()
    if tally.rows == 0:
        raise UserError(f"{path} has a header but no rows; a table was expected")
    if len(collected):
        yield collected.chunk(names)


def _fitted(row: list[str], count: int, least: int | None) -> list[str] | str:
    if least is not None:
        row = row[:least]
    return row if len(row) == count else "wrong_field_count"


def _rows(
    path: Path, dialect: Dialect, tally: Tally, advance: Callable[[int], None] | None
) -> Iterator[tuple[int, list[str] | str]]:
    """(physical line, fields, or the reason why there are none) of every line that is a row."""
    with open_bytes(path, advance) as stream:
        for number, text in enumerate(text_lines(path, stream), start=1):
            tally.lines = number
            if dialect.is_blank(text):
                tally.blank += 1
            elif dialect.comments and text.startswith(dialect.comments):
                tally.comments += 1
            elif "\0" in text:
                yield number, "not_text"
            else:
                fields = dialect.fields(text)
                yield number, "bad_quotes" if fields is None else fields


def text_lines(path: Path, stream: BinaryIO) -> Iterator[str]:
    """The lines of UTF-8 text without their ends (LF, CRLF or CR); raises `UserError` naming a line that is none."""
    number = 0
    for raw in stream:
        if number == 0:
            require_text(path, raw)
        try:
            text = raw.decode("utf-8-sig" if number == 0 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}:{number + 1} is not UTF-8 text (byte 0x{raw[error.start]:02x}); save the file as UTF-8 text"
            ) from error
        for part in text.removesuffix("\n").removesuffix("\r").split("\r"):
            number += 1
            yield part


def column(chunk: Chunk, path: Path, key: str | int) -> pd.Series:
    """The column `key` (header name, or number from 1) of a chunk.

    Raises `UserError` naming the columns there are.
    """
    cells = chunk.cells
    if isinstance(key, int):
        if key > cells.shape[1]:
            raise UserError(f"{path} has {cells.shape[1]} columns, so there is no column {key}; check `columns`")
        return cells.iloc[:, key - 1]
    if list(cells.columns).count(key) != 1:
        raise UserError(f"{path} has no single column '{key}'; its columns are {listed(cells.columns)}")
    return cells[key]


def header_names(path: Path, known: Collection[str], least: int = 3) -> list[str]:
    """The column names in the first line of a tab-separated file, without a #.

    Empty where that line has fewer than `least` of the `known` names (lower case): it is a row or a comment then.
    """
    with open_bytes(path) as stream:
        first = next((text for text in text_lines(path, stream) if not HEADED_BED.is_blank(text)), "")
    names = [name.strip() for name in first.removeprefix("#").split("\t")]
    return names if len({name.lower() for name in names} & set(known)) >= least else []


def physical_lines(path: Path, wanted: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Yield (line number, text) of the physical lines `wanted` (sorted, from 1) of a file, plain or gzip."""
    remaining = iter(wanted)
    target = next(remaining, None)
    with open_bytes(path) as stream:
        for number, text in enumerate(text_lines(path, stream), start=1):
            if target is None:
                return
            if number == target:
                yield number, text
                target = next(remaining, None)


def _unquoted(cell: str) -> str:
    paired = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in cell[1:-1]
    return cell[1:-1] if paired else cell
