"""The evaluation report: tables on the console, `report.json`, `report.md` and figures.

The calibration comes in frozen (see `quadrants.calibrate_on_validation`); nothing is fitted here. JSON is strict: a
number that does not exist is null, never NaN. Every table fits 140 columns. Console and Markdown show the same cells.
Files are written into one directory; `report.json` last, so that its presence means the report is whole.
Cost: that of `quadrants`, and a few seconds of figures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from data_pipeline.durable import write_durably
from evaluation.calibration import Calibration
from evaluation.figures import plot_precision_recall, plot_reliability, plot_scores
from evaluation.findings import findings
from evaluation.quadrants import (
    QUADRANTS,
    ROLES,
    EvaluationSettings,
    Row,
    evaluate_lines,
    evaluate_pooled,
    known_predictions,
    macro_rows,
)

RIVALS_PER_TABLE = 5

FIGURES = {
    "Precision and recall": "precision_recall.png",
    "Reliability": "reliability.png",
    "Scores by label": "scores.png",
}


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


@dataclass(frozen=True)
class TextTable:
    """A table of finished cells, for the console and for Markdown alike."""

    title: str
    columns: list[str]
    rows: list[list[str]]


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
    )


def write_report(
    report: Report, predictions: pd.DataFrame, directory: Path, more_figures: Mapping[str, str] | None = None
) -> None:
    """Write figures, `report.md` and `report.json` into `directory`, which is made where it is missing.

    `more_figures` {title: file name} lie in `directory` already and are shown after the others.
    """
    directory.mkdir(parents=True, exist_ok=True)
    known = known_predictions(predictions)
    shown = known[known["role"] != "train"] if (known["role"] != "train").any() else known
    calibration = Calibration.from_dict(report.calibration)
    if len(shown):
        plot_precision_recall(shown, directory / FIGURES["Precision and recall"])
        plot_reliability(shown, calibration, directory / FIGURES["Reliability"])
        plot_scores(shown, calibration, directory / FIGURES["Scores by label"])
    figures = (FIGURES if len(shown) else {}) | dict(more_figures or {})
    write_durably(directory / "report.md", markdown(report, figures))
    content = json.dumps(strict(asdict(report)), indent=1, allow_nan=False)
    write_durably(directory / "report.json", content + "\n")


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


def render(report: Report, console: Console) -> None:
    """Print the tables, the calibration and the findings."""
    for table in tables(report):
        grid = Table(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
        for i, column in enumerate(table.columns):
            grid.add_column(column, justify="left" if i < 3 else "right", no_wrap=True)
        for row in table.rows:
            grid.add_row(*row)
        console.print(grid)
    for sentence in (*notes(report), *verdicts(report)):
        console.print(f"- {sentence}", markup=False, highlight=False)


def markdown(report: Report, figures: Mapping[str, str]) -> str:
    """The report as Markdown; `figures` {title: file name} are linked at its end."""
    parts = ["# Evaluation", "\n".join(f"- {sentence}" for sentence in notes(report))]
    for table in tables(report):
        lines = [table.columns, ["---"] * len(table.columns), *table.rows]
        body = "\n".join("| " + " | ".join(cell.replace("\n", " ") for cell in line) + " |" for line in lines)
        parts += [f"## {table.title}", body]
    if report.verify:
        parts += ["## Verify", "\n".join(f"- {sentence}" for sentence in verdicts(report))]
    parts += [f"## {title}\n\n![{title}]({name})" for title, name in figures.items()]
    return "\n\n".join(parts) + "\n"


def notes(report: Report) -> Iterator[str]:
    """The sentences below the tables: calibration, what was left out, alarms."""
    calibration = Calibration.from_dict(report.calibration)
    if report.protocol:
        yield f"protocol: {report.protocol}"
    if report.environment:
        yield report.environment
    if learnt := report.context.get("learnt"):
        yield f"learnt: {', '.join(f'{name} {value:.3g}' for name, value in learnt.items())}"
    yield (
        f"calibration frozen on the validation line: temperature {calibration.temperature:.3g}, bias "
        f"{calibration.bias:.3g}, threshold {calibration.threshold:.3g} by {calibration.criterion}"
    )
    yield (
        "brackets are 95% intervals: bootstrap over clusters for a line and for pooled rows, t-interval over lines "
        "for macro rows"
    )
    if report.unknown_labels:
        yield f"{report.unknown_labels:,} pairs without a label were left out"
    for name, reason in report.left_out.items():
        yield f"baseline {name} left out: {reason}"
    for sentence in report.findings:
        yield f"ALARM: {sentence}"
    if not report.findings:
        yield "no alarm fired"
    yield from report.training


def verdicts(report: Report) -> Iterator[str]:
    """One sentence per falsifiable prediction: its number, what became of it, the statistic, what was planted."""
    for own in report.verify:
        planted = f"; {own['planted']}" if own["planted"] else ""
        if own["expected"]:
            told = {own["expected"]: "as planted", "not testable": "left open"}.get(own["outcome"], "NOT as planted")
            planted += f": {told}"
        yield f"{own['requirement']} {own['outcome']}: {own['claim']}. {own['says']}{planted}"


def tables(report: Report) -> list[TextTable]:
    """The ranking, threshold and rival tables, each at most 140 columns wide with names of up to 12 characters."""
    rows = list(_ordered(report))
    made = [
        _table("Ranking", rows, _RANKING),
        _table("At the frozen threshold; calibration; spread over support draws", rows, _THRESHOLD),
    ]
    names = list(dict.fromkeys(name for row in rows for name in row["rivals"]))
    for start in range(0, len(names), RIVALS_PER_TABLE):
        shown = names[start : start + RIVALS_PER_TABLE]
        columns = {name: (lambda row, name=name: _rival(row["rivals"].get(name))) for name in shown}
        title = "Average precision of the rivals, and the model's lead over each on the same draws"
        made.append(_table(title, rows, columns))
    return made


def _ordered(report: Report) -> Iterator[Row]:
    for role in ROLES:
        for quadrant in QUADRANTS:
            lines, macro, pooled = (
                [row for row in rows if row["role"] == role and row["quadrant"] == quadrant]
                for rows in (report.lines, report.macro, report.pooled)
            )
            # the mean of one line would repeat it
            yield from [*lines, *macro, *pooled] if len(lines) > 1 else lines


def _table(title: str, rows: list[Row], columns: Mapping[str, Any]) -> TextTable:
    def place(row: Row) -> list[str]:
        line, chromosome = row["quadrant"].split("/")
        return [row["role"], f"{line.split('_')[0]}/{chromosome.split('_')[0]}", row["line"]]

    cells = [[*place(row), *(show(row) for show in columns.values())] for row in rows]
    return TextTable(title, ["role", "line/chrom", "cell line", *columns], cells)


def _number(value: float | None, digits: int = 3, sign: str = "") -> str:
    """`value` without the leading zero, as tables of probabilities are read; '-' where it does not exist."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:{sign}.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:{sign}.{digits}f}"


