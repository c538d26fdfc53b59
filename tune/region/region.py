"""The region: settings that cannot be said, by one standard error, to lose more than the tolerance against the best.

The tolerance is one paired standard error of a point's macro score over lines (`variation.tolerance_of`): offsets of
lines cancel, all points add to it, and it is one number to be said beside the region. With m the posterior of
`surrogate.py`, x* the argmax of its mean and d(x) = m(x*) - m(x), the region is

    S = {x : E[d(x)] - tolerance <= sd[d(x)]}

where sd holds the disagreement of lines, the noise of training and what the surrogate does not know: the paired one-SE
rule on smooth functions. For a normal posterior it is P(m(x) >= m(x*) - tolerance) >= .16. The interval of its volume
goes from the points that surely lie within the tolerance (by 2.58 sd) to those that do not surely lie outside. The
intervals of bounds come from functions drawn from the posterior, each with its own region at the same tolerance below
its height at x*: 95% of the draws lie inside all of them at a time.

Three deviations from algorithms.md 11, measured by bench/region_recovery.py on responses that are known:
- The rule of each point by its own lines, mean_f d_f <= sd_f(d) / sqrt(F), is reported as `raw_share` and not used. It
  asks a t statistic of F - 1 degrees of freedom to be below 1, whatever the size of d, so that a flat response loses
  a fifth of its points and more, because the best point is also the luckiest.
- S_.5 = {pi >= 1/2} is reported as `half_volume` and not used. The height of x* is an estimate chosen for being high,
  by about as much as the surrogate errs; without room for that error S_.5 has a fraction of the true volume.
- max f inside pi is the maximum of every draw, which rises further with what is not known; it is `strict_volume`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm, qmc

from tune.region.design import Design, Floats, value_of
from tune.region.estimates import CONFIDENCE, Estimate, together
from tune.region.surrogate import Surrogate
from tune.region.variation import tolerance_of

SAMPLE, GRID, RIVALS, ROUNDS = 1024, 41, 24, 3
"""Positions for volumes, for a curve along an axis, kept others of a profile, and rounds of the search for x*."""
SURE = float(norm.ppf(0.995))
"""Standard errors beyond which a position's side of the tolerance is sure: 99%, because neighbours err together."""
ROUNDING = 1e-12
"""A difference this small, in score, is none."""


@dataclass(frozen=True)
class Bounds:
    """Both ends of an interval on one axis, in the unit of the setting, each with its own interval."""

    low: Estimate
    high: Estimate


@dataclass(frozen=True)
class AxisRegion:
    """The region along one axis."""

    key: str
    """Setting."""
    box: tuple[float, float]
    """Ends that were searched."""
    log: bool
    """Whether the axis is logarithmic."""
    projection: Bounds
    """Values that lie in the region with some values of the others."""
    conditional: Bounds
    """Values that lie in the region with the others at the best point."""


@dataclass(frozen=True)
class Region:
    """The settings within one paired standard error of the best."""

    tolerance: float
    """One paired standard error of a macro score."""
    best: dict[str, float]
    """Recommended value per axis: the highest posterior mean."""
    volume: Estimate
    """Share of the box (in logarithms where axes are) that lies in the region."""
    axes: list[AxisRegion]
    """One per axis."""
    raw_share: Estimate
    """Share of the design's points that pass the one-SE rule by their own spread over lines; NaN below two lines."""
    half_volume: float
    """Share of the box within the tolerance of the best point with probability 1/2 or more."""
    strict_volume: float
    """The same against the maximum of each draw."""
    probability: list[float]
    """Per point of the design the probability of lying within the tolerance of the best point."""
    inside: list[bool]
    """Per point of the design whether it lies in the region."""
    worst_line: str
    """Line with the lowest score at the best point."""
    worst_at_best: float
    """Its expected score there."""
    worst_inside: float
    """Lowest expected score of any line anywhere in the region."""


@dataclass(frozen=True)
class Places:
    """Where the surrogate is asked."""

    best: Floats
    """(D,) x*."""
    sample: Floats
    """(SAMPLE, D) even over the box."""
    profiles: Floats
    """(D, GRID, D) per axis and value of it the best others."""
    lines: Floats
    """(D, GRID, D) per axis and value of it, the others at x*."""


def places_of(surrogate: Surrogate, seed: int) -> Places:
    """The best point, an even sample and the ridges along each axis."""
    axes = surrogate.points.shape[1]
    sample = qmc.Sobol(axes, scramble=True, rng=seed).random(SAMPLE)
    known = np.vstack([sample, surrogate.points])
    heights = surrogate.mean(known)
    best = known[int(heights.argmax())]
    for _ in range(ROUNDS):
        for axis in range(axes):
            along = _along(best[None], axis)[:, 0]
            best = along[int(surrogate.mean(along).argmax())]
    rivals = np.vstack([best, known[np.argsort(-heights, kind="stable")[:RIVALS]]])
    profiles = []
    for axis in range(axes):
        own = _along(rivals, axis)
        top = surrogate.mean(own.reshape(-1, axes)).reshape(GRID, -1).argmax(axis=1)
        profiles.append(own[np.arange(GRID), top])
    lines = [_along(best[None], axis)[:, 0] for axis in range(axes)]
    return Places(best, sample, np.array(profiles), np.array(lines))


