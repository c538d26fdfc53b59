"""What one setting does on average over the others, and whether the zones that the records speak of differ.

The curve of a setting is its partial dependence: the response averaged over an even sample of the others, per function
drawn from the posterior. The records call loss weights in [.01, .2] ineffective and those in [.5, 2] effective; per
term the mean of the curve over both zones (even in the logarithm) is compared, beside the median share of gradient
that the term had at the points of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

from evaluation import DROWNED
from tune.region.design import Design, Floats, unit_of, value_of
from tune.region.estimates import Estimate, estimate
from tune.region.surrogate import Surrogate

OTHERS, GRID, ZONE_GRID = 64, 17, 9
"""Sampled others of a curve, its positions, and positions inside a zone."""
OLD, CLAIMED = (0.01, 0.2), (0.5, 2.0)
"""Zones of a loss weight that the records call ineffective and effective."""
TERM, STRENGTHS = "objective.terms.", ("weight", "ratio")


@dataclass(frozen=True)
class MainEffect:
    """Partial dependence of the macro score on one setting."""

    key: str
    """Setting."""
    values: list[float]
    """GRID values of it, even on its axis."""
    mean: list[float]
    """Expected score at each, averaged over the others."""
    low: list[float]
    """Lower end of the 95% interval of the score against the curve's own mean, added to that mean."""
    high: list[float]
    """Upper end."""
    span: Estimate
    """Highest minus lowest point of the curve."""
    per_efold: Estimate
    """Slope per factor e of the setting, least squares over the curve; NaN on an axis that is not logarithmic."""


@dataclass(frozen=True)
class Zone:
    """The part of a loss weight's axis that the records speak of."""

    low: float
    """Lower end, within the box."""
    high: float
    """Upper end."""
    points: int
    """Points of the design in it."""
    activity: float
    """Median share of gradient of the term at these points; NaN where it is not known."""


@dataclass(frozen=True)
class ZoneComparison:
    """The claimed zone against the old one, for one term."""

    key: str
    """Setting."""
    term: str
    """Loss term."""
    old: Zone
    claimed: Zone
    difference: Estimate
    """Mean score in the claimed zone minus that in the old one, the others averaged out."""
    says: str
    """The answer in words."""


def main_effects(design: Design, surrogate: Surrogate, seed: int) -> list[MainEffect]:
    """One curve per axis."""
    grid = np.linspace(0.0, 1.0, GRID)
    found = []
    for at, key in enumerate(design.axes):
        mean, draws = _curves(surrogate, at, grid, seed)
        own = design.space[key]
        centred = draws - draws.mean(axis=1, keepdims=True) + mean.mean()
        low, high = np.quantile(centred, [0.025, 0.975], axis=0)
        values = [value_of(own, x) for x in grid]
        slopes = np.full(len(draws) + 1, np.nan)
        if getattr(own, "log", False):
            slopes = np.polyfit(np.log(values), np.vstack([mean, draws]).T, 1)[0]
        found.append(
            MainEffect(
                key=key,
                values=values,
                mean=[float(y) for y in mean],
                low=[float(y) for y in np.minimum(low, mean)],
                high=[float(y) for y in np.maximum(high, mean)],
                span=estimate(float(np.ptp(mean)), np.ptp(draws, axis=1)),
                per_efold=estimate(float(slopes[0]), slopes[1:]),
            )
        )
    return found


def compare_zones(design: Design, surrogate: Surrogate, seed: int) -> list[ZoneComparison]:
    """Both zones per loss weight or ratio whose box reaches into both."""
    found = []
    for at, key in enumerate(design.axes):
        if not (key.startswith(TERM) and key.split(".")[-1] in STRENGTHS):
            continue
        spans = [_inside_box(design, key, zone) for zone in (OLD, CLAIMED)]
        if any(low >= high for low, high in spans):
            continue
        grid = np.concatenate([np.linspace(*span, ZONE_GRID) for span in spans])
        mean, draws = _curves(surrogate, at, grid, seed)
        gaps = np.vstack([mean, draws]).reshape(-1, 2, ZONE_GRID).mean(axis=2)
        gaps = gaps[:, 1] - gaps[:, 0]
        old, claimed = (_zone(design, at, key, span) for span in spans)
        difference = estimate(float(gaps[0]), gaps[1:])
        found.append(ZoneComparison(key, key.split(".")[2], old, claimed, difference, _says(old, claimed, difference)))
    return found


def _curves(surrogate: Surrogate, axis: int, grid: Floats, seed: int) -> tuple[Floats, Floats]:
    """(G,) posterior mean and (J, G) drawn curves along `axis`, averaged over the others."""
    axes = surrogate.points.shape[1]
    others = qmc.Sobol(axes, scramble=True, rng=seed).random(OTHERS)
    at = np.repeat(others[None], len(grid), axis=0)
    at[:, :, axis] = grid[:, None]
    flat = at.reshape(-1, axes)
    draws = surrogate.draws(flat).reshape(-1, len(grid), OTHERS).mean(axis=2)
    return surrogate.mean(flat).reshape(len(grid), OTHERS).mean(axis=1), draws


def _inside_box(design: Design, key: str, zone: tuple[float, float]) -> tuple[float, float]:
    low, high = (float(np.clip(unit_of(design.space[key], end), 0.0, 1.0)) for end in zone)
    return low, high


def _zone(design: Design, axis: int, key: str, span: tuple[float, float]) -> Zone:
    at = design.points[:, axis]
    rows = (at >= span[0]) & (at <= span[1])
    shares = design.activity.get(key.split(".")[2], np.full(len(at), np.nan))[rows]
    shares = shares[np.isfinite(shares)]
    low, high = (value_of(design.space[key], end) for end in span)
    return Zone(low, high, int(rows.sum()), float(np.median(shares)) if len(shares) else float("nan"))


def _says(old: Zone, claimed: Zone, difference: Estimate) -> str:
    where = f"[{claimed.low:.2g}, {claimed.high:.2g}] against [{old.low:.2g}, {old.high:.2g}]"
    if difference.low > 0:
        verdict = "scores higher, as the records claim"
    elif difference.high < 0:
        verdict = "scores lower, against the records' claim"
    else:
        verdict = "cannot be told apart in score"
    if np.isfinite(old.activity):
        drowned = "is drowned" if old.activity < DROWNED else "acts"
        verdict += f"; in the old zone the term {drowned} (median share of gradient {old.activity:.2g})"
    return f"{where} {verdict}"
