"""Delimited text, plain or gzip, in chunks that know the physical line number of every row.

Line numbers count from 1 in the uncompressed file, so that a complaint leads an editor to the right place. Reading a
million rows costs a few seconds and the memory of one chunk. Every way a file can be broken ends in a `UserError`.
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_pipeline.errors import UserError

CHUNK_ROWS = 50_000
GZIP_MAGIC = b"\x1f\x8b"

csv.field_size_limit(sys.maxsize)


@dataclass(frozen=True)
class Chunk:
    """Some rows of a table."""

    cells: pd.DataFrame
    """(k, columns) strings; the columns are the header's names, or 1, 2, ... without a header."""
    line_number: NDArray[np.int64]
    """(k,) physical line of each row, from 1."""
    wrong_width: NDArray[np.int64]
    """Physical lines of rows with another number of fields; these rows are not in `cells`."""


@contextmanager
def open_bytes(path: Path, advance: Callable[[int], None] | None = None) -> Iterator[BinaryIO]:
    """Open a file, gunzipping it where it is gzip; `advance` is called with the compressed bytes read so far.

    Raises `UserError` where the file is missing, is no gzip although its name says so, or ends too early.
    """
    try:
        raw: BinaryIO = path.open("rb")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the name and the root folder") from error
    with raw:
        stream = io.BufferedReader(_Counted(raw, advance))
        packed = stream.peek(2)[:2] == GZIP_MAGIC
        if path.suffix in (".gz", ".bgz") and not packed:
            raise UserError(f"{path} is not gzip although its name ends in {path.suffix}; rename it or fetch it again")
        try:
            yield gzip.GzipFile(fileobj=stream) if packed else stream  # type: ignore[misc]
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f"{path} is truncated or damaged ({error}); fetch it again") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not text: {error.reason} at byte {error.start}") from error


class _Counted(io.RawIOBase):
    """A raw stream that reports how many bytes were taken from it."""

    def __init__(self, raw: BinaryIO, advance: Callable[[int], None] | None) -> None:
        self._raw, self._advance = raw, advance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._raw.readinto(buffer)  # type: ignore[attr-defined]
        if self._advance and count:
            self._advance(count)
        return count


def read_chunks(
    path: Path,
    delimiter: str,
    header: bool,
    width: int | None = None,
    comment: str | None = None,
    advance: Callable[[int], None] | None = None,
) -> Iterator[Chunk]:
    """Yield the rows of a table; `width` is the number of fields a file without header must have.

    The header, or else the first row, decides the number of fields. Blank lines are passed over. Raises `UserError`
    for an empty table, a table without rows, or a first row that is not `width` fields wide.
    """
    with open_bytes(path, advance) as stream:
        # utf-8-sig also reads the mark that spreadsheet programs put before the first column's name.
        reader = csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig"), delimiter=delimiter)
        rows = (row for row in reader if row and not (comment and row[0].startswith(comment)))
        try:
            yield from _chunks(path, reader, rows, header, width)
        except csv.Error as error:
            raise UserError(f"{path}:{reader.line_num} cannot be read as a table: {error}") from error


def _chunks(path: Path, reader, rows: Iterator[list[str]], header: bool, width: int | None) -> Iterator[Chunk]:  # type: ignore[no-untyped-def]
    first = next(rows, None)
    if first is None:
        raise UserError(f"{path} is empty; a table of pairs or sequences was expected")
    if width is not None and len(first) != width:
        raise UserError(
            f"{path}:{reader.line_num} has {len(first)} columns where {width} are expected; check format and separator"
        )
    names = first if header else list(range(1, len(first) + 1))
    cells: list[list[str]] = [] if header else [first]
    numbers: list[int] = [] if header else [reader.line_num]
    wrong: list[int] = []
    any_rows = not header
    for row in rows:
        any_rows = True
        if len(row) == len(names):
            cells.append(row)
            numbers.append(reader.line_num)
        else:
            wrong.append(reader.line_num)
        if len(cells) + len(wrong) >= CHUNK_ROWS:
            yield _chunk(cells, numbers, wrong, names)
            cells, numbers, wrong = [], [], []
    if not any_rows:
        raise UserError(f"{path} has a header but no rows; a table of pairs or sequences was expected")
    if cells or wrong:
        yield _chunk(cells, numbers, wrong, names)


def _chunk(cells: list[list[str]], numbers: list[int], wrong: list[int], names: list[str] | list[int]) -> Chunk:
    frame = pd.DataFrame(cells, columns=names, dtype=str)
    return Chunk(frame, np.array(numbers, dtype=np.int64), np.array(wrong, dtype=np.int64))


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
        raise UserError(f"{path} has no single column '{key}'; its columns are {', '.join(map(str, cells.columns))}")
    return cells[key]


def physical_lines(path: Path, wanted: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Yield (line number, text) of the physical lines `wanted` (sorted, from 1) of a file, plain or gzip."""
    remaining = iter(wanted)
    target = next(remaining, None)
    with open_bytes(path) as stream:
        for number, text in enumerate(io.TextIOWrapper(stream, encoding="utf-8-sig"), start=1):
            if target is None:
                return
            if number == target:
                yield number, text.rstrip("\r\n")
                target = next(remaining, None)
