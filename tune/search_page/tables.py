"""The numbers of a report as tables of finished cells, for Markdown and for the page alike."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tune.region import AxisRegion, Bounds, Estimate, Landscape, Modes, Part, RegionReport, Versus, Zone
from tune.search_page.labels import between, mapped, number, setting, under, values_of

Cells = tuple[list[str], list[list[str]]]
"""Columns and rows."""
WORDS = ("setting", "other setting", "term", "mode", "minus", "question", "verdict")
"""Columns of words; the others hold numbers."""


def region_tables(report: RegionReport) -> dict[str, Cells]:
    """{title: (columns, rows)} of all that the report has numbers for; nothing is empty."""
    found: dict[str, Cells] = {}
    for part, land in mapped(report.parts):
        found |= {f"{title}{under(part)}": cells for title, cells in _of_landscape(part, land).items()}
    for modes in report.modes:
        if modes.modes:
            found[f"Values of {modes.key}"] = mode_table(modes)
            found[f"Pairs of {modes.key}"] = pair_table(modes)
    if report.noise.confirmations:
        found["Points that were run again"] = confirmation_table(report)
    return {title: (columns, rows) for title, (columns, rows) in found.items() if rows}


def _of_landscape(part: Part, land: Landscape) -> dict[str, Cells]:
    return {
        "Region per setting": range_table(land),
        "Effect per setting": effect_table(land),
        "Importance per setting": importance_table(land),
        "Interactions": interaction_table(land),
        "Zones of the records": zone_table(part, land),
    }


def range_table(land: Landscape) -> Cells:
    """Recommended value, projection and conditional interval per setting."""
    columns = ["setting", "recommended", "region from", "region to", "share of axis", "others at best from",
               "others at best to", "searched from", "searched to"]  # fmt: skip
    rows = [
        [
            axis.key,
            setting(land.region.best[axis.key]),
            *_ends(axis.projection),
            f"{share(axis, axis.projection):.0%}",
            *_ends(axis.conditional),
            setting(axis.box[0]),
            setting(axis.box[1]),
        ]
        for axis in land.region.axes
    ]
    return columns, rows


def share(axis: AxisRegion, bounds: Bounds) -> float:
    """Share of the axis between the bounds, in the logarithm where the axis is."""
    low, high = bounds.low.value, bounds.high.value
    if axis.log:
        return math.log(high / low) / math.log(axis.box[1] / axis.box[0])
    return (high - low) / (axis.box[1] - axis.box[0])


def effect_table(land: Landscape) -> Cells:
    """How far each setting moves the score on average over the others."""
    return ["setting", "highest minus lowest", "slope per factor e"], [
        [own.key, between(own.span), between(own.per_efold, sign="+")] for own in land.effects
    ]


def importance_table(land: Landscape) -> Cells:
    """Sobol indices over the box and PED-ANOVA inside the region."""
    inside = land.sensitivity.inside or {}
    keys = [row.key for row in land.sensitivity.axes] or sorted(inside, key=lambda key: -inside[key])
    indices = {row.key: row for row in land.sensitivity.axes}
    rows = [
        [
            key,
            between(indices[key].total, 2) if key in indices else "-",
            between(indices[key].first, 2) if key in indices else "-",
            number(inside.get(key), 2),
        ]
        for key in keys
    ]
    return ["setting", "ST", "S1", "PED-ANOVA inside"], rows


def interaction_table(land: Landscape) -> Cells:
    """What pairs do beyond what each setting does alone."""
    return ["setting", "other setting", "S2"], [
        [pair.one, pair.other, between(pair.second, 2)] for pair in land.sensitivity.pairs
    ]


def zone_table(part: Part, land: Landscape) -> Cells:
    """The records' zones against each other, per term."""
    columns = ["term", "setting", "verdict", "difference", "old zone: score", "claimed zone: score",
               "old zone: gradient share", "claimed zone: gradient share", "old zone: trials",
               "claimed zone: trials"]  # fmt: skip
    axes = {axis.key: axis for axis in land.region.axes}
    rows = []
    for own in land.zones:
        zones = (own.old, own.claimed)
        rows.append(
            [
                own.term,
                own.key,
                _verdict(own.difference),
                between(own.difference, sign="+"),
                *(number(_score_in(part, axes[own.key], zone)) for zone in zones),
                *(number(zone.activity, 3) for zone in zones),
                *(str(zone.points) for zone in zones),
            ]
        )
    return columns, rows


def _verdict(difference: Estimate) -> str:
    """What the claimed zone is in score, beside the old one."""
    if not math.isfinite(difference.low) or difference.low <= 0 <= difference.high:
        return "open"
    return "higher" if difference.low > 0 else "lower"


def _score_in(part: Part, axis: AxisRegion, zone: Zone) -> float:
    """Mean score of the points of a zone, as measured."""
    inside = [
        score
        for value, score in zip(values_of(part, axis), part.scores, strict=True)
        if zone.low * (1 - 1e-9) <= value <= zone.high * (1 + 1e-9)
    ]
    return sum(inside) / len(inside) if inside else math.nan


def mode_table(modes: Modes) -> Cells:
    """Score and cost of each value of a categorical setting."""
    return ["mode", "tuned", "untuned", "seconds per step", "complete trials", "best trial"], [
        [str(own.value), number(own.tuned), number(own.untuned), number(own.seconds_per_step), str(own.points),
         str(own.best)]
        for own in modes.modes
    ]  # fmt: skip


def pair_table(modes: Modes) -> Cells:
    """Every pair of values, tuned and untuned."""
    rows = [*_versus("tuned", modes.tuned), *_versus("untuned", modes.untuned)]
    return ["question", "mode", "minus", "difference", "p after Holm"], rows


def _versus(question: str, pairs: list[Versus]) -> Iterator[list[str]]:
    for pair in pairs:
        yield [question, str(pair.one), str(pair.other), between(pair.difference, sign="+"), number(pair.p, 3)]


def confirmation_table(report: RegionReport) -> Cells:
    """Search score of the points that were run again against that of fresh seeds."""
    return ["confirming trial", "score in the search", "score of fresh seeds", "optimism", "fresh seeds"], [
        [str(own.number), number(own.search), number(own.again), between(own.optimism, sign="+"), str(own.seeds)]
        for own in report.noise.confirmations
    ]


def _ends(bounds: Bounds) -> list[str]:
    return [f"{setting(end.value)} [{setting(end.low)}, {setting(end.high)}]" for end in (bounds.low, bounds.high)]
