"""Everything that the table of a search says about its settings, as one tree of plain values.

`analyse` reads the table; `report.to_dict()` is JSON. Settings varied in every trial make one landscape. Under a
categorical setting (the mode of balancing) the numeric settings that only some of its values have make a landscape per
value, and the values are compared with each other. Whatever has too few points says so in place of numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from optuna.distributions import BaseDistribution

from tune.region.curves import MainEffect, ZoneComparison, compare_zones, main_effects
from tune.region.design import Design, Failure, Point, design_of, unit_of
from tune.region.estimates import Estimate, estimate
from tune.region.modes import Modes, compare_modes
from tune.region.noise import NoiseFloor, noise_floor
from tune.region.region import Places, Region, find_region, places_of, rows_inside
from tune.region.sensitivity import Sensitivity, sensitivity
from tune.region.surrogate import Surrogate, fit_surrogate

UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"))
FEWEST = 8
"""Points below which nothing is fitted; 2 D + 2 where that is more (algorithms.md 11 asks for 8 D)."""


@dataclass(frozen=True)
class Quality:
    """Whether the surrogate can be believed."""

    points: int
    """Complete points it stands on."""
    r2: float
    """Leave-one-out R2 of the macro score; near or below 0 it knows no more than the mean. NaN: exactly flat."""
    ranks: float
    """Leave-one-out rank correlation."""
    noise: float
    """Standard deviation of a point's macro score from training noise."""
    line_spread: float
    """Standard deviation of what a line does otherwise than the others, noise included."""


@dataclass(frozen=True)
class BestTrial:
    """The point with the highest score against the recommended one."""

    number: int
    """Trial."""
    score: float
    """Its macro score as measured; lucky, as the highest of many."""
    expected: float
    """Its score by the surrogate."""
    recommended: Estimate
    """Expected score of the recommended setting on lines as hard as those of the search."""
    lead: Estimate
    """Recommended minus best trial, by the surrogate."""


@dataclass(frozen=True)
class Landscape:
    """What is known of some numeric settings."""

    region: Region
    effects: list[MainEffect]
    zones: list[ZoneComparison]
    sensitivity: Sensitivity
    quality: Quality
    best_trial: BestTrial
    gain: Estimate
    """Expected score of the recommended setting minus that of the default; NaN where that is not known."""
    gain_reason: str
    """Why the gain is not known; empty where it is."""


@dataclass(frozen=True)
class Part:
    """One landscape, or the reason why there is none."""

    name: str
    """`all trials`, or `KEY=VALUE` of the categorical setting whose trials these are."""
    axes: list[str]
    """Numeric settings."""
    trials: list[int]
    """Complete trials it stands on."""
    points: list[list[float]]
    """Position of each in [0, 1] per axis."""
    scores: list[float]
    """Macro score of each."""
    landscape: Landscape | None
    reason: str
    """Why there is none; empty where there is."""


@dataclass(frozen=True)
class RegionReport:
    """The answer of a search."""

    folds: list[str]
    """Validation lines."""
    seeds: list[int]
    """Training seeds of the design."""
    counts: dict[str, int]
    """Trials of the design per state, and `used`, the complete ones with a score in every cell."""
    parts: list[Part]
    """Landscapes; the settings of all trials first."""
    modes: list[Modes]
    """Per categorical setting its values against each other."""
    noise: NoiseFloor
    """What training noise alone does."""
    failed: list[Failure]
    """Points that could not be trained."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None where a number is not known."""
        found: dict[str, Any] = _plain(asdict(self))
        return found


def analyse(
    table: pd.DataFrame,
    space: dict[str, BaseDistribution],
    folds: Sequence[str],
    seeds: Sequence[int],
    base: Mapping[str, Any],
    seed: int = 0,
) -> RegionReport:
    """The report of a table of trials (columns: `design.design_of`) over `space`; `base` holds the default per key.

    Deterministic in `seed`. Raises `UserError` where table and space do not belong together.
    """
    design = design_of(table, space, folds, seeds)
    found = [_part(name, own, base, seed) for name, own in _parts(design)]
    models = [(own, part[1]) for (_, own), part in zip(_parts(design), found, strict=True)]
    parts = [part for part, _ in found]

    def expected(point: Point) -> float:
        for own, model in models:
            at = [unit_of(own.space[key], point.get(key)) for key in own.axes]
            if model is not None and np.isfinite(at).all():
                return float(model.mean(np.array([at]))[0])
        return float("nan")

    states = table["state"].value_counts() if len(table) else pd.Series(dtype=int)
    return RegionReport(
        folds=list(folds),
        seeds=list(seeds),
        counts={**{str(state): int(count) for state, count in states.items()}, "used": len(design.numbers)},
        parts=parts,
        modes=[compare_modes(design, key) for key in space if key not in design.axes],
        noise=noise_floor(design, table, expected),
        failed=design.failed,
    )


