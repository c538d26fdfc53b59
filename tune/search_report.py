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
from data_pipeline.settings import validate
from distributed.settings import RunSettings
from evaluation.page import write_page
from tune.findings import AS_THEY_STAND, BEST, RECOMMENDED, defaults, region_of
from tune.identity import RECORD, SearchRecord, read_search
from tune.region import RegionReport
from tune.search_page import SearchWords, region_tables, search_page, sentences
from tune.search_space import SearchSettings, distributions

TRIALS, PAGE, CONTENT, MARKDOWN = "trials.parquet", "report.html", "region.json", "region.md"


def write_search_report(folder: Path, out: Path | None = None, report: RegionReport | None = None) -> RegionReport:
    """Write the report of the search in `folder` into `out` (default: the folder) and return it; raises `UserError`.

    `report` is what is known already of the same trials, which otherwise is found here. Files are written whole or not
    at all, the page last. Cost: seconds, or half a minute where the region has to be found.
    """
    record = read_search(folder)
    where = str(folder / RECORD)
    search, settings = validate(SearchSettings, record.search, where), validate(RunSettings, record.run, where)
    table, base = best_first(read_trials(folder)), defaults(search, settings)
    space = distributions(search, settings)
    out = out or folder
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create {out}: {error.strerror}; choose a writable --out") from error
    report = report or region_of(table, search, settings, record.lines)
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


def best_first(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with the rows that try a point again in the order in which an answer speaks of them.

    The luck that is in question is that of the best trial, so that it comes before what is recommended and the default.
    """
    if "repeats" not in table:
        return table
    order = {name: place for place, name in enumerate(("", BEST, RECOMMENDED, AS_THEY_STAND))}
    return table.sort_values("repeats", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def words_of(folder: Path, record: SearchRecord, keys: list[str], base: Mapping[str, Any]) -> SearchWords:
    """What the page says of the search beside its numbers."""
    preset = folder / f"{RECOMMENDED}.yaml"
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
