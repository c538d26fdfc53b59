"""Figures of a report: precision-recall, reliability, score distributions, training curve; PNG at 150 dpi.

One panel per quadrant and cell line, test lines first. Colours are the Okabe-Ito set, safe for colour-blind readers,
and line styles differ as well. No pyplot state is touched, so figures may be drawn in any process without a
display. Cost: about a second per figure.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import expit, logit
from sklearn.metrics import precision_recall_curve

from data_pipeline.durable import write_durably
from evaluation.calibration import Calibration, reliability
from evaluation.metrics import average_precision, has_both_classes
from evaluation.quadrants import QUADRANTS, ROLES, rivals

BLUE, GREY = "#0072B2", "#8A8A8A"
RIVAL_COLOURS = ("#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
RIVAL_STYLES = ("--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
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
PANEL_INCHES = (2.9, 2.5)
MOST_COLUMNS = 4


def plot_precision_recall(predictions: pd.DataFrame, path: Path) -> None:
    """Precision against recall of the model and its rivals, with the prevalence; AP in the legend.

    `predictions` as in `quadrants`, with known labels.
    """

    def draw(axes: Axes, group: pd.DataFrame) -> None:
        labels = group["label"].to_numpy(dtype=np.int8)
        axes.axhline(labels.mean(), color=GREY, linewidth=0.8, label=f"prevalence {labels.mean():.3f}")
        curves: list[tuple[str, str, str, Any, float]] = [("model", "logit", BLUE, "-", 1.6)]
        for i, (name, column) in enumerate(rivals(group).items()):
            style = RIVAL_STYLES[i % len(RIVAL_STYLES)]
            curves.append((name, column, RIVAL_COLOURS[i % len(RIVAL_COLOURS)], style, 0.9))
        for name, column, colour, style, width in reversed(curves):
            scores = group[column].to_numpy(dtype=np.float64)
            if has_both_classes(labels) and np.isfinite(scores).all():
                precision, recall, _ = precision_recall_curve(labels, scores)
                label = f"{name} {average_precision(labels, scores):.3f}"
                axes.step(recall, precision, where="post", color=colour, ls=style, lw=width, label=label)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        handles, names = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], names[::-1], loc="upper right")

    _panels(predictions, path, draw)


def plot_reliability(predictions: pd.DataFrame, calibration: Calibration, path: Path, bins: int = 15) -> None:
    """Observed frequency against mean probability in equal-width bins, before and after calibration."""

    def draw(axes: Axes, group: pd.DataFrame) -> None:
        labels, logits = group["label"].to_numpy(), group["logit"].to_numpy(dtype=np.float64)
        axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, label="perfect")
        for name, p, colour, marker in (
            ("before", expit(logits), RIVAL_COLOURS[0], "s"),
            ("after", calibration.apply(logits), BLUE, "o"),
        ):
            mean_p, mean_y, _ = reliability(labels, p, bins)
            axes.plot(mean_p, mean_y, color=colour, marker=marker, markersize=3, lw=1.2, label=name)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted probability", ylabel="observed frequency")
        axes.legend(loc="upper left")

    _panels(predictions, path, draw)


def plot_scores(predictions: pd.DataFrame, calibration: Calibration, path: Path) -> None:
    """Density of the logits by label, with the frozen threshold."""
    threshold = calibration.temperature * (logit(calibration.threshold) - calibration.bias)

    def draw(axes: Axes, group: pd.DataFrame) -> None:
        logits = group["logit"].to_numpy(dtype=np.float64)
        edges = np.histogram_bin_edges(logits, bins=30)
        for label, name, colour in ((0, "does not interact", GREY), (1, "interacts", BLUE)):
            values = logits[group["label"].to_numpy() == label]
            if values.size:
                axes.hist(
                    values,
                    bins=edges.tolist(),
                    density=True,
                    color=colour,
                    alpha=0.55,
                    label=f"{name} ({values.size:,})",
                )
        if np.isfinite(threshold):
            axes.axvline(threshold, color=RIVAL_COLOURS[2], lw=1, ls="--", label="threshold")
        # room above the bars for the legend
        axes.set(xlabel="logit", ylabel="density", ylim=(0, 1.4 * axes.get_ylim()[1]))
        axes.legend(loc="upper right")

    _panels(predictions, path, draw)


def plot_training_curve(
    table: pd.DataFrame, path: Path, panels: Mapping[str, Sequence[str]] | None = None, x: str = "step"
) -> None:
    """Columns of a metrics `table` against its column `x`, NaN rows of a column skipped.

    `panels` maps a panel's title to the columns drawn in it; without it every numeric column has its own.
    """
    numeric = [str(name) for name in table.select_dtypes("number") if name != x]
    chosen = panels or {name: [name] for name in numeric}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.5, 1.9 * max(len(chosen), 1)), layout="constrained")
        grid = figure.subplots(max(len(chosen), 1), 1, squeeze=False, sharex=True)[:, 0]
        for axes, (title, columns) in zip(grid, chosen.items(), strict=False):
            for i, column in enumerate(columns):
                points = table[[x, column]].dropna()
                colour = (BLUE, *RIVAL_COLOURS)[i % (1 + len(RIVAL_COLOURS))]
                axes.plot(points[x], points[column], color=colour, lw=1.2, label=column)
            axes.set_title(title, loc="left")
            if len(columns) > 1:
                axes.legend(ncols=2)
        grid[-1].set_xlabel(x)
        write_figure(figure, path)


def write_figure(figure: Figure, path: Path) -> None:
    """Write `figure` to `path`, in the format its suffix names, whole or not at all."""
    sink = io.BytesIO()
    figure.savefig(sink, format=path.suffix.removeprefix("."))
    write_durably(path, sink.getvalue())


def _panels(predictions: pd.DataFrame, path: Path, draw: Callable[[Axes, pd.DataFrame], None]) -> None:
    groups = dict(list(predictions.groupby(["quadrant", "line"], observed=True, sort=True)))
    # Quadrants in the order of the tables, the test line before the validation line it may share a quadrant with.
    order = sorted(groups, key=lambda key: (QUADRANTS.index(key[0]), ROLES.index(groups[key]["role"].iloc[0]), key[1]))
    columns = min(MOST_COLUMNS, len(order))
    rows = -(-len(order) // columns)
    width, height = PANEL_INCHES
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (quadrant, line) in zip(grid, order, strict=False):
            group = groups[quadrant, line]
            draw(axes, group)
            axes.set_title(f"{line} ({group['role'].iloc[0]}), {quadrant.replace('_', ' ')}", loc="left")
        for axes in grid[len(order) :]:
            axes.set_visible(False)
        write_figure(figure, path)
