"""A table that grows by batches in a hidden file and gets its name when it is complete: Parquet, or text with tabs.

Text has no quotes, which other programs would take for part of a name; a value that needs some is refused. A name that
ends in .gz is compressed.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from data_pipeline.durable import FullDiskNamed, draft_of, publish_file
from data_pipeline.errors import UserError


class TableFile:
    """Writes tables of one schema one after the other to a hidden file that gets its name at the end."""

    def __init__(self, out: Path, schema: pa.Schema, header: bool = True, above: str = "") -> None:
        """`out` ends in .parquet, or else is text: with a line of column names if `header`, below the lines `above`."""
        self._out, self._draft, self._schema = out, draft_of(out), schema
        self._header, self._above = header, above

    def write(self, table: pa.Table) -> None:
        """Append the rows of `table`; raises `UserError` for a text that cannot be written without quotes."""
        try:
            with FullDiskNamed(self._out):
                self._writer.write_table(table)
        except pa.ArrowInvalid as error:
            raise UserError(f"{self._out} cannot be written: {error}; give --format parquet, or other names") from error

    def __enter__(self) -> TableFile:
        """Open the hidden file."""
        with ExitStack() as opening, FullDiskNamed(self._out):
            opening.callback(self._draft.unlink, missing_ok=True)
            if self._out.suffix == ".parquet":
                self._sink = None
                self._writer = pyarrow.parquet.ParquetWriter(self._draft, self._schema)
            else:
                self._sink = pa.output_stream(
                    str(self._draft), compression="gzip" if self._out.suffix == ".gz" else None
                )
                self._sink.write(self._above.encode())
                options = pyarrow.csv.WriteOptions(
                    include_header=self._header, delimiter="\t", quoting_style="none", quoting_header="none"
                )
                self._writer = pyarrow.csv.CSVWriter(self._sink, self._schema, write_options=options)
            opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it, and give it its name if all went well."""
        try:
            with FullDiskNamed(self._out):
                self._writer.close()
                if self._sink is not None:
                    self._sink.close()
                if error is None:
                    publish_file(self._draft, self._out)
        finally:
            self._draft.unlink(missing_ok=True)
