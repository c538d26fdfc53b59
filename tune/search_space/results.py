"""What a search hands out: the table of its trials, the best settings as a preset, which settings mattered.

Only trials that finished all their folds are ranked. A stopped trial's score is a mean over fewer folds and says that
it was behind, not how good it is; its row keeps the score with the number of folds it stands on.
"""

from __future__ import annotations

import io
import math
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
from optuna.trial import TrialState
from rich.table import Table

from data_pipeline.durable import write_durably
from data_pipeline.settings_text import yaml_text
from distributed.settings import RunSettings
from tune.search_space.space import Point, apply
from tune.search_space.study import CONFIRM, DESIGN, POINT, REASON, REPEATS, SearchStudy, folds_of
from tune.search_space.trial import run_name

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
TABLE = "trials.parquet"
SHOWN = 5
"""Rows of the printed table."""


def trial_table(study: SearchStudy, lines: list[str]) -> pd.DataFrame:
    """One row per trial: kind, number, state, score, folds, seconds, the searched keys, cells, runs, reason.

    `score` is the mean over the finished folds and seeds, NaN without one; `folds` is the budget reached. Cells:
    `score/LINE` is a line's mean over seeds, `score/LINE@SEED` one run's; `share/TERM`, `step_seconds` and
    `calibration_error` are medians over runs. A row of kind `confirm` tries the point of `repeats` again.
    """
    rows = []
    for kind in (DESIGN, CONFIRM):
        for trial in study.trials(kind):
            folds = folds_of(trial)
            rows.append(
                {
                    "kind": kind,
                    "number": trial.number,
                    "state": STATES[trial.state],
                    "score": _mean([fold.score for fold in folds]),
                    "folds": len(folds),
                    "seconds": sum(fold.seconds for fold in folds),
                    **{f"score/{line}": _mean([fold.score for fold in folds if fold.line == line]) for line in lines},
                    **{f"score/{fold.line}@{fold.seed}": fold.score for fold in folds},
                    "step_seconds": _median([fold.step_seconds for fold in folds]),
                    "calibration_error": _median([fold.calibration_error for fold in folds]),
                    **{f"share/{term}": _median([fold.shares.get(term, math.nan) for fold in folds])
                       for term in sorted({term for fold in folds for term in fold.shares})},
                    **(trial.params if kind == DESIGN else trial.user_attrs.get(POINT, {})),
                    "repeats": trial.user_attrs.get(REPEATS, ""),
                    "runs": [f"{kind}-{trial.number:04d}/{run_name(fold.line, fold.seed)}" for fold in folds],
                    "reason": trial.user_attrs.get(REASON, ""),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _median(values: list[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.median(known)) if known else math.nan


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """The complete trials, best first; earlier ones first among equals."""
    if table.empty:
        return table
    return table[(table["state"] == "complete") & (table["kind"] == DESIGN)].sort_values(
        "score", ascending=False, kind="stable"
    )


def write_table(table: pd.DataFrame, folder: Path) -> None:
    """Write the table so that a reader finds the old one or the new one, never half of it."""
    sink = io.BytesIO()
    table.to_parquet(sink, index=False)
    write_durably(folder / TABLE, sink.getvalue())


def write_preset(point: Point, told: str, base: RunSettings, file: Path) -> Path:
    """Write the settings of a point as a preset for distributed/train.py: all that differ from the defaults.

    `told` is what is known of them, in one line.
    """
    settings = apply(base, point)
    tree = settings.model_dump(mode="json", exclude_defaults=True)
    # A value equal to the default was searched all the same, and must not depend on what the default becomes.
    for key, value in point.items():
        *branches, leaf = key.split(".")
        branch = tree
        for name in branches:
            branch = branch.setdefault(name, {})
        branch[leaf] = value
    command = shlex.join(["python", "distributed/train.py", "--config", str(file)])
    head = f"# {told}\n# Choose a validation line: {command} --valid-line LINE --store ...\n"
    write_durably(file, head.encode() + yaml_text(tree))
    return file


def printed_table(table: pd.DataFrame, keys: list[str], lines: list[str]) -> Table:
    """The best complete trials for a terminal: a column each, so that many settings fit."""
    best = ranked(table).head(SHOWN)
    shown = Table(
        title=f"best of {len(table[table['kind'] == DESIGN])} trials, average precision over validation lines",
        title_justify="left",
    )
    shown.add_column("trial")
    for number in best["number"]:
        shown.add_column(str(number), justify="right")
    shown.add_row("macro AP", *(f"{score:.4f}" for score in best["score"]))
    for line in lines:
        shown.add_row(line, *(f"{score:.4f}" for score in best[f"score/{line}"]))
    for key in keys:
        shown.add_row(key.removeprefix("objective.").removeprefix("terms."), *map(_cell, best[key]))
    shown.add_row("seconds", *(f"{seconds:.0f}" for seconds in best["seconds"]))
    return shown


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
