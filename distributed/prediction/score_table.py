"""The columns of a prediction, one row per pair, in stretches; distributed/formats chooses among them and writes.

The interval is the smallest and the largest of the support draws: with D draws, the score with one more support would
fall inside with probability (D - 1) / (D + 1), and where supports are as large as the line gives so does, about, the
score of a support without end (supports.py). It speaks of the support alone, not of what the model does not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_pipeline.sources import UNPLACED
from data_pipeline.store import ElementTable, Store
from distributed.formats import Catalogue
from distributed.prediction.answers import Rows
from distributed.prediction.deployment import FrozenCalibration
from evaluation import Calibration

_ELEMENT = {"": pa.string(), "_chrom": pa.string(), "_start": pa.int32(), "_end": pa.int32()}
SCHEMA = pa.schema(
    [
        ("line", pa.string()),
        *[(kind + suffix, own) for kind in ("enhancer", "promoter") for suffix, own in _ELEMENT.items()],
        *[("gene", pa.string()), ("gene_id", pa.string()), ("tss", pa.int64())],
        ("distance", pa.int32()),
        *[(name, pa.float32()) for name in ("logit", "logit_lower", "logit_upper", "neutral")],
        *[(name, pa.float64()) for name in ("probability", "probability_lower", "probability_upper")],
        ("call", pa.int8()),
    ]
)
"""Columns of the table; docs/predict.md says what each means."""


def schema(explained: Sequence[str] = ()) -> pa.Schema:
    """`SCHEMA`, and the columns `explained` (see `explanation`)."""
    return pa.schema([*SCHEMA, *((name, pa.float32()) for name in explained)])


class ScoreTable:
    """Turns scores of store rows into rows of the table."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        calibration: FrozenCalibration | None,
        threshold: float | None,
        explained: Sequence[str] = (),
    ) -> None:
        """Read the elements' names and places once; a pair is called at `threshold`; `explained` as in `schema`."""
        self.schema = schema(explained)
        self._store = store
        self._calibration = Calibration.from_dict(calibration.model_dump()) if calibration else None
        self._threshold = threshold
        self._elements = {
            kind: _element_columns(kind, table)
            for kind, table in (("enhancer", store.enhancers), ("promoter", store.promoters))
        }
        self._elements["promoter"] |= {
            "gene": pa.array([own or None for own in catalogue.symbols], pa.string()),
            "gene_id": pa.array([own or None for own in catalogue.gene_ids], pa.string()),
            "tss": pa.array(catalogue.tss, mask=catalogue.tss < 0),
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
        columns |= dict(zip(self.schema.names[len(SCHEMA) :], scored.parts.T, strict=True))
        return pa.table({name: columns[name] for name in self.schema.names}, schema=self.schema)

    def _scores(self, logits: NDArray[np.float32]) -> dict[str, Any]:
        count, draws = logits.shape
        # One draw says nothing about how much the next would differ.
        unknown = np.full(count, draws == 1)
        values = {"": logits.mean(axis=1), "_lower": logits.min(axis=1), "_upper": logits.max(axis=1)}
        columns: dict[str, Any] = {
            f"logit{name}": pa.array(own, mask=unknown if name else None) for name, own in values.items()
        }
        if self._calibration is None or self._threshold is None:
            nothing = {f"probability{name}": pa.nulls(count, pa.float64()) for name in values}
            return columns | nothing | {"call": pa.nulls(count, pa.int8())}
        for name, own in values.items():
            columns[f"probability{name}"] = pa.array(self._calibration.apply(own), mask=unknown if name else None)
        called = self._calibration.apply(values[""]) >= self._threshold
        return columns | {"call": called.astype(np.int8)}


def _element_columns(kind: str, table: ElementTable) -> dict[str, pa.Array]:
    chrom = np.array(table.chrom_names, dtype=object)[table.chrom]
    nowhere = chrom == UNPLACED
    return {
        kind: pa.array(table.names, pa.string()),
        f"{kind}_chrom": pa.array(chrom, pa.string(), mask=nowhere),
        f"{kind}_start": pa.array(np.asarray(table.start), mask=nowhere),
        f"{kind}_end": pa.array(np.asarray(table.end), mask=nowhere),
    }
