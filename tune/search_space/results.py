"""What a search hands out: the table of its trials, the best settings as a preset, which settings mattered.

Only trials that finished all their folds are ranked. A stopped trial's score is a mean over fewer folds and says that
it was behind, not how good it is; its row keeps the score with the number of folds it stands on.
"""

from __future__ import annotations

import io
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState
from rich.table import Table

from data_pipeline.durable import write_durably
from data_pipeline.settings_text import yaml_text
from distributed.settings import RunSettings
from tune.search_space.space import Point, apply
from tune.search_space.study import REASON, SearchStudy, folds_of
from tune.search_space.trial import run_name

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
TABLE, PRESET = "trials.parquet", "best.yaml"
FEWEST_FOR_IMPORTANCE = 20
"""Complete trials below which importances are noise: PED-ANOVA wants five in its best quarter."""
SHOWN = 5
"""Rows of the printed table."""


def trial_table(study: SearchStudy, lines: list[str]) -> pd.DataFrame:
    """One row per trial: number, state, score, folds, seconds, `score/LINE`, the searched keys, runs, reason.

    `score` is the mean over the finished folds, NaN without one; `folds` is the budget reached.
    """
    rows = []
    for trial in study.trials():
        folds = folds_of(trial)
        row: dict[str, Any] = {
            "number": trial.number,
            "state": STATES[trial.state],
            "score": sum(fold.score for fold in folds) / len(folds) if folds else float("nan"),
            "folds": len(folds),
            "seconds": sum(fold.seconds for fold in folds),
            **{f"score/{line}": float("nan") for line in lines},
            **{f"score/{fold.line}": fold.score for fold in folds},
            **trial.params,
            "runs": [run_name(trial.number, fold.line) for fold in folds],
            "reason": trial.user_attrs.get(REASON, ""),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """The complete trials, best first; earlier ones first among equals."""
    if table.empty:
        return table
    return table[table["state"] == "complete"].sort_values("score", ascending=False, kind="stable")


def write_table(table: pd.DataFrame, folder: Path) -> None:
    """Write the table so that a reader finds the old one or the new one, never half of it."""
    sink = io.BytesIO()
    table.to_parquet(sink, index=False)
    write_durably(folder / TABLE, sink.getvalue())


def write_preset(point: Point, score: float, lines: list[str], base: RunSettings, folder: Path) -> Path:
    """Write the settings of a point as a preset for distributed/train.py: all that differ from the defaults."""
    settings = apply(base, point)
    tree = settings.model_dump(mode="json", exclude_defaults=True)
    # A value equal to the default was searched all the same, and must not depend on what the default becomes.
    for key, value in point.items():
        *branches, leaf = key.split(".")
        branch = tree
        for name in branches:
            branch = branch.setdefault(name, {})
        branch[leaf] = value
    command = shlex.join(["python", "distributed/train.py", "--config", str(folder / PRESET)])
    head = (
        f"# Best settings of search {folder.name}: macro average precision {score:.4f} on validation lines "
        f"{', '.join(lines)}.\n# Choose a validation line: {command} --valid-line LINE --store ...\n"
    )
    write_durably(folder / PRESET, head.encode() + yaml_text(tree))
    return folder / PRESET


def importances(study: SearchStudy) -> dict[str, float] | None:
    """Share of the score's variation per searched key, largest first; None where complete trials are too few.

    Functional ANOVA on even designs; on TPE's, which crowd around good points, PED-ANOVA over the best quarter
    (algorithms.md 11). Neither looks at trials that were stopped or failed.
    """
    complete = sum(trial.state == TrialState.COMPLETE for trial in study.trials())
    if complete < FEWEST_FOR_IMPORTANCE:
        return None
    even = study.search.sampler != "tpe"
    evaluator = (
        FanovaImportanceEvaluator(seed=study.search.seed)
        if even
        else PedAnovaImportanceEvaluator(target_quantile=0.25, evaluate_on_local=False)
    )
    return get_param_importances(study.optuna, evaluator=evaluator)


def printed_table(table: pd.DataFrame, keys: list[str], lines: list[str]) -> Table:
    """The best complete trials for a terminal."""
    shown = Table(
        title=f"best of {len(table)} trials, macro average precision over validation lines", title_justify="left"
    )
    shortened = [key.removeprefix("objective.terms.") for key in keys]
    for name in ("trial", "macro AP", *lines, *shortened, "seconds"):
        shown.add_column(name, justify="right")
    for _, row in ranked(table).head(SHOWN).iterrows():
        scores = [f"{row[f'score/{line}']:.4f}" for line in lines]
        values = [f"{row[key]:.4g}" if isinstance(row[key], float) else str(row[key]) for key in keys]
        shown.add_row(str(row["number"]), f"{row['score']:.4f}", *scores, *values, f"{row['seconds']:.0f}")
    return shown
