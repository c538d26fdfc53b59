"""Sequences by element name, from CSV or FASTA: packed as they are read, unusable rows quarantined.

Sequences longer or shorter than the window are cropped or padded with N evenly on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_pipeline.dna import first_bad_letter, pack
from data_pipeline.genome import fasta_records
from data_pipeline.quarantine import Quarantine
from data_pipeline.store_settings import Column, SequenceTables
from data_pipeline.text_tables import column, open_bytes, physical_lines, read_chunks

Advance = Callable[[int], None] | None


def read_sequences(
    source: SequenceTables, path: Path, shown: str, window: int, quarantine: Quarantine, advance: Advance = None
) -> dict[str, NDArray[np.uint8]]:
    """Packed sequences (window/2,) uint8 by name.

    Rows that are empty, have a letter that is no IUPAC base, or contradict an earlier row are quarantined (of
    contradicting rows none is used). Raises `UserError` for a missing, damaged or empty file, and where more than the
    source's `max_bad_fraction` of the rows are bad.
    """
    file = quarantine.register(shown, path)
    packed: dict[str, NDArray[np.uint8]] = {}
    seen: dict[str, list[int]] = {}
    contradicted: set[str] = set()
    rows = 0
    for line, name, sequence in _records(source, path, file, quarantine, advance):
        rows += 1
        if line is None:
            continue
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
        quarantine.reject(file, "conflicting_sequence", np.array(seen[name]))
        del packed[name]
    quarantine.check(file, rows, source.max_bad_fraction)
    return packed


def _records(
    source: SequenceTables, path: Path, file: int, quarantine: Quarantine, advance: Advance
) -> Iterator[tuple[int | None, str, str]]:
    """(physical line, name, letters) of every row; the line is None for a row that is quarantined already."""
    with open_bytes(path) as stream:
        is_fasta = stream.read(1) == b">"
    if is_fasta:
        headers = physical_lines(path, _header_lines(path))
        yield from ((line, *record) for (line, _), record in zip(headers, fasta_records(path), strict=True))
        return
    keys: tuple[Column, Column] = (source.name_column, source.sequence_column)
    for chunk in read_chunks(path, ",", header=True, advance=advance):
        quarantine.reject(file, "wrong_field_count", chunk.wrong_width)
        yield from ((None, "", "") for _ in chunk.wrong_width)
        names, letters = (column(chunk, path, key).str.strip() for key in keys)
        yield from zip(chunk.line_number.tolist(), names, letters, strict=True)


def _header_lines(path: Path) -> list[int]:
    with open_bytes(path) as stream:
        return [number for number, text in enumerate(stream, start=1) if text.startswith(b">")]
