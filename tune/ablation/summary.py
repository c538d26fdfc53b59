"""The report of an ablation, made from its folder alone and as often as wanted, also while it runs.

    python tune/ablation_report.py --ablation runs/NAME

Writes report.html (one page for a browser), table.md and runs.parquet (a row per run), and prints the table. A variant
stands beside what it is compared to, on the same folds, seeds and pairs; with it stand what every mechanism did in it.
Nothing is trained.
Cost: about 0.2 s per run, quadrant and 20,000 pairs.
"""

from __future__ import annotations

import functools
import io
import json
import math
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from rich.console import Console

from data_pipeline.durable import write_durably
from data_pipeline.errors import UserError
from evaluation import QUADRANTS, strict
from evaluation.page import write_page
from tune.ablation.ablation_page import ablation_page
from tune.ablation.comparison import AblationReport, Look, compare, conduct, mean
from tune.ablation.contrasts import Judged, judged
from tune.ablation.identity import OUTCOMES, AblationRecord, read_ablation, read_outcomes
from tune.ablation.run import Outcome
from tune.ablation.tables import print_tables, write_markdown

TABLE, CONTENT, PAGE = "runs.parquet", "comparison.json", "report.html"
UNSEEN = tuple(quadrant for quadrant in QUADRANTS if quadrant.startswith("unseen_line"))
"""Quadrants of a test line, the question of the product first."""


def runs_table(record: AblationRecord, outcomes: dict[str, Outcome]) -> pd.DataFrame:
    """A row per run in the record's order: what it is, state (complete, failed, waiting), figures, shares, alarms."""
    rows = []
    for cell in record.cells():
        outcome = outcomes.get(cell.run)
        row = {**cell.model_dump(), "run": cell.run, "state": outcome.state if outcome else "waiting"}
        if outcome:
            row |= outcome.model_dump(include={"reason", "seconds", "steps", "valid_ap", "alarms"})
            row |= outcome.figures | outcome.activity
        rows.append(row)
    return pd.DataFrame(rows)


def write_runs(folder: Path, record: AblationRecord) -> pd.DataFrame:
    """Bring runs.parquet up to date, so that a reader finds the old one or the new one; the table."""
    table = runs_table(record, read_outcomes(folder, record.cells()))
    sink = io.BytesIO()
    table.to_parquet(sink, index=False)
    write_durably(folder / TABLE, sink.getvalue())
    return table


def build(folder: Path, draws: int = 1000) -> AblationReport:
    """The report of the ablation in `folder`, with `draws` of the bootstrap; raises `UserError`."""
    record = read_ablation(folder)
    outcomes = read_outcomes(folder, record.cells())
    complete = {run: outcome for run, outcome in outcomes.items() if outcome.state == "complete"}
    variants = [variant for variant in record.variants if not variant.left_out]
    comparisons = {}
    for quadrant in UNSEEN:
        look = _looker(folder, complete, quadrant, draws)
        comparisons[quadrant] = [compare(record, variant, complete, look, quadrant) for variant in variants]
    bayes = {outcome.cell.test_line: outcome.figures.get("bayes", math.nan) for outcome in complete.values()}
    return AblationReport(
        record=record,
        comparisons=comparisons,
        conduct=[conduct(variant.name, complete.values()) for variant in variants],
        runs=runs_table(record, outcomes),
        bayes=mean(bayes.values()),
    )


def hand_out(folder: Path, console: Console, draws: int = 1000) -> AblationReport:
    """Write page, table, runs and `comparison.json` into `folder`, print the table, and return the report."""
    report = build(folder, draws)
    write_runs(folder, report.record)
    write_markdown(report, folder)
    write_page(ablation_page(report, folder.name), folder / PAGE)
    content = {"comparisons": {key: [asdict(item) for item in items] for key, items in report.comparisons.items()},
               "conduct": [asdict(item) for item in report.conduct], "bayes": report.bayes}  # fmt: skip
    write_durably(folder / CONTENT, json.dumps(strict(content), indent=1, allow_nan=False).encode())
    print_tables(report, console)
    console.print(f"report     {folder / PAGE}")
    return report


def _looker(folder: Path, complete: dict[str, Outcome], quadrant: str, draws: int) -> Look:
    @functools.cache
    def look(run: str) -> Judged | None:
        if run not in complete:
            return None
        file = folder / OUTCOMES / f"{run}.parquet"
        if not file.is_file():
            raise UserError(f"{file} is missing; delete {file.with_suffix('.json').name} beside it and resume")
        columns = ["line", "row", "label", "logit", "u", "cluster"]
        group = pd.read_parquet(file, columns=columns, filters=[("quadrant", "==", quadrant)])
        return judged(group, draws) if group["label"].nunique() == 2 else None

    return look
