"""Formats `parquet` and `tsv`: every column there is, a row per usable row of the input."""

from __future__ import annotations

from contextlib import ExitStack

from distributed.formats.output_format import Format
from distributed.formats.subject import Batch
from distributed.formats.table_file import TableFile


class ScoreTableFormat(Format):
    """The whole table; the end of the file's name decides between the two."""

    calibrated = placed = False

    def start(self, opened: ExitStack) -> None:
        """Open the table."""
        self._table = opened.enter_context(TableFile(self.file, self.subject.schema))

    def write(self, batch: Batch) -> None:
        """All rows."""
        self._table.write(batch.table)
