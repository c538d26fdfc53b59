"""Noise of training: what two points must differ by to be told apart, and how lucky the winner was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student_t

from tune.region.design import CONFIRM, Design, Floats, Point, cell_scores, point_of, unit_of
from tune.region.estimates import Estimate
from tune.region.variation import PointNoise, point_noise, tolerance_of


@dataclass(frozen=True)
class Confirmation:
    """One point of the search, run again with fresh seeds."""

    number: int
    """First trial that ran it again."""
    seeds: int
    """Fresh seeds with a score on every line."""
    search: float
    """Its macro score in the search; what the surrogate expected where the point was not in the design."""
    again: float
    """Mean macro score over fresh seeds."""
    optimism: Estimate
    """Search score minus that of fresh seeds, with a t-interval from the noise of both."""


@dataclass(frozen=True)
class NoiseFloor:
    """What training noise alone does."""

    sd: float
    """Standard deviation of a macro score over training seeds, of one seed each; NaN where nothing was repeated."""
    freedom: int
    """Degrees of freedom it stands on."""
    paired: float
    """Smallest difference between two points that their noise does not explain, on the same lines and seeds."""
    paired_lines: float
    """Smallest that the lines' disagreement does not explain: what another line could undo; NaN with one line."""
    confirmations: list[Confirmation]
    """Points that were run again."""
    reason: str
    """What is not known, and why; empty where all is."""


def noise_floor(design: Design, table: pd.DataFrame, expected: Callable[[Point], float]) -> NoiseFloor:
    """The floor from the design's own seeds and the trials of role `confirm` in `table`.

    `expected` tells the surrogate's score of a point that is not in the design; NaN where it cannot.
    """
    own = point_noise(design.scores) if len(design.points) else PointNoise(float("nan"), 0)
    groups = _repeats(design, table)
    squares = sum(float(((scores - scores.mean()) ** 2).sum()) for _, _, scores in groups)
    freedom = sum(len(scores) - 1 for _, _, scores in groups)
    seeds = len(design.seeds)
    repeated = np.sqrt(squares / freedom) if freedom else float("nan")
    # A single point's seeds also vary by what a seed does to all points, which is no noise between points.
    sd, known = (repeated, freedom) if freedom else (own.sd * np.sqrt(seeds), own.freedom)
    between, degrees = (own.sd, own.freedom) if own.freedom else (repeated / np.sqrt(seeds), freedom)
    lines = len(design.folds)
    tolerance = tolerance_of(design.scores) if lines > 1 else float("nan")
    return NoiseFloor(
        sd=float(sd),
        freedom=int(known),
        paired=_twice(between, degrees),
        paired_lines=_twice(tolerance, lines - 1),
        confirmations=[_confirmation(design, *group, expected, float(sd), int(known)) for group in groups],
        reason="" if known else "no point was run with two seeds, so the noise of training is not known",
    )


def _twice(error: float, freedom: int) -> float:
    """Difference of two scores, each with standard error `error`, at which a 95% interval leaves out 0."""
    return float(student_t.ppf(0.975, freedom) * np.sqrt(2.0) * error) if freedom > 0 else float("nan")


def _repeats(design: Design, table: pd.DataFrame) -> list[tuple[int, Point, Floats]]:
    """Trial, point and (R,) macro scores of fresh seeds, per point that was run again."""
    if "role" not in table:
        return []
    rows = table[(table["role"] == CONFIRM) & (table["state"] == "complete")]
    named = {
        str(name).rpartition("@")[2] for name in table.columns if str(name).startswith("score/") and "@" in str(name)
    }
    fresh = sorted({int(seed) for seed in named if seed.lstrip("-").isdigit()} - set(design.seeds))
    found: dict[str, tuple[int, Point, list[float]]] = {}
    for (_, row), scores in zip(rows.iterrows(), cell_scores(rows, design.folds, fresh), strict=True):
        point = point_of(row, design.space)
        _, _, kept = found.setdefault(repr(sorted(point.items())), (int(row["number"]), point, []))
        macro = scores.mean(axis=0)
        kept += [float(score) for score in macro[np.isfinite(macro)]]
    return [(number, point, np.array(scores)) for number, point, scores in found.values() if scores]


def _confirmation(
    design: Design,
    number: int,
    point: Point,
    scores: Floats,
    expected: Callable[[Point], float],
    sd: float,
    freedom: int,
) -> Confirmation:
    same = _rows_at(design, point)
    search = float(design.macro[same].mean()) if same.any() else expected(point)
    lead = search - float(scores.mean())
    error = sd * np.sqrt(1 / len(design.seeds) + 1 / len(scores))
    half = float(student_t.ppf(0.975, freedom) * error) if freedom else float("nan")
    return Confirmation(number, len(scores), search, float(scores.mean()), Estimate(lead, lead - half, lead + half))


def _rows_at(design: Design, point: Point) -> NDArray[np.bool_]:
    """(N,) whether each point of the design is `point`."""
    at = [unit_of(design.space[key], point.get(key)) for key in design.axes]
    rows = np.isclose(design.points, at, rtol=0.0, atol=1e-9, equal_nan=True).all(axis=1)
    for key, values in design.choices.items():
        rows &= np.array([value == point.get(key) for value in values], dtype=np.bool_)
    return np.asarray(rows, dtype=np.bool_)