def find_region(design: Design, surrogate: Surrogate, places: Places) -> Region:
    """The region with its intervals."""
    axes = len(design.axes)
    tolerance = tolerance_of(design.scores)
    if not np.isfinite(tolerance):
        # One line, one seed: the surrogate's own noise is all there is.
        tolerance = surrogate.noise
    at = np.vstack([places.best, *places.profiles.reshape(-1, axes), *places.lines.reshape(-1, axes)])
    behind, gaps = _behind(surrogate, places, at[1:], tolerance)
    shape = (-1, 2 * axes, GRID)
    bounds = together(_ends(behind.gap().reshape(shape))[0], _ends(gaps.reshape(shape)))
    sample, drawn = _behind(surrogate, places, places.sample, tolerance)
    points, own = _behind(surrogate, places, design.points, tolerance)
    inside = sample.gap() <= 0
    # How much higher than at x* each draw is at its own best.
    rise = -np.minimum(gaps.min(axis=1), drawn.min(axis=1)) - tolerance
    worst = surrogate.lines(np.vstack([places.best, places.sample[inside]]))
    return Region(
        tolerance=tolerance,
        best={key: value_of(design.space[key], x) for key, x in zip(design.axes, places.best, strict=True)},
        volume=Estimate(*(float((sample.gap(errors) <= 0).mean()) for errors in (1.0, -SURE, SURE))),
        axes=[_axis(design, at, bounds) for at in range(axes)],
        raw_share=_raw_share(design, surrogate),
        half_volume=float((sample.gap(0.0) <= 0).mean()),
        strict_volume=float(((drawn + np.maximum(rise, 0.0)[:, None] <= 0).mean(axis=0) >= 0.5).mean()),
        probability=[float(p) for p in (own <= 0).mean(axis=0)],
        inside=[bool(gap <= 0) for gap in points.gap()],
        worst_line=design.folds[int(worst[0].argmin())],
        worst_at_best=float(worst[0].min()),
        worst_inside=float(worst.min()),
    )


@dataclass(frozen=True)
class Behind:
    """How far positions are behind the best one, beyond the tolerance."""

    mean: Floats
    """(M,) E[d] - tolerance."""
    sd: Floats
    """(M,) sd[d]."""

    def gap(self, errors: float = 1.0) -> Floats:
        """(M,) at or below 0 where a position is not behind by so many standard errors."""
        return self.mean - errors * self.sd


def _behind(surrogate: Surrogate, places: Places, at: Floats, tolerance: float) -> tuple[Behind, Floats]:
    """Positions `at` (M, D), and the same for each drawn function (J, M)."""
    every = np.vstack([places.best, at])
    # Equal scores differ in the last bit, and a tolerance of 0 must still hold them.
    allowed = tolerance + ROUNDING
    mean, draws = surrogate.mean(every), surrogate.draws(every)
    apart = draws[:, :1] - draws[:, 1:]
    return Behind(mean[0] - mean[1:] - allowed, apart.std(axis=0)), apart - allowed


def _along(others: Floats, axis: int) -> Floats:
    """(GRID, M, D): the positions `others` (M, D) with `axis` moved over its whole range."""
    own = np.repeat(others[None], GRID, axis=0)
    own[:, :, axis] = np.linspace(0.0, 1.0, GRID)[:, None]
    return own


def _ends(gaps: Floats) -> Floats:
    """(J, 2 A) first and last position at which each curve of `gaps` (J, A, GRID) is at or below 0, interpolated."""
    found = [_crossing(gaps), 1.0 - _crossing(gaps[..., ::-1])]
    return np.stack(found, axis=-1).reshape(len(gaps), -1)


def _crossing(gaps: Floats) -> Floats:
    first = (gaps <= 0).argmax(axis=-1)
    before = np.maximum(first - 1, 0)
    here, there = (np.take_along_axis(gaps, own[..., None], -1)[..., 0] for own in (first, before))
    # A curve that never reaches 0 belongs to a draw whose region misses this axis' ridge: it is nearest at its lowest.
    missed = (gaps > 0).all(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        back = np.where(first > before, here / (here - there), 0.0)
    return np.where(missed, gaps.argmin(axis=-1), first - back) / (GRID - 1)


def _axis(design: Design, at: int, bounds: list[Estimate]) -> AxisRegion:
    own = design.space[design.axes[at]]

    def natural(which: int) -> Bounds:
        found = [
            Estimate(*(value_of(own, x) for x in (end.value, end.low, end.high)))
            for end in bounds[2 * which : 2 * which + 2]
        ]
        return Bounds(*found)

    low, high = value_of(own, 0.0), value_of(own, 1.0)
    return AxisRegion(
        key=design.axes[at],
        box=(low, high),
        log=bool(getattr(own, "log", False)),
        projection=natural(at),
        conditional=natural(len(design.axes) + at),
    )


def _raw_share(design: Design, surrogate: Surrogate) -> Estimate:
    """The one-SE rule of algorithms.md 11 on the points themselves, with Wilson's interval for the share of the box."""
    scores = design.scores.mean(axis=2)
    count, lines = scores.shape
    if lines < 2:
        return Estimate(float("nan"), float("nan"), float("nan"))
    behind = scores[int(surrogate.mean(design.points).argmax())] - scores
    errors = behind.std(axis=1, ddof=1) / np.sqrt(lines)
    passed = int((behind.mean(axis=1) <= errors + ROUNDING).sum())
    found = binomtest(passed, count).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(passed / count, float(found.low), float(found.high))


def rows_inside(region: Region) -> NDArray[np.bool_]:
    """(N,) whether each point of the design lies in the region."""
    return np.array(region.inside, dtype=np.bool_)
