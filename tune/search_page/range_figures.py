"""Where the region lies: its extent along every setting, and the two settings that matter most against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from plotly.graph_objects import Figure as Drawing

from evaluation.page import BLUE, GREY, RIVAL_COLOURS, Figure, Plot, drawing, plain
from tune.region import AxisRegion, Bounds, Landscape, Part, Region
from tune.search_page.labels import (
    SCALE,
    in_legend,
    is_strength,
    labels,
    lay_out,
    setting,
    shade_zones,
    short,
    under,
    values_of,
)

ORANGE = RIVAL_COLOURS[0]
BARS = (("region, the others at their best", BLUE, -0.14), ("region, the others at the best point", ORANGE, 0.14))
"""Projection and conditional interval: name, colour and place beside the middle of the row."""


def range_figure(part: Part, land: Landscape, base: Mapping[str, Any], place: int) -> Figure:
    """The region along each setting of a part; `base` holds the default per key."""
    axes = land.region.axes
    strengths = [axis for axis in axes if is_strength(axis.key) and axis.log]
    groups = [(_strengths_name(strengths), strengths)] if strengths else []
    groups += [(short(axis.key), [axis]) for axis in axes if axis not in strengths]
    zones = "; shaded are the zones that the records call ineffective ([.01, .2]) and effective ([.5, 2])"
    return Figure(
        name=f"region-{place}",
        title=f"The region along each setting{under(part)}",
        plots=[
            Plot(plain(name) if len(groups) > 1 else "", _ranges(rows, land.region, base, at == len(groups) - 1))
            for at, (name, rows) in enumerate(groups)
        ],
        reads="A blue bar spans the values with which some choice of the other settings does as well as the best, an "
        "orange one those that do so with the others left at the best point; the thin lines at both ends say how far "
        "the end may be moved by chance. A bar as long as the grey line says that the setting is free in this box"
        f"{zones if strengths else ''}.",
        alt="Per setting the searched range, the region within it with intervals of its ends, and the best point.",
        wide=True,
    )


def _strengths_name(axes: list[AxisRegion]) -> str:
    leaves = sorted({axis.key.split(".")[-1] for axis in axes})
    return f"{' and '.join(leaves)} of the loss terms"


def _ranges(axes: list[AxisRegion], region: Region, base: Mapping[str, Any], legend: bool) -> Drawing:
    panel = drawing("", "", 62 + 46 * len(axes), showlegend=legend)
    widest = min(axis.box[0] for axis in axes), max(axis.box[1] for axis in axes)
    lay_out(panel, AxisRegion("", widest, axes[0].log, axes[0].projection, axes[0].conditional))
    names = [name.replace(" ", "<br>", 1) for name in labels([axis.key for axis in axes])]
    panel.update_layout(
        margin={"t": 22},
        yaxis={"tickvals": list(range(len(axes))), "ticktext": names, "range": [len(axes) - 0.5, -0.5],
               "showgrid": False, "zeroline": False},
    )  # fmt: skip
    if is_strength(axes[0].key):
        shade_zones(panel)
    _bar(panel, [(at, axis.box) for at, axis in enumerate(axes)], "searched", GREY, 2)
    for name, colour, beside in BARS:
        bounds = [axis.projection if colour == BLUE else axis.conditional for axis in axes]
        _interval(panel, bounds, name, colour, beside)
    best = [(region.best[axis.key], at) for at, axis in enumerate(axes)]
    _marks(panel, best, "recommended", {"symbol": "star", "size": 13, "color": "#D55E00"})
    given = [(float(base[axis.key]), at) for at, axis in enumerate(axes) if _fits(base.get(axis.key), axis)]
    _marks(panel, given, "default", {"symbol": "diamond-open", "size": 10, "color": GREY, "line": {"width": 2}})
    return panel


def _interval(panel: Drawing, bounds: list[Bounds], name: str, colour: str, beside: float) -> None:
    whole = [(at + beside, (own.low.value, own.high.value)) for at, own in enumerate(bounds)]
    _bar(panel, whole, name, colour, 8)
    ends = [(at + beside, (end.low, end.high)) for at, own in enumerate(bounds) for end in (own.low, own.high)]
    _bar(panel, [(at, end) for at, end in ends if math.isfinite(end[0])], "", colour, 2)


def _bar(
    panel: Drawing, spans: Sequence[tuple[float, tuple[float, float]]], name: str, colour: str, width: float
) -> None:
    x, y = [], []
    for at, (low, high) in spans:
        x += [low, high, None]
        y += [at, at, None]
    style = {"color": colour, "width": width}
    panel.add_scatter(x=x, y=y, mode="lines", name=name, line=style, showlegend=bool(name), hoverinfo="x")


def _marks(panel: Drawing, at: Sequence[tuple[float, float]], name: str, marker: dict[str, Any]) -> None:
    if at:
        panel.add_scatter(x=[x for x, _ in at], y=[y for _, y in at], mode="markers", name=name, marker=marker)


def _fits(value: Any, axis: AxisRegion) -> bool:
    """Whether the default lies where the axis can show it."""
    return isinstance(value, int | float) and axis.box[0] <= value <= axis.box[1]


def plane_figure(part: Part, land: Landscape, base: Mapping[str, Any], place: int) -> Figure | None:
    """The trials in the plane of the two settings with most say; None where one was varied."""
    axes = {axis.key: axis for axis in land.region.axes}
    ranked = [row.key for row in land.sensitivity.axes] or list(axes)
    if len(ranked) < 2:
        return None
    one, other = (axes[key] for key in ranked[:2])
    panel = drawing(plain(short(one.key)), plain(short(other.key)), 420)
    lay_out(panel, one)
    lay_out(panel, other, "y")
    if is_strength(one.key) and one.log:
        shade_zones(panel, named=False)
    panel.update_layout(coloraxis={"colorscale": SCALE, "colorbar": {"thickness": 12, "title": {"text": "AP"}}})
    x, y = values_of(part, one), values_of(part, other)
    for inside, name, symbol in ((True, "in the region", "circle"), (False, "outside", "x")):
        rows = [at for at, own in enumerate(land.region.inside) if own is inside]
        panel.add_scatter(
            x=x[rows], y=y[rows], mode="markers", showlegend=False, hoverinfo="text",
            marker={"color": [part.scores[at] for at in rows], "coloraxis": "coloraxis", "symbol": symbol,
                    "size": 11 if inside else 8},
            text=[f"trial {part.trials[at]}: {part.scores[at]:.4f}" for at in rows],
        )  # fmt: skip
        in_legend(panel, name, symbol)
    best = [(land.region.best[one.key], land.region.best[other.key])]
    _marks(panel, best, "recommended", {"symbol": "star", "size": 15, "color": "#CC79A7"})
    if _fits(base.get(one.key), one) and _fits(base.get(other.key), other):
        at = [(float(base[one.key]), float(base[other.key]))]
        _marks(panel, at, "default", {"symbol": "diamond-open", "size": 11, "color": GREY, "line": {"width": 2}})
    return Figure(
        name=f"plane-{place}",
        title=f"The two settings with most say against each other{under(part)}",
        plots=[Plot("", panel)],
        reads=f"Discs lie in the region, crosses outside; blue scores high, orange low. Discs in one corner alone say "
        f"that {short(one.key)} ({setting(one.box[0])} to {setting(one.box[1])}) and {short(other.key)} have to be set "
        "together; the other settings differ from mark to mark and blur the border.",
        alt="Trials by the two most important settings, coloured by score, marked by whether they are in the region.",
        wide=True,
    )
