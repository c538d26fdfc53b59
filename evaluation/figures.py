"""Figures of a report: average precision by line, precision-recall, reliability, scores by label, training curves.

One panel per quadrant and cell line, test lines first. Precision-recall, reliability and scores are drawn for the lines
no training saw; of the others the average precision with its interval is drawn, and the tables have the rest.
Curves are thinned to what a panel can show. Cost: about a second in all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from plotly.graph_objects import Figure as Drawing
from scipy.special import expit, logit
from sklearn.metrics import precision_recall_curve

from evaluation.calibration import Calibration, reliability
from evaluation.line_transfer import JudgedLine
from evaluation.metrics import average_precision, has_both_classes
from evaluation.page import BLUE, GREY, RIVAL_COLOURS, UNIT, Figure, Plot, drawing, plain, rival_style
from evaluation.quadrants import QUADRANTS, ROLES, Row, rivals

POINTS = 300
"""Points of a thinned curve, about one per pixel of a panel."""


def average_precision_by_line(lines: Sequence[Row]) -> Figure:
    """Average precision of the model and its rivals in every row of `evaluate_lines`, a panel per quadrant."""
    panels = []
    for quadrant in QUADRANTS:
        rows = [row for row in lines if row["quadrant"] == quadrant and np.isfinite(row["ap"])]
        if rows:
            panels.append(Plot(quadrant.replace("_", " "), _by_line(rows)))
    return Figure(
        name="average-precision",
        title="Average precision by cell line",
        plots=panels,
        reads="Blue dots are the model with their 95 % intervals, further right is better. See by how much they lie to "
        "the right of the open marks of the rivals, and whether any line stays behind; the grey tick is what guessing "
        "gets.",
        alt="Average precision of the model with its interval, of its rivals, and the prevalence, by cell line.",
        wide=True,
    )


def precision_recall(predictions: pd.DataFrame) -> Figure:
    """Precision against recall of the model and its rivals, with the prevalence; `predictions` as in `quadrants`."""

    def draw(group: pd.DataFrame) -> Drawing:
        labels = group["label"].to_numpy(dtype=np.int8)
        panel = drawing("recall", "precision", xaxis=UNIT, yaxis=UNIT)
        curves = [("model", "logit", {"color": BLUE, "width": 2.6})]
        for place, (name, column) in enumerate(rivals(group).items()):
            colour, dash, _ = rival_style(place)
            curves.append((name, column, {"color": colour, "dash": dash, "width": 1.4}))
        for name, column, style in curves:
            scores = group[column].to_numpy(dtype=np.float64)
            if has_both_classes(labels) and np.isfinite(scores).all():
                recall, precision = _curve(labels, scores)
                told = f"{plain(name)} {average_precision(labels, scores):.3f}"
                panel.add_scatter(x=recall, y=precision, mode="lines", line={**style, "shape": "hv"}, name=told)
        share = float(labels.mean())
        _straight(panel, [0, 1], [share, share], f"prevalence {share:.3f}")
        return panel

    return Figure(
        name="precision-recall",
        title="Precision and recall",
        plots=_panels(predictions, draw),
        reads="Follow the blue curve from the left: it says how many of the pairs called first do interact (precision) "
        "until a share of all interactions is found (recall). Further up and right is better; the number behind a name "
        "is its average precision.",
        alt="Precision against recall of the model and its rivals.",
    )


def reliability_diagram(predictions: pd.DataFrame, calibration: Calibration, bins: int = 15) -> Figure:
    """Observed frequency against mean probability in equal-width `bins`, before and after `calibration`."""

    def draw(group: pd.DataFrame) -> Drawing:
        labels, logits = group["label"].to_numpy(), group["logit"].to_numpy(dtype=np.float64)
        panel = drawing("predicted probability", "observed frequency", xaxis=UNIT, yaxis=UNIT)
        _straight(panel, [0, 1], [0, 1], "perfect")
        for name, p, colour, symbol in (
            ("before calibration", expit(logits), RIVAL_COLOURS[0], "square"),
            ("after", calibration.apply(logits), BLUE, "circle"),
        ):
            mean_p, mean_y, _ = reliability(labels, p, bins)
            marker = {"symbol": symbol, "size": 6}
            panel.add_scatter(x=mean_p, y=mean_y, mode="lines+markers", name=name, line_color=colour, marker=marker)
        return panel

    return Figure(
        name="reliability",
        title="Reliability of the probabilities",
        plots=_panels(predictions, draw),
        reads="On the grey diagonal a probability is what it says. Blue points below it promise too much, points above "
        "it too little; the distance from orange to blue is what the calibration on the validation line mended.",
        alt="Observed frequency of interaction against predicted probability, before and after calibration.",
    )


def left_out_reliability(judged: Sequence[JudgedLine], bins: int = 15) -> Figure:
    """Observed frequency against mean probability of lines under a calibration that did not see their labels."""
    panels = []
    for own in judged:
        panel = drawing("predicted probability", "observed frequency", xaxis=UNIT, yaxis=UNIT)
        _straight(panel, [0, 1], [0, 1], "perfect")
        for name, logits, colour, symbol in (
            ("as calibrated", own.logits, BLUE, "circle"),
            ("shifted", own.logits + own.offset, RIVAL_COLOURS[0], "square"),
        ):
            mean_p, mean_y, _ = reliability(own.labels, expit(logits), bins)
            marker = {"symbol": symbol, "size": 6}
            panel.add_scatter(x=mean_p, y=mean_y, mode="lines+markers", name=name, line_color=colour, marker=marker)
        panels.append(Plot(f"{own.line}, calibrated on {own.fitted_to}", panel))
    return Figure(
        name="left-out-reliability",
        title="Reliability on lines the calibration was not fitted to",
        plots=panels,
        reads="As far from the grey diagonal as these lines are, a new line may be: blue with the calibration as it "
        "comes, orange after the shift to the prevalence estimated from the scores alone.",
        alt="Observed frequency against predicted probability of lines left out of the calibration.",
    )


def scores_by_label(predictions: pd.DataFrame, calibration: Calibration) -> Figure:
    """Density of the logits by label, with the frozen threshold."""
    threshold = calibration.temperature * (logit(calibration.threshold) - calibration.bias)

    def draw(group: pd.DataFrame) -> Drawing:
        logits = group["logit"].to_numpy(dtype=np.float64)
        edges = np.histogram_bin_edges(logits, bins=30)
        panel = drawing("logit", "density", barmode="overlay", bargap=0)
        top = 0.0
        for label, name, colour in ((0, "does not interact", GREY), (1, "interacts", BLUE)):
            values = logits[group["label"].to_numpy() == label]
            if values.size:
                heights, _ = np.histogram(values, edges, density=True)
                told, middle = f"{name} ({values.size:,})", (edges[1:] + edges[:-1]) / 2
                panel.add_bar(x=middle, y=heights, width=np.diff(edges), marker_color=colour, opacity=0.6, name=told)
                top = max(top, float(heights.max()))
        if np.isfinite(threshold):
            line = {"color": RIVAL_COLOURS[2], "width": 1.5, "dash": "dash"}
            panel.add_scatter(x=[threshold] * 2, y=[0, top], mode="lines", name="threshold", line=line)
        return panel

    return Figure(
        name="scores",
        title="Scores by label",
        plots=_panels(predictions, draw),
        reads="The less the two heaps overlap, the better the pairs are told apart; what of the blue heap lies to the "
        "left of the threshold is missed, what of the grey one lies to its right is called wrongly.",
        alt="Histograms of the logits of pairs that interact and of pairs that do not, with the threshold.",
    )


def training_curves(table: pd.DataFrame, panels: Mapping[str, Sequence[str]], x: str = "step") -> Figure:
    """Columns of a metrics `table` against its column `x`, NaN rows of a column skipped.

    `panels` maps a panel's title to the columns drawn in it; a panel without columns is left out.
    """
    plots = []
    for title, columns in panels.items():
        panel = drawing(x, "", 260)
        for place, column in enumerate(columns):
            points = table[[x, column]].dropna()
            kept = _thinned(len(points))
            colour, dash, _ = (BLUE, "solid", "") if place == 0 else rival_style(place - 1)
            panel.add_scatter(
                x=points[x].to_numpy()[kept],
                y=points[column].to_numpy(dtype=np.float64)[kept],
                mode="lines+markers" if len(points) < 30 else "lines",
                line={"color": colour, "dash": dash, "width": 1.6},
                name=plain(column),
                showlegend=True,
            )
        if columns:
            plots.append(Plot(title, panel))
    return Figure(
        name="training",
        title="Training curves",
        plots=plots,
        reads="The loss should fall and flatten; average precision on the validation line should have stopped rising, "
        "and a training curve that goes on rising far above it is memory.",
        alt="What the run recorded against the step of training.",
    )


def _by_line(rows: Sequence[Row]) -> Drawing:
    names = [plain(row["line"] if row["role"] == "test" else f"{row['line']} ({row['role']})") for row in rows]
    panel = drawing("average precision", "", 70 + 30 * len(rows), xaxis=UNIT, yaxis_autorange="reversed")
    ap = np.array([row["ap"] for row in rows])
    low, high = (np.array([row[f"ap_{end}"] for row in rows]) for end in ("low", "high"))
    error = {"array": high - ap, "arrayminus": ap - low, "thickness": 2, "width": 0, "color": BLUE}
    panel.add_scatter(x=ap, y=names, mode="markers", marker={"color": BLUE, "size": 9}, error_x=error, name="model")
    for place, rival in enumerate(dict.fromkeys(name for row in rows for name in row["rivals"])):
        colour, _, symbol = rival_style(place)
        scores = [row["rivals"].get(rival, {}).get("ap", np.nan) for row in rows]
        marker = {"color": colour, "symbol": symbol, "size": 8, "line": {"width": 2, "color": colour}}
        panel.add_scatter(x=scores, y=names, mode="markers", marker=marker, name=plain(rival))
    best = [row["bayes_ap"] for row in rows]
    if np.isfinite(best).any():
        star = {"color": RIVAL_COLOURS[2], "symbol": "star", "size": 9}
        panel.add_scatter(x=best, y=names, mode="markers", marker=star, name="best possible")
    tick = {"symbol": "line-ns", "size": 10, "line": {"width": 2, "color": GREY}}
    panel.add_scatter(x=[row["prevalence"] for row in rows], y=names, mode="markers", marker=tick, name="prevalence")
    return panel


def _curve(labels: NDArray[np.int8], scores: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Recall and precision from the first pair called on, at most `POINTS` of them, evenly in recall."""
    precision, recall, _ = precision_recall_curve(labels, scores)
    # Its last point (recall 0, precision 1) is a convention, not a threshold; the list begins with all pairs called.
    precision, recall = precision[-2::-1], recall[-2::-1]
    first = np.searchsorted(recall, np.linspace(0, 1, POINTS - 1)).clip(max=len(recall) - 1)
    kept = np.unique([*first, len(recall) - 1])
    return recall[kept].astype(np.float32), precision[kept].astype(np.float32)


def _thinned(length: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, length - 1, min(length, POINTS)).astype(np.int64))


def _straight(panel: Drawing, x: Sequence[float], y: Sequence[float], name: str) -> None:
    panel.add_scatter(x=x, y=y, mode="lines", line={"color": GREY, "width": 1}, name=name, hoverinfo="skip")


def _panels(predictions: pd.DataFrame, draw: Callable[[pd.DataFrame], Drawing]) -> list[Plot]:
    return [Plot(title, draw(group)) for title, group in _groups(predictions)]


def _groups(predictions: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Title and pairs of each line and quadrant no training saw (all of them where there is no such line)."""
    unseen = predictions["quadrant"].str.startswith("unseen_line")
    groups = dict(list(predictions[unseen if unseen.any() else ~unseen].groupby(["quadrant", "line"], observed=True)))
    # Quadrants in the order of the tables, the test line before the validation line it may share a quadrant with.
    order = sorted(groups, key=lambda key: (QUADRANTS.index(key[0]), ROLES.index(groups[key]["role"].iloc[0]), key[1]))
    for quadrant, line in order:
        group = groups[quadrant, line]
        yield f"{line} ({group['role'].iloc[0]}), {quadrant.replace('_', ' ')}", group
