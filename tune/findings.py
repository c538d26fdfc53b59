"""From a search's table to what it found: the region, and the points that are tried again with fresh seeds."""

from __future__ import annotations

import pandas as pd

from distributed.settings import RunSettings
from tune.search_space import CONFIRM, Point, SearchSettings, conditions, distributions, is_searched, ranked

BEST, RECOMMENDED, AS_THEY_STAND = "best", "recommended", "default"
"""What is tried again: the best trial, the recommended point, and the settings of the runs as they stand."""


def point_of(row: pd.Series, search: SearchSettings, settings: RunSettings) -> Point:
    """The searched values of a trial's row, each as its setting has it."""
    point: Point = {}
    for key, own in distributions(search, settings).items():
        if is_searched(key, point, conditions(search)):
            point[key] = own.to_external_repr(own.to_internal_repr(row[key]))
    return point


def points_to_repeat(
    table: pd.DataFrame, search: SearchSettings, settings: RunSettings, lines: list[str]
) -> dict[str, Point]:
    """The points to try again, each once: none where no trial is complete. Those as they stand have nothing changed."""
    best = ranked(table)
    if best.empty:
        return {}
    return {AS_THEY_STAND: {}, BEST: point_of(best.iloc[0], search, settings)}


def repeats(table: pd.DataFrame) -> pd.DataFrame:
    """The complete rows that try a point again."""
    return table[(table["kind"] == CONFIRM) & (table["state"] == "complete")]
