"""What a search hands out in the end: the table on the terminal, presets, and the report of the region."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Console

from distributed.settings import RunSettings
from tune.findings import BEST, RECOMMENDED, point_of, recommended_point, region_of
from tune.search_page import sentences
from tune.search_report import PAGE, best_first, write_search_report
from tune.search_space import CONFIRM, SearchStudy, printed_table, ranked, trial_table, write_preset


def hand_out(study: SearchStudy, settings: RunSettings, folder: Path, lines: list[str], console: Console) -> None:
    """Print the results and write presets and report beside the table."""
    table, search = trial_table(study, lines), study.search
    best = ranked(table)
    counts = table["state"].value_counts()
    console.print(f"trials     {', '.join(f'{count} {state}' for state, count in counts.items())}")
    for _, row in table[table["state"] == "failed"].iterrows():
        console.print(f"failed     {row['kind']} {row['number']}: {row['reason']}", markup=False)
    if best.empty:
        console.print("best       none: no trial finished all its folds")
        write_search_report(folder)
        return
    console.print(printed_table(table, list(study.space), lines))
    first = best.iloc[0]
    told = f"Settings of the best trial, {first['number']}: macro average precision {first['score']:.4f}"
    preset = write_preset(
        point_of(first, search, settings), told + _fresh(table, BEST, lines), settings, folder / "best.yaml"
    )
    console.print(
        f"best       {preset}, trial {first['number']}; score and choice are of the same lines, so expect a little less"
    )
    report = region_of(best_first(table), search, settings, lines)
    point = recommended_point(report, table, search, settings)
    if point is not None:
        told = "Recommended settings, those with the highest expected score" + _fresh(table, RECOMMENDED, lines)
        file = write_preset(point, told, settings, folder / "recommended.yaml")
        console.print(f"recommends {file}, the settings with the highest expected score")
    write_search_report(folder, report=report)
    for sentence in sentences(report):
        console.print(sentence, markup=False)
    console.print(f"report     {folder / PAGE}")


def _fresh(table: pd.DataFrame, word: str, lines: list[str]) -> str:
    """What trying the point `word` again with fresh seeds gave, and on which lines."""
    own = table[(table["kind"] == CONFIRM) & (table["state"] == "complete") & (table["repeats"] == word)]
    again = f"; {own['score'].iloc[0]:.4f} with fresh seeds" if len(own) else ""
    return f"{again}, on validation lines {', '.join(lines)}."
