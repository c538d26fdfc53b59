"""Columns over memory-mapped Arrow files, read as NumPy arrays without a copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_pipeline.errors import UserError


class Columns:
    """Equally long columns over one or more memory-mapped Arrow files, read as NumPy arrays.

    `full(name)` is the whole column (a view for a single file, a copy otherwise); `take(name, rows)` gathers rows.
    Fixed-size binary and list columns are two-dimensional.
    """

    def __init__(self, files: list[Path]) -> None:
        """Map `files`; they must share one schema."""
        self._batches = [batch for file in files for batch in _record_batches(file)]
        self._starts = np.cumsum([0, *[batch.num_rows for batch in self._batches]])
        self._cache: dict[tuple[int, str], NDArray[Any]] = {}

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._starts[-1])

    def full(self, name: str) -> NDArray[Any]:
        """The whole column."""
        parts = [self._part(index, name) for index in range(len(self._batches))]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def has(self, name: str) -> bool:
        """Whether there is a column of this name."""
        return self._batches[0].schema.get_field_index(name) >= 0

    def text(self, name: str) -> list[str]:
        """The whole column of a string field."""
        return [value for batch in self._batches for value in batch.column(name).to_pylist()]

    def take(self, name: str, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows `rows` (k,) of a column: (k,) or (k, width)."""
        if len(self._batches) == 1:
            return self._part(0, name)[rows]
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        first = self._part(0, name)
        taken = np.empty((len(rows), *first.shape[1:]), dtype=first.dtype)
        for index in np.unique(owner):
            where = np.flatnonzero(owner == index)
            taken[where] = self._part(int(index), name)[rows[where] - self._starts[index]]
        return taken

    def _part(self, index: int, name: str) -> NDArray[Any]:
        key = (index, name)
        if key not in self._cache:
            self._cache[key] = _as_numpy(self._batches[index].column(name))
        return self._cache[key]


def _record_batches(file: Path) -> list[pa.RecordBatch]:
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(file)))
        return [reader.get_batch(index) for index in range(reader.num_record_batches)]
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"store file {file} cannot be read ({error}); ingest the store again") from error


def _as_numpy(column: pa.Array) -> NDArray[Any]:
    if pa.types.is_fixed_size_binary(column.type):
        width = column.type.byte_width
        flat = np.frombuffer(column.buffers()[1], dtype=np.uint8)
        return flat[column.offset * width : (column.offset + len(column)) * width].reshape(len(column), width)
    if pa.types.is_fixed_size_list(column.type):
        width = column.type.list_size
        return column.flatten().to_numpy(zero_copy_only=True).reshape(len(column), width)
    return column.to_numpy(zero_copy_only=True)
