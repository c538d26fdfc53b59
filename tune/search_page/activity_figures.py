"""Whether a loss weight acts at all: the gradient that its term has beside the task's."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from plotly.graph_objects import Figure as Drawing

from evaluation import DROWNED
from evaluation.page import BLUE, GREY, Figure, Plot, drawing
from tune.region import TERM, AxisRegion, Landscape, Part, ZoneComparison
from tune.search_page.labels import is_strength, lay_out, rows_of, shade_zones, short, ticks, under

RUNGS = 4
"""Orders of magnitude below DROWNED that a panel goes down to; shares below stand on its edge."""


def activity_figure(part: Part, land: Landscape, table: pd.DataFrame, place: int) -> tuple[Figure | None, list[str]]:
    """Gradient share of each term against its weight, and the terms of which nothing was recorded."""
    rows = rows_of(part, table)
    rows = rows[rows["state"] == "complete"]
    plots, silent = [], []
    zones = {own.key: own for own in land.zones}
    for axis in land.region.axes:
        if not (is_strength(axis.key) and axis.log):
            continue
        term = axis.key.removeprefix(TERM).split(".")[0]
        shares = rows[f"share/{term}"] if f"share/{term}" in rows else pd.Series(dtype=float)
        if not (shares > 0).any():
            silent.append(term)
            continue
        kept = shares.notna()
        panel = _shares(axis, rows.loc[kept, axis.key], shares[kept], zones.get(axis.key))
        plots.append(Plot(short(axis.key), panel))
    if not plots:
        return None, silent
    plots[-1].drawing.update_layout(showlegend=True)
    return Figure(
        name=f"activity-{place}",
        title=f"Does a weight act? Gradient share of each term{under(part)}",
        plots=plots,
        reads=f"Each disc is a trial: the gradient of the term as a share of the task's, late in training, against the "
        f"weight it had. Below the dashed line at {DROWNED:g} a term is drowned and its weight cannot matter; thick "
        "lines are the medians in the old zone (grey) and in the claimed one (green). Where only the second is above "
        "the dashed line, the records are right about activity.",
        alt="Gradient share of a loss term against its weight in every complete trial, both axes logarithmic.",
    ), silent


def _shares(axis: AxisRegion, values: pd.Series, shares: pd.Series, zone: ZoneComparison | None) -> Drawing:
    floor = max(min(float(shares[shares > 0].min()), DROWNED / 2), DROWNED / 10**RUNGS)
    ceiling = max(float(shares.max()), DROWNED * 2)
    panel = drawing("", "gradient share", 240, showlegend=False)
    lay_out(panel, axis)
    span = [math.log10(floor) - 0.3, math.log10(ceiling) + 0.3]
    panel.update_layout(yaxis={"type": "log", "range": span, "tickmode": "array"} | ticks(floor / 2, ceiling * 2))
    shade_zones(panel, named=False)
    panel.add_shape(
        type="line", x0=0, x1=1, xref="paper", y0=DROWNED, y1=DROWNED, line={"color": GREY, "width": 2, "dash": "dash"}
    )
    seen = shares >= floor
    panel.add_scatter(
        x=values, y=shares.clip(lower=floor), mode="markers", name="trials",
        marker={"color": BLUE, "size": 7, "symbol": np.where(seen, "circle", "triangle-down")},
    )  # fmt: skip
    both = (
        []
        if zone is None
        else [(zone.old, GREY, "median, old zone"), (zone.claimed, "#009E73", "median, claimed zone")]
    )
    for own, colour, name in both:
        if own.activity > 0:
            panel.add_scatter(
                x=[own.low, own.high], y=[max(own.activity, floor)] * 2, mode="lines", name=name,
                line={"color": colour, "width": 5},
            )  # fmt: skip
    return panel
