"""Which settings move the score: Sobol indices over the whole box, PED-ANOVA inside the region.

S1 of an axis is the share of the score's variance that it explains alone, ST the share that would go if it were known
last, S2 what a pair has beyond both (Sobol 2001; Saltelli et al. 2010; SALib's design and estimators). They are read
off the surrogate: the value off its posterior mean, the interval off functions drawn from its posterior, each with an
analysis of its own, so that it holds what the surrogate does not know and the Monte-Carlo error alike, widened by a
jackknife over lines. PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255; Optuna's) says what tells
good points of the region from its others; it needs no surrogate and knows no interactions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.importance import PedAnovaImportanceEvaluator
from SALib.analyze import sobol as analysis
from SALib.sample import sobol as sampling

from tune.region.design import Design, value_of
from tune.region.estimates import Estimate, estimate, over_lines
from tune.region.surrogate import Surrogate

Floats = NDArray[np.float64]
SAMPLE = 256
"""Base points of the Saltelli design; it has 2 D + 2 times as many."""
FEWEST_ABOVE = 5
"""Points that PED-ANOVA needs among the good ones (Optuna's documentation)."""
NOTHING = 1e-12
"""Variance, as a share of the squared range, below which a response is constant."""


@dataclass(frozen=True)
class Indices:
    """Sobol indices of one response over D axes."""

    first: Floats
    """(D,) S1."""
    total: Floats
    """(D,) ST."""
    pairs: Floats
    """(D, D) S2 above the diagonal, NaN elsewhere."""


@dataclass(frozen=True)
class AxisSensitivity:
    """How one setting moves the score."""

    key: str
    """Setting."""
    first: Estimate
    """S1: share of the variance it explains alone."""
    total: Estimate
    """ST: share that it has a part in."""


@dataclass(frozen=True)
class PairSensitivity:
    """What two settings do together beyond what each does alone."""

    one: str
    """Setting."""
    other: str
    """Setting."""
    second: Estimate
    """S2."""


@dataclass(frozen=True)
class Sensitivity:
    """Sobol indices and PED-ANOVA; empty with a reason where there is nothing to tell."""

    axes: list[AxisSensitivity]
    """One per axis, largest ST first."""
    pairs: list[PairSensitivity]
    """All pairs, largest S2 first."""
    reason: str
    """Why there are no indices; empty where there are."""
    inside: dict[str, float] | None
    """PED-ANOVA inside the region, shares that add up to 1; None where points are too few."""
    inside_reason: str
    """Why there is no PED-ANOVA; empty where there is."""


def sobol_indices(
    response: Callable[[Floats], Floats], axes: int, sample: int = SAMPLE, seed: int = 0
) -> list[Indices]:
    """Indices of each response over the unit box, by Saltelli's design on a scrambled Sobol sequence.

    `response` takes positions (M, axes) and returns (M,) for one response or (J, M) for J of them. `sample` is a power
    of two. A response without variance has NaN indices.
    """
    problem = {"num_vars": axes, "names": [f"x{at}" for at in range(axes)], "bounds": [[0.0, 1.0]] * axes}
    at = sampling.sample(problem, sample, calc_second_order=True, scramble=True, seed=seed)
    return [_indices(problem, own, seed) for own in np.atleast_2d(response(at))]


def _indices(problem: dict[str, object], values: Floats, seed: int) -> Indices:
    axes = int(str(problem["num_vars"]))
    if values.var() <= NOTHING * max(np.abs(values).max() ** 2, NOTHING):
        nothing = np.full(axes, np.nan)
        return Indices(nothing, nothing, np.full((axes, axes), np.nan))
    # SALib's own intervals see the Monte-Carlo error alone; they are not read, hence two resamples. Its seed 0 is none.
    found = analysis.analyze(problem, values, calc_second_order=True, num_resamples=2, seed=seed + 1)
    return Indices(found["S1"], found["ST"], found["S2"])


def sensitivity(design: Design, surrogate: Surrogate, inside: NDArray[np.bool_], seed: int = 0) -> Sensitivity:
    """Indices of the surrogate, and PED-ANOVA where `inside` (N,) bool says which design points lie in the region."""
    importance, why = ped_anova(design, int(inside.sum()))
    axes = len(design.axes)
    if not surrogate.drawn:
        return Sensitivity(
            [], [], "the response is exactly flat, so there is no variance to share out", importance, why
        )
    (found,) = sobol_indices(surrogate.mean, axes, SAMPLE, seed)
    drawn = sobol_indices(surrogate.draws, axes, SAMPLE // 2, seed)
    without = sobol_indices(surrogate.without_each_line, axes, SAMPLE, seed)

    def own(name: str, *at: int) -> Estimate:
        values = [np.array([getattr(each, name)[at] for each in some]) for some in (drawn, without)]
        return over_lines(estimate(float(getattr(found, name)[at]), values[0]), values[1])

    rows = [AxisSensitivity(key, own("first", at), own("total", at)) for at, key in enumerate(design.axes)]
    both = [
        PairSensitivity(design.axes[one], design.axes[two], own("pairs", one, two))
        for one, two in combinations(range(axes), 2)
    ]
    rows.sort(key=lambda row: -np.nan_to_num(row.total.value))
    both.sort(key=lambda pair: -np.nan_to_num(pair.second.value))
    return Sensitivity(rows, both, "", importance, why)


def ped_anova(design: Design, inside: int) -> tuple[dict[str, float] | None, str]:
    """Importance per setting among the best `inside` points for being in their better half; None and why not."""
    if inside < 2 * FEWEST_ABOVE:
        return None, f"{inside} points lie in the region; PED-ANOVA needs {2 * FEWEST_ABOVE}"
    if np.ptp(design.macro) == 0:
        return None, "all points score the same, so none is better"
    share = inside / len(design.points)
    evaluator = PedAnovaImportanceEvaluator(target_quantile=share / 2, region_quantile=share, evaluate_on_local=True)
    found = evaluator.evaluate(_study(design))
    whole = sum(found.values())
    if whole <= 0:
        return None, "no setting tells the better half of the region from the rest"
    return {key: float(value / whole) for key, value in found.items()}, ""


def _study(design: Design) -> optuna.Study:
    """The numeric part of the design as Optuna takes it."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    optuna.logging.set_verbosity(verbosity)
    space = {key: design.space[key] for key in design.axes}
    for at, score in zip(design.points, design.macro, strict=True):
        values = {key: value_of(own, float(x)) for (key, own), x in zip(space.items(), at, strict=True)}
        study.add_trial(optuna.create_trial(params=values, distributions=space, value=float(score)))
    return study