def _between(low: float | None, high: float | None) -> str:
    return f"[{_number(low)},{_number(high)}]" if _number(low) != "-" else ""


def _with_interval(row: Row, name: str) -> str:
    return f"{_number(row[name])} {_between(row.get(name + '_low'), row.get(name + '_high'))}".rstrip()


def _rival(values: Mapping[str, float] | None) -> str:
    if values is None:
        return "-"
    lead = f"{_number(values['difference'], sign='+')} {_between(values['low'], values['high'])}".rstrip()
    return f"{_number(values['ap'])}\n{lead}"


_RANKING = {
    "n": lambda row: f"{row['n']:,}",
    "prev.": lambda row: _number(row["prevalence"]),
    "AP": lambda row: _with_interval(row, "ap"),
    "lift": lambda row: _number(row["lift"], 2),
    "AUROC": lambda row: _with_interval(row, "auroc"),
    "Bayes AP": lambda row: _number(row["bayes_ap"]),
    "worst line": lambda row: f"{_number(row['worst_ap'])} {row['worst_line']}" if "worst_ap" in row else "",
}

_THRESHOLD = {
    "MCC": lambda row: _with_interval(row, "mcc"),
    "F1": lambda row: _number(row["f1"]),
    "precision": lambda row: _number(row["precision"]),
    "recall": lambda row: _number(row["recall"]),
    "bal.acc.": lambda row: _number(row["balanced_accuracy"]),
    "ECE before": lambda row: _number(row["ece_before"]),
    "ECE after": lambda row: _number(row["ece_after"]),
    "by mass": lambda row: _number(row["ece_mass_after"]),
    "support sd": lambda row: _number(row["ap_support_sd"], 4),
}
