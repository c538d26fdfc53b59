"""The report of a search, from its folder alone and as often as wanted: region.json, region.md and report.html."""

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
from tune.identity import SearchRecord, read_search
from tune.region import RegionReport, SearchWords, analyse, region_tables, search_page, sentences
from tune.search_space import CONFIRM, DESIGN, SearchSettings, conditions, distributions, is_searched

TRIALS, PAGE, CONTENT, MARKDOWN = "trials.parquet", "report.html", "region.json", "region.md"
RECOMMENDED = "recommended.yaml"
"""Preset of the recommended settings, where the search has written one."""
AS_THEY_STAND = "default"
"""What a confirming trial repeats that runs the settings as they stand: its point is empty."""
ROLES = {DESIGN: "design", CONFIRM: "confirm"}
"""Kinds of trials, as the region calls them."""


def write_search_report(folder: Path, out: Path | None = None) -> RegionReport:
    """Write the report of the search in `folder` into `out` (default: the folder) and return it; raises `UserError`.

    Files are written whole or not at all, the page last. Cost: seconds, more with more settings and trials.
    """
    record = read_search(folder)
    search, settings = SearchSettings.model_validate(record.search), RunSettings.model_validate(record.run)
    table, base = read_trials(folder), defaults(search, settings)
    space = distributions(search, settings)
    named = adapted(table, list(space), base, search)
    report = analyse(named, space, record.lines, list(range(search.seeds)), base, search.seed)
    out = out or folder
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create {out}: {error.strerror}; choose a writable --out") from error
    write_durably(out / CONTENT, json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n")
    write_durably(out / MARKDOWN, markdown(report, folder.name))
    words = words_of(folder, record, list(space), base)
    write_page(search_page(report, table, folder.name, words), out / PAGE)
    return report


def read_trials(folder: Path) -> pd.DataFrame:
    """The table of trials of the search in `folder`; raises `UserError` where it is missing or cannot be read."""
    file = folder / TRIALS
    if not file.is_file():
        raise UserError(f"search {folder} has no {TRIALS} yet: no trial has ended; wait, or resume the search")
    try:
        return pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}); resuming the search writes it anew") from error


def defaults(search: SearchSettings, settings: RunSettings) -> dict[str, Any]:
    """The searched settings as the runs have them, whether or not they lie within the space."""
    found: dict[str, Any] = {}
    for key in distributions(search, settings):
        value: Any = settings
        for name in key.split("."):
            value = getattr(value, name)
        found[key] = value
    return found


def adapted(table: pd.DataFrame, keys: list[str], base: Mapping[str, Any], search: SearchSettings) -> pd.DataFrame:
    """The `table` with the columns that `analyse` asks for: role, seconds_per_step, and one per searched key."""
    if table.empty:
        return table
    named = table.rename(columns={"step_seconds": "seconds_per_step"})
    named = named.reindex(columns=[*named.columns, *(key for key in keys if key not in named.columns)])
    named = named.assign(role=named["kind"].map(ROLES))
    as_they_stand = (named["kind"] == CONFIRM) & (named["repeats"] == AS_THEY_STAND)
    for key in keys:
        if as_they_stand.any() and is_searched(key, base, conditions(search)):
            named.loc[as_they_stand, key] = base[key]
    return named


def words_of(folder: Path, record: SearchRecord, keys: list[str], base: Mapping[str, Any]) -> SearchWords:
    """What the page says of the search beside its numbers."""
    preset = folder / RECOMMENDED
    command = shlex.join(["python", "distributed/train.py", "--config", str(preset), "--store", record.store])
    return SearchWords(
        store=record.store,
        test_line=str(record.run["fold"]["test_line"]),
        sampler=str(record.search["sampler"]),
        trials=int(record.search["trials"]),
        keys=keys,
        command=f"{command} --valid-line LINE" if preset.is_file() else "",
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
