"""What a search hands out in the end: the table on the terminal, presets, and the report of the region."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from distributed.settings import RunSettings
from tune.findings import point_of, recommended_point, region_of
from tune.search_space import SearchStudy, printed_table, ranked, trial_table, write_preset


def hand_out(study: SearchStudy, settings: RunSettings, folder: Path, lines: list[str], console: Console) -> None:
    """Print the results and write presets and report beside the table."""
    table = trial_table(study, lines)
    best = ranked(table)
    counts = table["state"].value_counts()
    console.print(f"trials     {', '.join(f'{count} {state}' for state, count in counts.items())}")
    for _, row in table[table["state"] == "failed"].iterrows():
        console.print(f"failed     {row['kind']} {row['number']}: {row['reason']}", markup=False)
    if best.empty:
        console.print("best       none: no trial finished all its folds")
        return
    console.print(printed_table(table, list(study.space), lines))
    first = best.iloc[0]
    preset = write_preset(point_of(first, study.search, settings), float(first["score"]), lines, settings, folder)
    console.print(
        f"best       {preset}, trial {first['number']}; score and choice are of the same lines, so expect a little less"
    )
