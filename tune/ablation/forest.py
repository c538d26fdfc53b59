"""The forest plot of an ablation: every variant's paired difference with its intervals, one panel per quadrant.

A thick bar is the t-interval over runs, a thin one the cluster bootstrap; dots are the test lines. Styles are those of
evaluation/figures.py. Cost: a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation import BLUE, GREY, PANEL_INCHES, RIVAL_COLOURS, STYLE, write_figure
from tune.ablation.comparison import Comparison


def plot_differences(comparisons: Mapping[str, list[Comparison]], path: Path) -> None:
    """Draw the variants that were compared with something, from the top in the order of the table."""
    drawn = {quadrant: rows for quadrant, rows in comparisons.items() if any(row.difference.runs for row in rows)}
    names = [row for row in next(iter(drawn.values())) if any(_has(rows, row.name) for rows in drawn.values())]
    width = PANEL_INCHES[0]
    with mpl.rc_context(STYLE):
        size = (width * len(drawn) + 1.8, 0.6 + 0.19 * max(len(names), 3))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(drawn), squeeze=False, sharey=True)[0]
        for axes, (quadrant, rows) in zip(panels, drawn.items(), strict=True):
            places = {row.name: place for place, row in enumerate(names)}
            for row in rows:
                if row.difference.runs:
                    _draw(axes, places[row.name], row)
            axes.axvline(0.0, color=GREY, lw=0.8)
            axes.set_title(quadrant.replace("_", " "), loc="left")
            axes.set_xlabel("difference in average precision")
        labels = [row.name if row.against == "default" else f"{row.name} (to {row.against})" for row in names]
        panels[0].set_yticks(range(len(names)), labels)
        panels[0].set_ylim(len(names) - 0.5, -0.5)
        write_figure(figure, path)


def _has(rows: list[Comparison], name: str) -> bool:
    return any(row.name == name and row.difference.runs for row in rows)


def _draw(axes: Axes, place: int, row: Comparison) -> None:
    found = row.difference
    for bounds, width in ((found.over_runs, 2.6), (found.bootstrap, 0.9)):
        if np.isfinite(bounds).all():
            axes.plot(bounds, [place, place], color=BLUE, lw=width, solid_capstyle="butt", alpha=0.8)
    lines = [value for value, _, _ in found.lines.values()]
    axes.scatter(lines, [place] * len(lines), s=6, color=RIVAL_COLOURS[0], zorder=3)
    axes.scatter([found.mean], [place], s=14, color=BLUE, zorder=4)
