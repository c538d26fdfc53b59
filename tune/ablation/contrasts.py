"""Paired differences between the runs of an ablation, with two intervals that answer two questions.

The t-interval over runs (fold x seed) says how a difference varies with line and seed: whether it will hold in another
line. The cluster bootstrap says how it varies with the pairs that happen to be in the test lines, with the draws of
`evaluation.intervals`, the same for both runs. A difference is read with the wider of the two. Runs of one test line
are not independent, so few lines with many seeds make the t-interval too narrow: the number of lines stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_pipeline.errors import UserError
from evaluation import average_precision, average_precision_draws, draw_clusters, interval, summarise_lines

Interval = tuple[float, float]
NO_INTERVAL: Interval = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Difference:
    """One paired difference of average precision."""

    line: str
    """Test line."""
    value: float
    """Difference on all pairs."""
    draws: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """(draws,) the difference in each bootstrap draw; empty where none were taken."""


@dataclass(frozen=True)
class Contrast:
    """Paired differences over runs."""

    mean: float
    """Mean over runs; NaN without a run."""
    over_runs: Interval
    """95% t-interval over runs; NaN below two."""
    bootstrap: Interval
    """95% cluster-bootstrap interval of the mean over lines."""
    lines: dict[str, tuple[float, float, float]]
    """Per test line the mean over its runs with its cluster-bootstrap interval."""
    runs: int
    """Differences it stands on."""


def contrast(differences: Sequence[Difference]) -> Contrast:
    """Summary of `differences`; those that are NaN are left out."""
    known = [item for item in differences if np.isfinite(item.value)]
    overall = summarise_lines([item.value for item in known], [item.line for item in known])
    values: dict[str, float] = {}
    draws: dict[str, NDArray[np.float64]] = {}
    for line in dict.fromkeys(item.line for item in known):
        own = [item for item in known if item.line == line]
        values[line] = float(np.mean([item.value for item in own]))
        draws[line] = np.mean([item.draws for item in own], axis=0)
    # Runs of one line share their draws, and so do lines with the same clusters: what they have in common varies once.
    together = np.mean(list(draws.values()), axis=0) if draws else np.empty(0)
    return Contrast(
        mean=overall.mean,
        over_runs=(overall.low, overall.high),
        bootstrap=_percentiles(together),
        lines={line: (value, *_percentiles(draws[line])) for line, value in values.items()},
        runs=len(known),
    )


def _percentiles(values: NDArray[np.float64]) -> Interval:
    finite = values[np.isfinite(values)]
    if values.size == 0 or 2 * finite.size <= values.size:
        return NO_INTERVAL
    low, high = np.quantile(finite, [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True)
class Judged:
    """One run's test pairs of one quadrant, with what the bootstrap says of the model and of U_I."""

    line: str
    """Test line."""
    rows: NDArray[np.int64]
    """(n,) pairs, to be sure that two runs are paired."""
    logits: NDArray[np.float64]
    """(n,)."""
    model: float
    """Average precision."""
    neutral: float
    """That of U_I alone."""
    model_draws: NDArray[np.float64]
    """(draws,) NaN throughout where there is one cluster only."""
    neutral_draws: NDArray[np.float64]
    """(draws,) likewise."""


def judged(group: pd.DataFrame, draws: int, seed: int = 0) -> Judged:
    """`group` has columns line, row, label, logit, u, cluster of one run and quadrant."""
    labels = group["label"].to_numpy(dtype=np.int8)
    logits, neutral = (group[name].to_numpy(dtype=np.float64) for name in ("logit", "u"))
    picked = draw_clusters(group["cluster"].to_numpy(), draws, seed)
    drawn = [average_precision_draws(labels, scores, picked) for scores in (logits, neutral)]
    if not np.isfinite(interval(drawn[0], picked)).all():
        drawn = [np.full(draws, np.nan)] * 2
    return Judged(
        line=str(group["line"].iloc[0]),
        rows=group["row"].to_numpy(dtype=np.int64),
        logits=logits,
        model=average_precision(labels, logits),
        neutral=average_precision(labels, neutral),
        model_draws=drawn[0],
        neutral_draws=drawn[1],
    )


def between(one: Judged, other: Judged, names: tuple[str, str]) -> Difference:
    """Average precision of run `one` minus that of `other` on the same pairs; raises `UserError` for other pairs."""
    if not np.array_equal(one.rows, other.rows):
        raise UserError(
            f"runs {names[0]} and {names[1]} were judged on different pairs and cannot be compared: their outcomes "
            "come from two versions of the program; delete both and resume"
        )
    return Difference(one.line, one.model - other.model, one.model_draws - other.model_draws)


def over_neutral(run: Judged) -> Difference:
    """Average precision of the model minus that of its own U_I."""
    return Difference(run.line, run.model - run.neutral, run.model_draws - run.neutral_draws)