def _parts(design: Design) -> list[tuple[str, Design]]:
    """The settings of all points, and per value of a categorical setting those that only its points have."""
    everywhere = [key for at, key in enumerate(design.axes) if np.isfinite(design.points[:, at]).all()]
    rows = np.ones(len(design.points), dtype=np.bool_)
    found = []
    if everywhere or not design.choices:
        found.append(("all trials", _levelled(design, everywhere).part(rows, everywhere)))
    for key, values in design.choices.items():
        for value in dict.fromkeys(values):
            own = np.array([each == value for each in values])
            axes = [name for at, name in enumerate(design.axes) if np.isfinite(design.points[own, at]).all()]
            if set(axes) - set(everywhere):
                found.append((f"{key}={value}", design.part(own, axes)))
    return found


def _levelled(design: Design, axes: list[str]) -> Design:
    """Scores without what the categorical settings do on average beside the numeric `axes`.

    Per cell a least-squares fit of a parabola in each axis and a level per combination of values, of which the levels
    are taken away: the plain means of the combinations would take part of the numeric settings' effect with them.
    """
    if not design.choices:
        return design
    levels = pd.get_dummies(pd.Series(list(zip(*design.choices.values(), strict=True))).map(repr)).to_numpy(np.float64)
    levels = levels - levels.mean(axis=0)
    points = design.points[:, [design.axes.index(key) for key in axes]]
    columns = np.hstack([np.ones((len(points), 1)), points, points**2, levels])
    flat = design.scores.reshape(len(points), -1)
    weights = np.linalg.lstsq(columns, flat, rcond=None)[0][-levels.shape[1] :]
    return replace(design, scores=(flat - levels @ weights).reshape(design.scores.shape))


def _part(name: str, design: Design, base: Mapping[str, Any], seed: int) -> tuple[Part, Surrogate | None]:
    count, needed = len(design.points), max(FEWEST, 2 * len(design.axes) + 2)
    reason = ""
    if not design.axes:
        reason = "no numeric setting was varied, so there is no region"
    elif count < needed:
        reason = f"not enough complete trials: {count}, and {len(design.axes)} settings need {needed} at least"
    model = None if reason else fit_surrogate(design, seed)
    found = None if model is None else _landscape(design, model, base, seed)
    scores = [float(score) for score in design.macro] if count else []
    return Part(name, design.axes, design.numbers, design.points.tolist(), scores, found, reason), model


def _landscape(design: Design, surrogate: Surrogate, base: Mapping[str, Any], seed: int) -> Landscape:
    places = places_of(surrogate, seed)
    region = find_region(design, surrogate, places)
    gain, why = _gain(design, surrogate, places, base)
    return Landscape(
        region=region,
        effects=main_effects(design, surrogate, seed),
        zones=compare_zones(design, surrogate, seed),
        sensitivity=sensitivity(design, surrogate, rows_inside(region), seed),
        quality=Quality(len(design.points), surrogate.r2, surrogate.ranks, surrogate.noise, surrogate.line_spread),
        best_trial=_best_trial(design, surrogate, places),
        gain=gain,
        gain_reason=why,
    )


def _best_trial(design: Design, surrogate: Surrogate, places: Places) -> BestTrial:
    first = int(design.macro.argmax())
    at = np.vstack([places.best, design.points[first]])
    mean, draws = surrogate.mean(at), surrogate.draws(at)
    # On the lines of the search: how hard other lines are is another question than how good a setting is.
    levels = surrogate.draws(design.points).mean(axis=1) - surrogate.centre
    return BestTrial(
        number=design.numbers[first],
        score=float(design.macro[first]),
        expected=float(mean[1]),
        recommended=estimate(float(mean[0]), draws[:, 0] - levels),
        lead=estimate(float(mean[0] - mean[1]), draws[:, 0] - draws[:, 1]),
    )


def _gain(design: Design, surrogate: Surrogate, places: Places, base: Mapping[str, Any]) -> tuple[Estimate, str]:
    if missing := [key for key in design.axes if base.get(key) is None]:
        return UNKNOWN, f"the default of {missing[0]} is not known"
    at = np.array([unit_of(design.space[key], base[key]) for key in design.axes])
    if outside := [key for key, x in zip(design.axes, at, strict=True) if not -1e-9 <= x <= 1 + 1e-9]:
        return UNKNOWN, f"the default of {outside[0]}, {base[outside[0]]}, lies outside the range that was searched"
    both = np.vstack([places.best, at])
    mean, draws = surrogate.mean(both), surrogate.draws(both)
    return estimate(float(mean[0] - mean[1]), draws[:, 0] - draws[:, 1]), ""


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(own) for own in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
