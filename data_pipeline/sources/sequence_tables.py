"""Sequences by element name, from CSV or FASTA: packed as they are read, unusable rows quarantined.

Sequences longer or shorter than the window are cropped or padded with N evenly on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_pipeline.dna import first_bad_letter, pack
from data_pipeline.sources.genome import fasta_records
from data_pipeline.sources.input_files import open_bytes
from data_pipeline.sources.quarantine import Quarantine
from data_pipeline.sources.settings import Column, SequenceTables
from data_pipeline.sources.text_tables import COMMA, Tally, column, physical_lines, read_chunks, text_lines

Advance = Callable[[int], None] | None


def read_sequences(
    source: SequenceTables, path: Path, shown: str, window: int, quarantine: Quarantine, advance: Advance = None
) -> dict[str, NDArray[np.uint8]]:
    """Packed sequences (window/2,) uint8 by name.

    Rows that are empty, have a letter that is no IUPAC base, or contradict an earlier row are quarantined (of
    contradicting rows none is used). Raises `UserError` for a missing, damaged or empty file, and where more than the
    source's `max_bad_fraction` of the rows are bad.
    """
    file, tally = quarantine.register(shown, path), Tally()
    packed: dict[str, NDArray[np.uint8]] = {}
    seen: dict[str, list[int]] = {}
    contradicted: set[str] = set()
    for line, name, sequence in _records(source, path, file, tally, quarantine, advance):
        reason = "missing_field" if not (name and sequence) else "bad_letter" if first_bad_letter(sequence) else None
        if reason:
            quarantine.reject(file, reason, np.array([line]))
            continue
        row = pack(sequence, window)
        if name in packed and not np.array_equal(packed[name], row):
            contradicted.add(name)
        packed.setdefault(name, row)
        seen.setdefault(name, []).append(line)
    for name in sorted(contradicted):
        quarantine.reject(file, "conflicting_sequence", np.array(seen.pop(name)))
        del packed[name]
    quarantine.require_whole(file, tally, {"usable": sum(map(len, seen.values()))})
    quarantine.check(file, tally.rows, source.max_bad_fraction)
    return packed


def _records(
    source: SequenceTables, path: Path, file: int, tally: Tally, quarantine: Quarantine, advance: Advance
) -> Iterator[tuple[int, str, str]]:
    """(physical line, name, letters) of every row that has the fields; the others are quarantined."""
    with open_bytes(path) as stream:
        is_fasta = stream.read(1) == b">"
    if is_fasta:
        headers = physical_lines(path, _header_lines(path, tally))
        yield from ((line, *record) for (line, _), record in zip(headers, fasta_records(path), strict=True))
        return
    keys: tuple[Column, Column] = (source.name_column, source.sequence_column)
    for chunk in read_chunks(path, COMMA, header=True, tally=tally, advance=advance):
        for reason, lines in chunk.rejected.items():
            quarantine.reject(file, reason, lines)
        names, letters = (column(chunk, path, key) for key in keys)
        yield from zip(chunk.line_number.tolist(), names, letters, strict=True)


def _header_lines(path: Path, tally: Tally) -> list[int]:
    """Lines that begin a record; each record is one row of `tally`, the lines of its sequence are part of it."""
    headers = []
    with open_bytes(path) as stream:
        for number, text in enumerate(text_lines(path, stream), start=1):
            if text.startswith(">"):
                headers.append(number)
    tally.lines = len(headers)
    return headers
