"""Rejected input rows: counted by source and reason, written with file, line, reason and the row itself.

Only line numbers are kept while reading (a few bytes per rejected row); the rows' text is fetched by one more pass over
the files that have any, when the quarantine is written.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_pipeline.errors import UserError
from data_pipeline.sources.text_tables import Tally, physical_lines

REASONS = {
    "wrong_field_count": "the row has another number of fields than the header or the first row",
    "bad_quotes": "the double quotes of a field do not close on the line",
    "not_text": "the line has a NUL byte",
    "missing_field": "a field that must be filled is empty",
    "unknown_line": "the cell line is not in `lines` or `line_aliases`",
    "bad_coordinates": "start, end or TSS is not a whole number, negative, or end <= start",
    "bad_number": "a value is neither a number nor a word for a missing one",
    "missing_chromosome": "the chromosome is not in the genome files",
    "outside_genome": "the element ends beyond its chromosome",
    "bad_label": "the label is neither 0 nor 1",
    "invalid_connection": "the benchmark calls the pair no valid connection (column ValidConnection)",
    "unknown_label": "the benchmark does not know whether the pair is regulated (NA)",
    "missing_sequence": "the element has no (usable) row in the sequence table",
    "bad_letter": "the sequence has a letter that is no IUPAC base",
    "conflicting_sequence": "the element stands in the sequence table with two sequences",
    "unknown_gene": "the row gives a gene instead of a place, and the annotation has no such gene",
    "not_lifted": "a place of the row has no counterpart in the other genome build",
    "outside_regions": "the pair does not lie inside `regions`",
    "conflicting_label": "the same pair stands in the same line with label 0 and with label 1",
}
"""Every reason a row can be rejected for."""


class Quarantine:
    """Collects rejected rows of several files."""

    def __init__(self) -> None:
        """Start empty."""
        self._files: list[tuple[str, Path]] = []
        self._lines: dict[tuple[int, str], list[NDArray[np.int64]]] = defaultdict(list)
        self._hints: dict[tuple[int, str], str] = {}

    def register(self, shown: str, path: Path) -> int:
        """Add a file; `shown` is its name relative to the root. Returns its number for `reject`."""
        self._files.append((shown, path))
        return len(self._files) - 1

    def reject(self, file: int, reason: str, lines: NDArray[np.int64]) -> None:
        """Reject the rows on physical `lines` (k,) of a registered file."""
        if reason not in REASONS:
            raise ValueError(f"unknown quarantine reason '{reason}'")
        if len(lines):
            self._lines[file, reason].append(lines)

    def hint(self, file: int, reason: str, text: str) -> None:
        """Remember what to say of the first row that a file lost for `reason`: what it holds, what was looked for."""
        self._hints.setdefault((file, reason), text)

    def counts(self, file: int | None = None) -> dict[str, int]:
        """Rejected rows by reason, of one file or of all."""
        totals: Counter[str] = Counter()
        for (owner, reason), parts in self._lines.items():
            if file is None or owner == file:
                totals[reason] += sum(map(len, parts))
        return dict(sorted(totals.items()))

    def require_whole(self, file: int, tally: Tally, fates: Mapping[str, int]) -> None:
        """Check that every line of a file was read as something: header, comment, blank, rejected, or one of `fates`.

        Raises `AssertionError` otherwise: a row was lost or counted twice, which is a fault of this program.
        """
        known = sum(fates.values()) + sum(self.counts(file).values())
        if known != tally.rows:
            raise AssertionError(
                f"{self._files[file][1]}: {tally.rows} of its {tally.lines} lines are rows, but {known} are accounted "
                f"for ({dict(fates)}, rejected {self.counts(file)}); please report this"
            )

    def check(self, file: int, rows: int, max_fraction: float) -> None:
        """Raise `UserError` naming the top reason and its first row if over `max_fraction` of `rows` are rejected."""
        counts = self.counts(file)
        # Pairs outside the regions are not wanted; that is no fault of theirs.
        rows -= counts.pop("outside_regions", 0)
        bad = sum(counts.values())
        if bad > max_fraction * rows:
            top = max(counts, key=lambda reason: counts[reason])
            first = min(int(part.min()) for part in self._lines[file, top])
            hint = f"; {self._hints[file, top]}" if (file, top) in self._hints else ""
            raise UserError(
                f"{self._files[file][1]}: {bad} of {rows} rows are bad, max_bad_fraction allows {max_fraction:g}; "
                f"most often {top} ({counts[top]} rows, first at {self._files[file][0]}:{first}: {REASONS[top]}{hint})"
            )

    def write(self, folder: Path) -> None:
        """Write one `<reason>.tsv` per reason: file, line, reason, then the row's text as it stands in the file."""
        with ExitStack() as stack:
            sinks = {
                reason: stack.enter_context((folder / f"{reason}.tsv").open("w", encoding="utf-8"))
                for reason in self.counts()
            }
            for sink in sinks.values():
                sink.write("file\tline\treason\trow\n")
            for file, (shown, path) in enumerate(self._files):
                for line, reason, text in self._rejected(file, path):
                    sinks[reason].write(f"{shown}\t{line}\t{reason}\t{text}\n")

    def write_beside(self, out: Path) -> Path | None:
        """Write to `<out>.quarantine`, replacing an earlier one; returns it, or None if nothing was rejected."""
        folder = out.with_name(f"{out.name}.quarantine")
        if not self._lines:
            return None
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        self.write(folder)
        return folder

    def _rejected(self, file: int, path: Path) -> Iterator[tuple[int, str, str]]:
        of_line = {
            line: reason
            for (owner, reason), parts in self._lines.items()
            if owner == file
            for part in parts
            for line in part.tolist()
        }
        if of_line:
            for line, text in physical_lines(path, sorted(of_line)):
                yield line, of_line[line], text
