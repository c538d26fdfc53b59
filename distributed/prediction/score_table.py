"""The table a prediction writes: one row per pair, Parquet or tab-separated, in stretches, visible all at once.

The interval is the smallest and the largest of the support draws: with D draws, the score with one more support would
fall inside with probability (D - 1) / (D + 1), and where supports are as large as the line gives so does, about, the
score of a support without end (supports.py). It speaks of the support alone, not of what the model does not know.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from data_pipeline.durable import FullDiskNamed, draft_of, publish_file
from data_pipeline.errors import UserError
from data_pipeline.sources import UNPLACED
from data_pipeline.store import ElementTable, Store
from distributed.prediction.answers import Rows
from distributed.prediction.deployment import FrozenCalibration
from evaluation import Calibration

_ELEMENT = {"": pa.string(), "_chrom": pa.string(), "_start": pa.int32(), "_end": pa.int32()}
SCHEMA = pa.schema(
    [
        ("line", pa.string()),
        *[(kind + suffix, own) for kind in ("enhancer", "promoter") for suffix, own in _ELEMENT.items()],
        ("distance", pa.int32()),
        *[(name, pa.float32()) for name in ("logit", "logit_lower", "logit_upper", "neutral")],
        *[(name, pa.float64()) for name in ("probability", "probability_lower", "probability_upper")],
        ("call", pa.int8()),
    ]
)
"""Columns of the table; docs/predict.md says what each means."""


def schema(channels: int = 0) -> pa.Schema:
    """`SCHEMA`, and with `channels` above 0 what adds up to the logit: background, environment, each channel."""
    names = ["background", "environment", *(f"channel_{k + 1}" for k in range(channels))] if channels else []
    return pa.schema([*SCHEMA, *((f"logit_{name}", pa.float32()) for name in names)])


class ScoreTable:
    """Turns scores of store rows into rows of the table."""

    def __init__(self, store: Store, calibration: FrozenCalibration | None) -> None:
        """Read the elements' names and places once."""
        self._store = store
        self._calibration = Calibration.from_dict(calibration.model_dump()) if calibration else None
        self._elements = {
            kind: _element_columns(kind, table)
            for kind, table in (("enhancer", store.enhancers), ("promoter", store.promoters))
        }

    def rows(self, answers: Rows) -> pa.Table:
        """Table of the rows of the input that were answered."""
        pairs, rows, scored = self._store.pairs, answers.rows, answers.scored
        columns: dict[str, Any] = {"line": pa.array(self._store.lines).take(pa.array(pairs.line[rows]))}
        for kind, index in (("enhancer", pairs.enhancer), ("promoter", pairs.promoter)):
            place = pa.array(index[rows])
            columns |= {name: values.take(place) for name, values in self._elements[kind].items()}
        columns |= {kind: pa.array(own, pa.string()) for kind, own in (answers.names or {}).items()}
        distance = pairs.distance[rows]
        columns["distance"] = pa.array(distance, mask=distance < 0)
        columns |= self._scores(scored.logits) | {"neutral": scored.neutral}
        own = schema(max(scored.parts.shape[1] - 2, 0))
        columns |= dict(zip(own.names[len(SCHEMA) :], scored.parts.T, strict=True))
        return pa.table({name: columns[name] for name in own.names}, schema=own)

    def _scores(self, logits: NDArray[np.float32]) -> dict[str, Any]:
        count, draws = logits.shape
        # One draw says nothing about how much the next would differ.
        unknown = np.full(count, draws == 1)
        values = {"": logits.mean(axis=1), "_lower": logits.min(axis=1), "_upper": logits.max(axis=1)}
        columns: dict[str, Any] = {
            f"logit{name}": pa.array(own, mask=unknown if name else None) for name, own in values.items()
        }
        if self._calibration is None:
            nothing = {f"probability{name}": pa.nulls(count, pa.float64()) for name in values}
            return columns | nothing | {"call": pa.nulls(count, pa.int8())}
        for name, own in values.items():
            columns[f"probability{name}"] = pa.array(self._calibration.apply(own), mask=unknown if name else None)
        called = self._calibration.apply(values[""]) >= self._calibration.threshold
        return columns | {"call": called.astype(np.int8)}


class TableWriter:
    """Writes tables of one schema one after the other to a hidden file that gets its name at the end."""

    def __init__(self, out: Path, own: pa.Schema = SCHEMA) -> None:
        """`out` ends in .parquet or .tsv (see table_formats.py)."""
        self._out, self._partial, self._schema = out, draft_of(out), own

    def write(self, table: pa.Table) -> None:
        """Append the rows of `table`."""
        try:
            with FullDiskNamed(self._out):
                self._writer.write_table(table)
        except pa.ArrowInvalid as error:
            raise UserError(
                f"{self._out} cannot be written: {error}; give an --out that ends in .parquet, or other names"
            ) from error

    def __enter__(self) -> TableWriter:
        """Open the hidden file."""
        if self._out.suffix == ".parquet":
            self._writer = pyarrow.parquet.ParquetWriter(self._partial, self._schema)
        else:
            # Without quotes, which other programs would take for part of a name; a name that needs some is refused.
            options = pyarrow.csv.WriteOptions(delimiter="\t", quoting_style="none", quoting_header="none")
            self._writer = pyarrow.csv.CSVWriter(self._partial, self._schema, write_options=options)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it, and give it its name if all went well."""
        with FullDiskNamed(self._out):
            self._writer.close()
            if error is None:
                publish_file(self._partial, self._out)
            self._partial.unlink(missing_ok=True)


def _element_columns(kind: str, table: ElementTable) -> dict[str, pa.Array]:
    chrom = np.array(table.chrom_names, dtype=object)[table.chrom]
    nowhere = chrom == UNPLACED
    return {
        kind: pa.array(table.names, pa.string()),
        f"{kind}_chrom": pa.array(chrom, pa.string(), mask=nowhere),
        f"{kind}_start": pa.array(np.asarray(table.start), mask=nowhere),
        f"{kind}_end": pa.array(np.asarray(table.end), mask=nowhere),
    }
