"""Opening input files: plain or gzip, with the ways a file can be damaged or of another kind said in a sentence."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from data_pipeline.errors import UserError

GZIP_MAGIC = b"\x1f\x8b"
OTHER_KINDS = {
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    b"PK\x03\x04": "a spreadsheet or zip file; save the sheet as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "a spreadsheet; save the sheet as CSV",
    b"BZh": "a bzip2 file; unpack it or use gzip",
    b"\xfd7zXZ": "an xz file; unpack it or use gzip",
    b"\x26\xfc\x8f\x88": "a bigWig file; a table was expected (for peaks: BED)",
    b"\x88\x8f\xfc\x26": "a bigWig file; a table was expected (for peaks: BED)",
    b"\xeb\xf2\x89\x87": "a bigBed file; convert it to BED",
    b"\x87\x89\xf2\xeb": "a bigBed file; convert it to BED",
    b"BAM\x01": "a BAM file; a table was expected",
}
"""First bytes of files that are no text, and what they are."""


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


def require_text(path: Path, head: bytes) -> None:
    """Raise `UserError` if a file that begins with `head` is known to be no text."""
    for magic, kind in OTHER_KINDS.items():
        if head.startswith(magic):
            raise UserError(f"{path} is {kind}")


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
