"""The evaluation report as data; `report_text` says it on the console, `report_page` writes it.

The calibration comes in frozen (see `quadrants.calibrate_on_validation`); nothing is fitted here. Cost: that of
`quadrants`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from evaluation.calibration import Calibration
from evaluation.findings import findings
from evaluation.line_transfer import judge_test_lines, leave_lines_out
from evaluation.quadrants import (
    EvaluationSettings,
    Row,
    evaluate_lines,
    evaluate_pooled,
    known_predictions,
    macro_rows,
)


@dataclass(frozen=True)
class Report:
    """Everything a report says; rows are those of `quadrants`."""

    calibration: dict[str, Any]
    lines: list[Row]
    macro: list[Row]
    pooled: list[Row]
    findings: list[str]
    unknown_labels: int
    """Pairs without a label, which were left out."""
    left_out: dict[str, str] = field(default_factory=dict)
    """{baseline: reason} of the baselines that the data did not allow."""
    training: list[str] = field(default_factory=list)
    """What the alarms and responses of the training said, see `training_findings`."""
    context: dict[str, Any] = field(default_factory=dict)
    """What produced the predictions: configuration, store checksum, run name; stored as given."""
    verify: list[dict[str, Any]] = field(default_factory=list)
    """What became of the falsifiable predictions, see `verification.verify_run`."""
    protocol: str = ""
    """What the model was told about a line before it scored it, in one sentence."""
    environment: str = ""
    """What may be read from the rivals about the environment, in one sentence."""
    transfer: list[dict[str, Any]] = field(default_factory=list)
    """Lines under a calibration that did not see their labels, see `line_transfer.JudgedLine.figures`."""


def build_report(
    predictions: pd.DataFrame,
    calibration: Calibration,
    settings: EvaluationSettings | None = None,
    bayes: Mapping[str, float] | None = None,
    left_out: Mapping[str, str] | None = None,
    context: Mapping[str, Any] | None = None,
    environment_can_rank: bool = True,
    training: Sequence[str] = (),
    verify: Sequence[dict[str, Any]] = (),
    protocol: str = "",
    environment: str = "",
) -> Report:
    """Evaluate `predictions` (columns: see `quadrants.COLUMNS`) under the frozen `calibration`.

    `bayes` is the best possible AP per line where known, `left_out` the baselines without scores and why,
    `environment_can_rank` as in `findings`, `training` as `training_findings` gives them, `verify` as `verify_run`
    does, `protocol` and `environment` are told first. Raises `UserError` for predictions that cannot be evaluated.
    """
    settings = settings or EvaluationSettings()
    known = known_predictions(predictions)
    lines = evaluate_lines(known, calibration, settings, bayes)
    macro = macro_rows(lines)
    return Report(
        calibration=calibration.to_dict(),
        lines=lines,
        macro=macro,
        pooled=evaluate_pooled(known, calibration, settings),
        findings=findings(lines, macro, calibration, environment_can_rank),
        unknown_labels=len(predictions) - len(known),
        left_out=dict(left_out or {}),
        training=list(training),
        context=dict(context or {}),
        verify=list(verify),
        protocol=protocol,
        environment=environment,
        transfer=[own.figures() for own in (*leave_lines_out(known), *judge_test_lines(known, calibration))],
    )


def strict(value: Any) -> Any:
    """`value` as JSON can hold it: NumPy scalars and arrays as Python's, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return strict(value.tolist())
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if isinstance(value, np.generic):
        return strict(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
