"""What every setting does to the score, and how much of what moves it is due to which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from plotly.graph_objects import Figure as Drawing

from evaluation.page import BLUE, GREY, RIVAL_COLOURS, Figure, Plot, drawing, plain
from tune.region import AxisRegion, Estimate, Landscape, MainEffect, PairSensitivity, Part
from tune.search_page.labels import is_strength, labels, lay_out, number, rows_of, shade_zones, short, under, values_of

SHOWN = 10
"""Settings of a heat map whose numbers can still be read."""
WHISKERS = 3.0
"""Quartile ranges below the lower quartile from which a score stands on the edge, not to press all others flat."""
LIGHT = [[0.0, "#dfe5ea"], [1.0, "#5db7ef"]]
"""Grounds of a heat map on which the same dark numbers can be read in either scheme."""
ENDS = (("failed", "x-thin", RIVAL_COLOURS[2]), ("stopped", "line-ns", RIVAL_COLOURS[0]))
"""Trials without a score of their own: state, mark, colour."""


def effect_figure(part: Part, land: Landscape, table: pd.DataFrame, place: int) -> Figure:
    """A panel per setting with its main effect; trials of `table` without a score stand at the bottom."""
    axes = {axis.key: axis for axis in land.region.axes}
    order = [row.key for row in land.sensitivity.axes]
    effects = sorted(land.effects, key=lambda own: order.index(own.key) if own.key in order else 0)
    low, high = _heights(part.scores, effects)
    rows = rows_of(part, table)
    return Figure(
        name=f"effects-{place}",
        title=f"What each setting does on average over the others{under(part)}",
        plots=[
            Plot(short(own.key), _effect(own, axes[own.key], part, rows, (low, high), at == len(effects) - 1))
            for at, own in enumerate(effects)
        ],
        reads="The line is the score to expect at each value, the band its 95 % interval: a line that leaves a level "
        "drawn through its band says that the setting matters, a level one that it does not. Grey marks are the "
        "complete trials, marks at the bottom those that failed or were stopped; the setting that matters most comes "
        "first.",
        alt="Expected average precision against the setting with its interval, and the score of every trial.",
    )


def _heights(scores: Sequence[float], effects: Sequence[MainEffect]) -> tuple[float, float]:
    """Range of the score that all panels share."""
    lower, upper = np.quantile(scores, [0.25, 0.75])
    low = max(min(scores), float(lower - WHISKERS * (upper - lower)))
    low, high = min(low, *(min(own.low) for own in effects)), max(*scores, *(max(own.high) for own in effects))
    gap = max(high - low, 1e-3)
    return low - 0.16 * gap, high + 0.05 * gap


def _effect(
    own: MainEffect, axis: AxisRegion, part: Part, rows: pd.DataFrame, heights: tuple[float, float], legend: bool
) -> Drawing:
    panel = drawing("", "AP", 230, showlegend=legend)
    lay_out(panel, axis)
    bottom = heights[0] + 0.04 * (heights[1] - heights[0])
    panel.update_layout(yaxis={"range": list(heights)})
    if is_strength(own.key) and axis.log:
        shade_zones(panel, named=False)
    values, scores = values_of(part, axis), np.array(part.scores)
    shown = {"symbol": ["circle" if score >= bottom else "triangle-down" for score in scores]}
    panel.add_scatter(
        x=values, y=np.maximum(scores, bottom), mode="markers", name="complete trials",
        marker={"color": GREY, "size": 6, "opacity": 0.7} | shown,
        text=[f"trial {trial}: {score:.4f}" for trial, score in zip(part.trials, scores, strict=True)],
        hoverinfo="text",
    )  # fmt: skip
    panel.add_scatter(
        x=[*own.values, *own.values[::-1]], y=[*own.high, *own.low[::-1]], fill="toself",
        fillcolor="rgba(0,114,178,0.25)", line={"width": 0}, name="95 % interval", hoverinfo="skip", mode="lines",
    )  # fmt: skip
    panel.add_scatter(x=own.values, y=own.mean, mode="lines", name="expected", line={"color": BLUE, "width": 3})
    for state, symbol, colour in ENDS:
        ended = rows.loc[rows["state"] == state, own.key].dropna()
        marker = {"symbol": symbol, "size": 9, "color": colour, "line": {"width": 2, "color": colour}}
        if len(ended):
            y = [bottom] * len(ended)
            panel.add_scatter(x=ended, y=y, mode="markers", name=state, marker=marker, hoverinfo="x+name")
    return panel


def importance_figure(part: Part, land: Landscape, place: int) -> Figure | None:
    """Sobol bars, PED-ANOVA and pairs; None where there is none of them."""
    found, inside = land.sensitivity, land.sensitivity.inside
    keys = [row.key for row in found.axes] or sorted(inside or {}, key=lambda key: -(inside or {})[key])
    plots = []
    if found.axes:
        plots.append(Plot("Share of the variance over the whole box", _sobol(keys, land)))
    if inside is not None:
        plots.append(Plot("PED-ANOVA inside the region", _bars(keys, [inside.get(key, 0.0) for key in keys])))
    if len(found.axes) > 1:
        title = "Pairs: S2, beyond what each does alone"
        plots.append(Plot(title, _pairs(keys[:SHOWN], found.pairs)))
    if not plots:
        return None
    left = f" The map has the {SHOWN} settings with the largest ST; the table has all." if len(keys) > SHOWN else ""
    return Figure(
        name=f"importance-{place}",
        title=f"Which settings move the score{under(part)}",
        plots=plots,
        reads="ST is the share of the score's variance that a setting has a part in, S1 what it explains alone; a long "
        "ST with a short S1 acts through others, whose pair is then blue in the map. A setting whose ST has an "
        "interval near 0 can stay as it is. PED-ANOVA tells what still separates good from better once one is inside "
        f"the region.{left}",
        alt="Sobol indices with intervals, importances inside the region, and interactions of pairs.",
    )


def _sobol(keys: list[str], land: Landscape) -> Drawing:
    rows = {row.key: row for row in land.sensitivity.axes}
    panel = _rows(keys, "share of variance")
    for name, colour, beside, own in (
        ("ST, with a part in", BLUE, -0.18, [rows[key].total for key in keys]),
        ("S1, alone", RIVAL_COLOURS[0], 0.18, [rows[key].first for key in keys]),
    ):
        panel.add_bar(
            x=[each.value for each in own], y=[at + beside for at in range(len(keys))], orientation="h", width=0.34,
            name=name, marker={"color": colour}, error_x=_errors(own),
        )  # fmt: skip
    return panel


def _errors(own: list[Estimate]) -> dict[str, object]:
    # Grey is seen on either ground and over the bars.
    style = {"color": GREY, "thickness": 1.5, "width": 3, "type": "data", "symmetric": False}
    return style | {
        "array": [each.high - each.value for each in own],
        "arrayminus": [each.value - each.low for each in own],
    }


def _bars(keys: list[str], values: list[float]) -> Drawing:
    panel = _rows(keys, "importance")
    panel.add_bar(x=values, y=list(range(len(keys))), orientation="h", marker={"color": RIVAL_COLOURS[1]}, width=0.5)
    return panel


def _rows(keys: list[str], x: str) -> Drawing:
    panel = drawing(x, "", 60 + 34 * max(3, len(keys)))
    panel.update_layout(
        yaxis={"tickvals": list(range(len(keys))), "ticktext": labels(keys), "range": [len(keys) - 0.5, -0.5],
               "zeroline": False, "showgrid": False},
        xaxis={"rangemode": "tozero"},
        bargap=0,
    )  # fmt: skip
    return panel


def _pairs(keys: list[str], pairs: list[PairSensitivity]) -> Drawing:
    known = {frozenset((pair.one, pair.other)): pair.second.value for pair in pairs}
    cells = [
        [known.get(frozenset((one, other)), np.nan) if at < below else np.nan for at, other in enumerate(keys[:-1])]
        for below, one in enumerate(keys)
    ][1:]
    panel = drawing("", "", 80 + 34 * max(3, len(keys)))
    names = [plain(short(key)) for key in keys]
    top = max(0.1, float(np.nanmax(cells)))
    panel.add_heatmap(
        z=cells, x=names[:-1], y=names[1:], colorscale=LIGHT, zmin=0, zmax=top, showscale=False, hoverongaps=False,
        text=[["" if np.isnan(cell) else number(cell, 2) for cell in row] for row in cells], texttemplate="%{text}",
        textfont={"color": "#1c1f23"},
    )  # fmt: skip
    panel.update_layout(yaxis={"autorange": "reversed", "showgrid": False}, xaxis={"showgrid": False, "tickangle": -35})
    return panel
