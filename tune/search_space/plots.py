"""Plots of a search: each searched setting against the validation score, and the scores in the order they came.

Only trials with all folds are drawn at their score. A stopped trial's mean is over fewer folds, and lines differ far
more than settings do, so it would stand too high or too low: stopped and failed trials are marks at the bottom. No
pyplot state is touched. Cost: a second each.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from data_pipeline.durable import write_durably
from evaluation.page import BLUE, GREY, RIVAL_COLOURS

COLUMNS = 3
BEST = RIVAL_COLOURS[2]
PANEL_INCHES = (2.9, 2.5)
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.fontsize": 6.5,
    "legend.framealpha": 0.75,
    "legend.edgecolor": "none",
    "savefig.dpi": 150,
}


def plot_settings(table: pd.DataFrame, space: dict[str, BaseDistribution], path: Path) -> None:
    """Score against each key of `space`; `table` as in `results.trial_table`."""
    columns = min(COLUMNS, len(space))
    rows = -(-len(space) // columns)
    width, height = PANEL_INCHES
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes, (key, own) in zip(panels.ravel(), space.items(), strict=False):
            numeric = not isinstance(own, CategoricalDistribution)
            if isinstance(own, FloatDistribution | IntDistribution):
                _whole_range(axes, own)
            _points(axes, table, table[key] if numeric else table[key].astype(str))
            axes.set_title(key.removeprefix("objective.terms."), loc="left")
        for axes in panels.ravel()[len(space) :]:
            axes.set_visible(False)
        for axes in panels[:, 0]:
            axes.set_ylabel("macro average precision")
        panels[0, 0].legend()
        _write(figure, path)


def plot_history(table: pd.DataFrame, path: Path) -> None:
    """Score against the trial's number, with the best complete score so far."""
    width, height = PANEL_INCHES
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2 * width, height), layout="constrained")
        axes = figure.subplots()
        score = table["score"].where(table["state"] == "complete")
        if score.notna().any():
            axes.step(table["number"], np.fmax.accumulate(score), where="post", color=BEST, lw=1.0, label="best so far")
        _points(axes, table, table["number"])
        axes.set_xlabel("trial")
        axes.set_xlim(-0.5, max(len(table), 2) - 0.5)
        axes.set_ylabel("macro average precision")
        axes.legend()
        _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    """Write `figure` to `path`, in the format its suffix names, whole or not at all."""
    sink = io.BytesIO()
    figure.savefig(sink, format=path.suffix.removeprefix("."))
    write_durably(path, sink.getvalue())


def _whole_range(axes: Axes, own: FloatDistribution | IntDistribution) -> None:
    """The searched range with a margin, so that what was never tried is seen too."""
    if own.log:
        axes.set_xscale("log")
        margin = (own.high / own.low) ** 0.04
        axes.set_xlim(own.low / margin, own.high * margin)
    else:
        margin = 0.04 * (own.high - own.low)
        axes.set_xlim(own.low - margin, own.high + margin)


def _points(axes: Axes, table: pd.DataFrame, x: pd.Series) -> None:
    complete = table["state"] == "complete"
    axes.scatter(x[complete], table["score"][complete], s=14, color=BLUE, label="complete")
    if complete.any():
        best = table["score"].where(complete).idxmax()
        axes.scatter([x[best]], [table["score"][best]], s=45, facecolors="none", edgecolors=BEST, lw=1.4, label="best")
    for state, marker in (("stopped", "|"), ("failed", "x")):
        mine = x[table["state"] == state]
        if len(mine):
            bottom = axes.get_xaxis_transform()
            axes.scatter(mine, [0.02] * len(mine), s=20, marker=marker, color=GREY, lw=1, transform=bottom, label=state)
