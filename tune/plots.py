"""Plots of a search: each searched setting against the validation score, and the scores in the order they came.

Complete trials are filled, stopped ones hollow with the mean of the folds they reached; the best stands out. Styles are
those of distributed/figures.py. Cost: a second each.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distributed.figures import BLUE, GREY, PANEL_INCHES, RIVAL_COLOURS, STYLE

COLUMNS = 3
BEST = RIVAL_COLOURS[2]


def plot_settings(table: pd.DataFrame, logarithmic: dict[str, bool], path: Path) -> None:
    """Score against each searched key; `logarithmic` says of each key whether its axis is."""
    rows = -(-len(logarithmic) // COLUMNS)
    width, height = PANEL_INCHES
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width * min(COLUMNS, len(logarithmic)), height * rows), layout="constrained")
        panels = figure.subplots(rows, min(COLUMNS, len(logarithmic)), squeeze=False, sharey=True).ravel()
        for axes, (key, log) in zip(panels, logarithmic.items(), strict=False):
            _points(axes, table, table[key] if pd.api.types.is_numeric_dtype(table[key]) else table[key].astype(str))
            axes.set_title(key.removeprefix("objective.terms."), loc="left")
            if log:
                axes.set_xscale("log")
        for axes in panels[len(logarithmic) :]:
            axes.set_visible(False)
        _finish(figure, panels[0], path)


def plot_history(table: pd.DataFrame, path: Path) -> None:
    """Score against the trial's number, with the best complete score so far."""
    width, height = PANEL_INCHES
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2 * width, height), layout="constrained")
        axes = figure.subplots()
        _points(axes, table, table["number"])
        complete = table["score"].where(table["state"] == "complete")
        if complete.notna().any():
            axes.step(
                table["number"], np.fmax.accumulate(complete), where="post", color=BEST, lw=1.0, label="best so far"
            )
        failed = table[table["state"] == "failed"]
        if len(failed):
            bottom = axes.get_ylim()[0]
            axes.plot(failed["number"], [bottom] * len(failed), "x", color=GREY, ms=4, label="failed", clip_on=False)
        axes.set_xlabel("trial")
        _finish(figure, axes, path)


def _points(axes: Axes, table: pd.DataFrame, x: pd.Series) -> None:
    for state, face in (("complete", BLUE), ("stopped", "none")):
        mine = (table["state"] == state) & table["score"].notna()
        if mine.any():
            axes.scatter(x[mine], table["score"][mine], s=14, facecolors=face, edgecolors=BLUE, lw=0.8, label=state)
    complete = table["score"].where(table["state"] == "complete")
    if complete.notna().any():
        best = complete.idxmax()
        axes.scatter([x[best]], [complete[best]], s=40, facecolors="none", edgecolors=BEST, lw=1.4, label="best")


def _finish(figure: Figure, axes: Axes, path: Path) -> None:
    axes.set_ylabel("macro average precision")
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    figure.savefig(path)
