"""Probabilities shifted to the prevalence that a line's own scores suggest, with a band that says what is not known.

The shift (`estimate_shift`) needs all scores of a line before the first row can be written, so the rows wait in an
Arrow file in the work folder and go through a second time. Logits and calls stay as they are: under the shift's
assumption, that each class scores as in the validation line, the recall at a cut of the logits does not change, and a
call is such a cut. Memory is 4 bytes per row beside the rows of one stretch; time, one more pass over the table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_pipeline.durable import FullDiskNamed
from data_pipeline.errors import UserError
from distributed.prediction.deployment import FrozenCalibration
from evaluation import BAND_LEVEL, Calibration, PrevalenceShift, estimate_shift


class ShiftedTables:
    """Tables of scores, gone through once as they come and once more with shifted probabilities."""

    def __init__(self, calibration: FrozenCalibration | None, work: Path) -> None:
        """`work` is an existing folder; raises `UserError` where the model does not say what its prevalence was."""
        if calibration is None or calibration.prevalence is None:
            raise UserError(
                "probabilities cannot be shifted: the model has no calibration that records its prevalence; run "
                "evaluate.py on its run with this version, export it again, or leave --prevalence-shift out"
            )
        self._calibration = Calibration.from_dict(calibration.model_dump())
        self._prior = calibration.prevalence
        self._spool = work / "unshifted.arrow"
        self.shifts: dict[str, PrevalenceShift] = {}
        """By line; filled when the tables have been gone through."""

    def of(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The same tables with `probability`, `probability_lower` and `probability_upper` shifted."""
        logits: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
        writer = None
        with FullDiskNamed(self._spool):
            for table in tables:
                writer = writer or pa.ipc.new_file(str(self._spool), table.schema)
                writer.write_table(table)
                lines, values = table["line"].to_numpy(), table["logit"].to_numpy()
                for line in np.unique(lines):
                    logits[str(line)].append(values[lines == line])
            if writer is None:
                return
            writer.close()
        self.shifts = {
            line: estimate_shift(self._calibration.scaled(np.concatenate(parts)), self._prior)
            for line, parts in logits.items()
        }
        with pa.memory_map(str(self._spool)) as source:
            reader = pa.ipc.open_file(source)
            for index in range(reader.num_record_batches):
                yield self._shifted(pa.Table.from_batches([reader.get_batch(index)]))

    def record(self) -> dict[str, Any]:
        """What OUT.json says of the shift and the band."""
        between = self._calibration.between
        return {
            "method": "Saerens, Latinne & Decaestecker 2002",
            "lines": {
                line: {
                    "prevalence_of_validation": own.prior,
                    "prevalence_estimated": own.prevalence,
                    "offset": own.offset,
                    "converged": own.converged,
                }
                for line, own in self.shifts.items()
            },
            "band": {
                "holds": "support draws and spread between lines" if between else "support draws alone",
                "level_between_lines": BAND_LEVEL if between else None,
                "learnt_from": f"{between.units} {between.of}" if between else None,
                "half_width_logits": between.half_width(shifted=True) if between else None,
            },
        }

    def _shifted(self, table: pa.Table) -> pa.Table:
        lines = table["line"].to_numpy()
        offset = np.array([self.shifts[str(line)].offset for line in lines])
        logit, lower, upper = (table[name].to_numpy() for name in ("logit", "logit_lower", "logit_upper"))
        names = ("probability", "probability_lower", "probability_upper")
        # One draw says nothing of the next, and without lines to learn from nothing of other lines: no band then.
        unknown = np.isnan(lower) if self._calibration.between is None else np.zeros(len(lines), dtype=bool)
        for name, values in zip(names, self._calibration.band(logit, lower, upper, offset), strict=True):
            mask = unknown if name != "probability" else None
            table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, mask=mask))
        return table
