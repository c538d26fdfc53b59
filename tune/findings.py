"""From a search's table to what it found: the region, the recommended settings, the points that are tried again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from optuna.distributions import BaseDistribution, IntDistribution

from distributed.settings import RunSettings
from tune.region import RegionReport, analyse
from tune.search_space import (
    CONFIRM,
    DESIGN,
    Point,
    SearchSettings,
    conditions,
    distributions,
    is_searched,
    ranked,
)

BEST, RECOMMENDED, AS_THEY_STAND = "best", "recommended", "default"
"""What is tried again: the best trial, the recommended point, and the settings of the runs as they stand."""
ROLES = {DESIGN: "design", CONFIRM: "confirm"}
"""Kinds of trials, as the region calls them."""


def region_of(table: pd.DataFrame, search: SearchSettings, settings: RunSettings, lines: list[str]) -> RegionReport:
    """What the trials of `table` say about the space."""
    space, base = distributions(search, settings), defaults(search, settings)
    named = adapted(table, list(space), base, search)
    return analyse(named, space, lines, list(range(search.seeds)), base, search.seed)


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


def recommended_point(
    report: RegionReport, table: pd.DataFrame, search: SearchSettings, settings: RunSettings
) -> Point | None:
    """The point with the highest expected score, smoothed over its neighbours; None where that is not known.

    Choices are those of the mode that does best when its point is chosen by the other lines; what only its trials vary
    is where its own landscape is highest.
    """
    space = distributions(search, settings)
    found: Point = {modes.key: modes.modes[0].value for modes in report.modes if modes.modes}
    chosen = {f"{key}={value}" for key, value in found.items()}
    for part in report.parts:
        if part.landscape is not None and (part.name == report.parts[0].name or part.name in chosen):
            found |= part.landscape.region.best
    wanted = [key for key in space if is_searched(key, found, conditions(search))]
    best = ranked(table)
    if found and set(wanted) - found.keys() and not best.empty:
        # What has too few points for a landscape of its own is taken from the best trial with these choices.
        chosen_keys = [modes.key for modes in report.modes if modes.modes]
        alike = best[[all(row[key] == found[key] for key in chosen_keys) for _, row in best.iterrows()]]
        if alike.empty:
            return None
        found = {key: alike.iloc[0][key] for key in wanted} | found
    return {key: _as_declared(space[key], found[key]) for key in wanted} if set(wanted) <= found.keys() else None


def point_of(row: pd.Series, search: SearchSettings, settings: RunSettings) -> Point:
    """The searched values of a trial's row, each as its setting has it."""
    point: Point = {}
    for key, own in distributions(search, settings).items():
        if is_searched(key, point, conditions(search)):
            point[key] = _as_declared(own, row[key])
    return point


def points_to_repeat(
    table: pd.DataFrame, search: SearchSettings, settings: RunSettings, lines: list[str]
) -> dict[str, Point]:
    """The points to try again, each once: none where no trial is complete. Those as they stand have nothing changed."""
    best = ranked(table)
    if best.empty:
        return {}
    found = {AS_THEY_STAND: {}, BEST: point_of(best.iloc[0], search, settings)}
    report = region_of(table[table["kind"] == DESIGN], search, settings, lines)
    point = recommended_point(report, table, search, settings)
    if point is not None and point not in found.values():
        found[RECOMMENDED] = point
    return found


def _as_declared(own: BaseDistribution, value: Any) -> Any:
    """`value` as the setting has it: a whole number, one of the choices, or a float."""
    if isinstance(own, IntDistribution):
        return round(value)
    return own.to_external_repr(own.to_internal_repr(value))
