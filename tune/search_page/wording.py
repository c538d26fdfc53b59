"""The answer of a search in three sentences: the region, the settings that matter, how sure it is."""

from __future__ import annotations

import math

from tune.region import AxisRegion, Estimate, Landscape, Part, RegionReport
from tune.search_page.labels import short

MATTERS, INERT = 0.1, 0.05
"""Total index from which a setting matters, and below whose upper end it surely does not."""
BELIEVED = 0.2
"""Leave-one-out R2 below which the surrogate's shape is not to be relied on."""
WHOLE = 0.99
"""Share of the box from which a region is all of it: no setting then moves the score by more than the tolerance."""
NARROW = 0.9
"""Share of an axis below which a bound is worth naming."""


def sentences(report: RegionReport) -> list[str]:
    """Exactly three."""
    part = _main(report)
    return [_where(report, part), _what(report, part), _how_sure(report, part)]


def _main(report: RegionReport) -> Part | None:
    """The landscape that the sentences speak of: of all trials, or of the best mode that has one."""
    known = [part for part in report.parts if part.landscape is not None]
    order = [f"{own.key}={mode.value}" for own in report.modes for mode in own.modes]
    known.sort(key=lambda part: order.index(part.name) if part.name in order else -1)
    return known[0] if known else (report.parts[0] if report.parts else None)


def _where(report: RegionReport, part: Part | None) -> str:
    if part is None or part.landscape is None:
        why = part.reason if part else "no numeric setting was varied, so there is no region"
        return f"No region can be given: {why}."
    region = part.landscape.region
    bounds = [_bound(axis) for axis in region.axes if _share(axis) < NARROW]
    under = "" if part.name == "all trials" else f" under {part.name}"
    size = "the whole box" if region.volume.value >= 0.995 else f"{_percent(region.volume)} of the box"
    where = f": {'; '.join(bounds)}" if bounds else ", with no setting confined"
    return (
        f"Settings that keep within {region.tolerance:.4f} of the best average precision on unseen lines fill {size}"
        f"{under} ({len(part.trials)} points, {len(report.folds)} lines, {len(report.seeds)} seeds){where}."
    )


def _what(report: RegionReport, part: Part | None) -> str:
    said = []
    if part is not None and part.landscape is not None:
        said.append(_settings(part.landscape))
    for own in report.modes:
        if own.reason:
            said.append(own.reason)
            continue
        sure = [pair for pair in own.tuned if pair.p < 0.05]
        first = own.modes[0]
        lead = f"{first.value} scores highest ({first.tuned:.4f} tuned, {first.untuned:.4f} untuned)"
        told = f"{len(sure)} of {len(own.tuned)} pairs can be told apart" if sure else "no two can be told apart"
        said.append(f"of {short(own.key)}, {lead}, and {told}")
    text = "; ".join(said) if said else "which settings matter cannot be said from these trials"
    return text[0].upper() + text[1:] + "."


def _settings(land: Landscape) -> str:
    if land.sensitivity.reason:
        return f"no setting can be said to matter: {land.sensitivity.reason}"
    if not land.quality.r2 > BELIEVED:
        return f"no setting can be said to matter, because a left-out point is not predicted (R2 {land.quality.r2:.2f})"
    rows = land.sensitivity.axes
    matter = [f"{short(row.key)} ({row.total.value:.0%})" for row in rows if row.total.value >= MATTERS]
    inert = [short(row.key) for row in rows if row.total.high < INERT]
    open_ = [short(row.key) for row in rows if row.total.value < MATTERS and row.total.high >= INERT]
    whole = land.region.volume.value > WHOLE
    moved = (
        "no setting moves the score by more than that, and the little that moves it"
        if whole
        else "the score's variance"
    )
    said = [f"{moved} comes from {', '.join(matter)}" if matter else "no setting stands out"]
    said += (
        [f"{', '.join(inert)} does not matter in this box" if len(inert) == 1 else ""]
        if len(inert) < 2
        else [f"{', '.join(inert)} do not matter in this box"]
    )
    said += [f"small and unsettled: {', '.join(open_)}"] if open_ else []
    return ", ".join(word for word in said if word)


def _how_sure(report: RegionReport, part: Part | None) -> str:
    noise = report.noise
    said = []
    if math.isfinite(noise.paired):
        said.append(
            f"two points must differ by {noise.paired:.4f} to be told from training noise"
            + (f" and by {noise.paired_lines:.4f} to hold in other lines" if math.isfinite(noise.paired_lines) else "")
        )
    else:
        said.append(noise.reason or "the noise of training is not known")
    if noise.confirmations:
        own = noise.confirmations[0]
        said.append(f"the search scored {_signed(own.optimism)} above {own.seeds} fresh seeds of its choice")
    else:
        said.append("the choice has not been run again with fresh seeds")
    if part is not None and part.landscape is not None:
        land = part.landscape
        said.append(
            f"a gain over the default is not known, because {land.gain_reason}"
            if land.gain_reason
            else f"the recommended setting gains {_signed(land.gain)} over the default"
        )
    text = "; ".join(said)
    return text[0].upper() + text[1:] + "."


def _bound(axis: AxisRegion) -> str:
    low, high = axis.projection.low, axis.projection.high
    return (
        f"{short(axis.key)} from {low.value:.3g} ({low.low:.2g} to {low.high:.2g}) "
        f"to {high.value:.3g} ({high.low:.2g} to {high.high:.2g})"
    )


def _share(axis: AxisRegion) -> float:
    """Share of the axis that the projection covers."""
    low, high = axis.projection.low.value, axis.projection.high.value
    if axis.log:
        return math.log(high / low) / math.log(axis.box[1] / axis.box[0])
    return (high - low) / (axis.box[1] - axis.box[0])


def _percent(own: Estimate) -> str:
    return f"{own.value:.0%} ({own.low:.0%} to {own.high:.0%})"


def _signed(own: Estimate) -> str:
    return f"{own.value:+.4f} ({own.low:+.4f} to {own.high:+.4f})"
