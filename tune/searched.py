"""The report of a search, from its folder alone and as often as wanted: region.json, region.md, report.html and, where
something can be recommended, recommended.yaml.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from data_pipeline.durable import write_durably
from data_pipeline.errors import UserError
from distributed.settings import RunSettings
from evaluation.page import write_page
from tune.findings import AS_THEY_STAND, BEST, RECOMMENDED, recommended_point, region_of
from tune.identity import SearchRecord, read_search
from tune.region import RegionReport, SearchWords, region_tables, search_page, sentences
from tune.search_space import CONFIRM, Point, SearchSettings, base_point, distributions, write_preset

TRIALS, PAGE, CONTENT, MARKDOWN = "trials.parquet", "report.html", "region.json", "region.md"


def write_search_report(folder: Path, out: Path | None = None) -> RegionReport:
    """Write the report of the search in `folder` into `out` (default: the folder) and return it; raises `UserError`.

    Every file is written whole or not at all, the page last. Cost: seconds, more with more settings and trials.
    """
    record, table, out = read_search(folder), read_trials(folder), out or folder
    search, settings = SearchSettings.model_validate(record.search), RunSettings.model_validate(record.run)
    space = distributions(search, settings)
    base = base_point(space, search, settings, inside=False) or {}
    table = with_points(table, list(space), base)
    report = region_of(table, search, settings, record.lines)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create {out}: {error.strerror}; choose another --out") from error
    write_durably(out / CONTENT, json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n")
    write_durably(out / MARKDOWN, markdown(report, folder.name))
    point = recommended_point(report, table, search, settings)
    command = ""
    if point is not None:
        preset = write_preset(point, expected(report, point), record.lines, settings, out, f"{RECOMMENDED}.yaml")
        words = ["python", "distributed/train.py", "--config", str(preset), "--store", record.store]
        command = f"{shlex.join(words)} --valid-line LINE"
    words_of_record = words_of(record, list(space), base, command)
    write_page(search_page(report, table, folder.name, words_of_record), out / PAGE)
    return report


def read_trials(folder: Path) -> pd.DataFrame:
    """The table of trials of the search in `folder`; raises `UserError` where it is missing or cannot be read."""
    file = folder / TRIALS
    if not file.is_file():
        raise UserError(f"search {folder} has no {TRIALS} yet: no trial has begun; wait, or resume the search")
    try:
        return pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}); resuming the search writes it anew") from error


def with_points(table: pd.DataFrame, keys: list[str], base: Mapping[str, Any]) -> pd.DataFrame:
    """`table` with a column per searched key, also where no trial had it yet, and with the point of every row.

    What tries the settings again as they stand has no point in the table, and would be no point of the space. Rows that
    try a point again come in the order in which an answer speaks of them: the best trial, whose luck is in question,
    first.
    """
    asked = ["kind", "number", "state", "step_seconds", "repeats", "reason", *keys]
    whole = table.reindex(columns=[*table.columns, *(key for key in asked if key not in table.columns)])
    rows = (whole["kind"] == CONFIRM) & (whole["repeats"] == AS_THEY_STAND)
    for key in base if rows.any() else ():
        whole.loc[rows, key] = base[key]
    order = {name: place for place, name in enumerate(("", BEST, RECOMMENDED, AS_THEY_STAND))}
    return whole.sort_values("repeats", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def expected(report: RegionReport, point: Point) -> float:
    """Score to expect at the recommended `point`: of the mode that it has, else of all trials; NaN where unknown."""
    known = {part.name: part.landscape for part in report.parts if part.landscape is not None}
    own = [known[name] for name in (f"{key}={value}" for key, value in point.items()) if name in known]
    tuned = [modes.modes[0].tuned for modes in report.modes if modes.modes]
    scores = [land.best_trial.recommended.value for land in own or known.values()]
    return [*scores, *tuned, float("nan")][0]


def words_of(record: SearchRecord, keys: list[str], base: Mapping[str, Any], command: str) -> SearchWords:
    """What the page says of the search beside its numbers."""
    return SearchWords(
        store=record.store,
        test_line=str(record.run["fold"]["test_line"]),
        sampler=str(record.search["sampler"]),
        trials=int(record.search["trials"]),
        keys=keys,
        command=command,
        base=base,
        versions=record.versions,
    )


def markdown(report: RegionReport, name: str) -> str:
    """The answer and all tables as Markdown."""
    parts = [f"# Search {name}", *sentences(report)]
    for title, (columns, rows) in region_tables(report).items():
        lines = [columns, ["---"] * len(columns), *rows]
        body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        parts += [f"## {title}", body]
    return "\n\n".join(parts) + "\n"
