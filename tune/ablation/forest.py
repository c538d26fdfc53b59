"""The forest plot of an ablation: every variant's paired difference with its intervals, one panel per quadrant.

A thick bar is the t-interval over runs, a thin one the cluster bootstrap; small marks are the test lines.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from plotly.graph_objects import Figure as Drawing

from evaluation.page import BLUE, GREY, RIVAL_COLOURS, Figure, Plot, drawing, plain
from tune.ablation.comparison import Comparison
from tune.ablation.contrasts import Contrast
from tune.ablation.variants import DEFAULT

LONGEST = 22
"""Letters of a name on one line: more would leave a narrow panel no room for the bars."""


def forest(comparisons: Mapping[str, list[Comparison]]) -> Figure:
    """The variants that were compared with something, from the top in the order of the table."""
    drawn = {key: [row for row in rows if row.difference.runs] for key, rows in comparisons.items()}
    return Figure(
        name="differences",
        title="Differences in average precision",
        plots=[Plot(quadrant.replace("_", " "), _panel(rows)) for quadrant, rows in drawn.items() if rows],
        reads="To the right of zero a variant is better than what it is compared to, to the left it is worse. Trust a "
        "difference where both bars keep clear of zero; orange marks far apart are lines that disagree.",
        alt="Paired difference in average precision of every variant, with two intervals and its test lines.",
        wide=True,
    )


def _panel(rows: Sequence[Comparison]) -> Drawing:
    names = [_label(row) for row in rows]
    most = max(name.count("<br>") for name in names) + 1
    panel = drawing("difference in AP", "", 70 + (10 + 14 * most) * len(rows))
    panel.update_layout(
        xaxis={"zeroline": True, "zerolinewidth": 2},
        yaxis={"autorange": "reversed", "tickmode": "array", "tickvals": list(range(len(rows))), "ticktext": names},
    )
    contrasts = [row.difference for row in rows]
    colour = RIVAL_COLOURS[0]
    lines = [(value, place) for place, own in enumerate(contrasts) for value, _, _ in own.lines.values()]
    _intervals(panel, contrasts, "95 % t-interval over runs", 6, [own.over_runs for own in contrasts])
    _intervals(panel, contrasts, "95 % cluster bootstrap", 1.5, [own.bootstrap for own in contrasts])
    panel.add_scatter(
        x=[own.mean for own in contrasts],
        y=list(range(len(rows))),
        mode="markers",
        marker={"color": BLUE, "size": 8, "line": {"width": 1, "color": GREY}},
        name="mean",
        text=[plain(row.name) for row in rows],
    )
    panel.add_scatter(
        x=[value for value, _ in lines],
        y=[place for _, place in lines],
        mode="markers",
        marker={"size": 12, "symbol": "line-ns", "line": {"width": 2, "color": colour}},
        name="test lines",
        text=[plain(line) for own in contrasts for line in own.lines],
    )
    return panel


def _intervals(
    panel: Drawing, contrasts: Sequence[Contrast], name: str, width: float, bounds: Sequence[tuple[float, float]]
) -> None:
    """A bar per contrast whose bounds exist; nothing where none has any."""
    known = [place for place, (low, high) in enumerate(bounds) if np.isfinite([low, high]).all()]
    if known:
        x, y = [], []
        for place in known:
            x += [*bounds[place], None]
            y += [place, place, None]
        style = {"line": {"color": BLUE, "width": width}, "opacity": 0.55 if width > 2 else 1}
        panel.add_scatter(x=x, y=y, mode="lines", name=name, hoverinfo="skip", **style)


def _label(row: Comparison) -> str:
    lines = textwrap.wrap(row.name, LONGEST)
    if row.against != DEFAULT:
        lines += textwrap.wrap(f"to {row.against}", LONGEST)
    return "<br>".join(map(plain, lines))
