"""The finished points of a search as arrays: where each lies in the box, and its score in every cell (line x seed).

Only complete trials of the design with a score in every cell enter. A stopped trial has a mean over fewer lines, and
a confirming trial was chosen because its point won: both would bend a region. All points share lines and seeds (common
random numbers), so differences between points are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from data_pipeline.errors import UserError

Floats = NDArray[np.float64]
Point = dict[str, Any]
"""Value per searched key that is active at the point."""
DESIGN, CONFIRM = "design", "confirm"
"""Roles of a trial: a point of the design, or a point of it run again with fresh seeds."""


@dataclass(frozen=True)
class Failure:
    """A point that could not be trained."""

    number: int
    """Trial."""
    point: Point
    """Its settings."""
    reason: str
    """Why it failed."""


@dataclass(frozen=True)
class Design:
    """N complete points with D numeric axes, F validation lines and S training seeds."""

    space: dict[str, BaseDistribution]
    """Range per searched key, categorical ones among them."""
    points: Floats
    """(N, D) position in [0, 1] on each numeric axis, log axes in the logarithm; NaN where an axis is not active."""
    scores: Floats
    """(N, F, S) score per cell."""
    folds: list[str]
    """F validation lines."""
    seeds: list[int]
    """S training seeds."""
    numbers: list[int]
    """N trial numbers."""
    choices: dict[str, list[Any]] = field(default_factory=dict)
    """Per categorical axis its N values."""
    activity: dict[str, Floats] = field(default_factory=dict)
    """(N,) per loss term its median share of gradient, lambda_k |G_k| / |G_0|."""
    cost: Floats | None = None
    """(N,) seconds per training step; None where the table does not say."""
    failed: list[Failure] = field(default_factory=list)
    """Points that could not be trained."""

    @property
    def axes(self) -> list[str]:
        """D numeric keys, in the order of the columns of `points`."""
        return numeric_axes(self.space)

    @property
    def macro(self) -> Floats:
        """(N,) mean score over the cells."""
        return self.scores.mean(axis=(1, 2))

    def part(self, rows: NDArray[np.bool_], axes: Sequence[str]) -> Design:
        """The points `rows` (N,) bool on the numeric `axes` alone."""
        taken = np.flatnonzero(rows)
        columns = [self.axes.index(key) for key in axes]
        return replace(
            self,
            space={key: self.space[key] for key in axes},
            points=self.points[taken][:, columns],
            scores=self.scores[taken],
            numbers=[self.numbers[at] for at in taken],
            choices={},
            activity={name: values[taken] for name, values in self.activity.items()},
            cost=None if self.cost is None else self.cost[taken],
        )


def numeric_axes(space: dict[str, BaseDistribution]) -> list[str]:
    """Keys of `space` that have a low and a high end, in its order."""
    return [key for key, own in space.items() if not isinstance(own, CategoricalDistribution)]


def cell_name(line: str, seed: int) -> str:
    """Column of the score on validation line `line` under training seed `seed`."""
    return f"score/{line}@{seed}"


def cell_scores(rows: pd.DataFrame, folds: Sequence[str], seeds: Sequence[int]) -> Floats:
    """(N, F, S) scores of the rows; NaN where the table has none."""
    names = [cell_name(line, seed) for line in folds for seed in seeds]
    return rows.reindex(columns=names).to_numpy(dtype=np.float64).reshape(len(rows), len(folds), len(seeds))


def design_of(
    table: pd.DataFrame, space: dict[str, BaseDistribution], folds: Sequence[str], seeds: Sequence[int]
) -> Design:
    """The design in a table of trials.

    Columns: `number`, `state` (complete, stopped, failed, running), one per searched key (NaN or None where it is not
    active), `score/LINE@SEED` per cell, and where known `role` (design or confirm), `reason`, `share/TERM`,
    `seconds_per_step`. Raises `UserError` without lines, seeds or axes, and for a missing key.
    """
    if not (folds and seeds and space):
        raise UserError("a region needs at least one validation line, one training seed and one searched setting")
    if missing := sorted(set(space) - set(table.columns)) if len(table) else []:
        raise UserError(f"the table of trials has no column '{missing[0]}', which the search varied")
    role = table["role"] if "role" in table else pd.Series(DESIGN, index=table.index)
    state = table["state"] if "state" in table else pd.Series("", index=table.index)
    chosen = table[(state == "complete") & (role == DESIGN)]
    chosen = chosen[np.isfinite(cell_scores(chosen, folds, seeds)).all(axis=(1, 2))]
    scores = cell_scores(chosen, folds, seeds)
    order = _order_of_lines(scores)
    axes = numeric_axes(space)
    shares = [name for name in table.columns if str(name).startswith("share/")]
    return Design(
        space=dict(space),
        points=np.array([[unit_of(space[key], row[key]) for key in axes] for _, row in chosen.iterrows()]).reshape(
            len(chosen), len(axes)
        ),
        scores=scores[:, order],
        folds=[folds[at] for at in order],
        seeds=list(seeds),
        numbers=[int(number) for number in chosen.get("number", [])],
        choices={key: list(chosen[key]) for key in space if key not in axes} if len(chosen) else {},
        activity={name.removeprefix("share/"): chosen[name].to_numpy(dtype=np.float64) for name in shares},
        cost=chosen["seconds_per_step"].to_numpy(dtype=np.float64) if "seconds_per_step" in chosen else None,
        failed=[
            Failure(int(row["number"]), point_of(row, space), str(row.get("reason", "")))
            for _, row in table[state == "failed"].iterrows()
        ],
    )


def _order_of_lines(scores: Floats) -> NDArray[np.int64]:
    """Order of the lines by what they scored, so that not even the rounding of a sum depends on their names."""
    if not len(scores):
        return np.arange(scores.shape[1])
    return np.lexsort(scores.transpose(0, 2, 1).reshape(-1, scores.shape[1])[::-1])


def point_of(row: pd.Series, space: dict[str, BaseDistribution]) -> Point:
    """The active settings of one row of the table."""
    return {key: row[key] for key in space if key in row and not pd.isna(row[key])}


def unit_of(distribution: BaseDistribution, value: Any) -> float:
    """Position of `value` on its axis, 0 at the low end and 1 at the high one; NaN where there is no value."""
    if value is None or pd.isna(value):
        return float("nan")
    low, high, log = ends(distribution)
    if log and value <= 0:
        return float("-inf")
    return float((np.log(value / low) / np.log(high / low)) if log else (value - low) / (high - low))


def value_of(distribution: BaseDistribution, at: float) -> float:
    """Value at position `at` in [0, 1]; of an integer axis the nearest whole number."""
    low, high, log = ends(distribution)
    value = low * (high / low) ** at if log else low + (high - low) * at
    value = min(max(value, low), high)
    return float(round(value)) if isinstance(distribution, IntDistribution) else float(value)


def ends(distribution: BaseDistribution) -> tuple[float, float, bool]:
    """Low end, high end, and whether the axis is logarithmic."""
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        raise TypeError(f"no ends known of {distribution}")
    return float(distribution.low), float(distribution.high), bool(distribution.log)
