"""Figures of a predicted line against the range of the training lines."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from plotly.graph_objects import Figure as Drawing

from evaluation.line_page.likeness import Likeness
from evaluation.line_page.ranges import Counts, Spread
from evaluation.line_page.seen import Facts, SeenLine, count_spread
from evaluation.page import BLUE, GREY, RIVAL_COLOURS, Figure, Plot, drawing, plain


def links_per_gene(lines: Sequence[SeenLine], facts: Facts) -> Figure:
    """Called enhancers per gene."""
    return Figure(
        name="links-per-gene",
        title="Links per gene",
        plots=_counted(
            lines, facts, lambda own: own.per_gene, "called enhancers of a gene", "share of genes", "per_gene"
        ),
        reads="Each blue point is the share of genes with so many called enhancers, the gene's own promoter left out. "
        + _RANGE
        + " Blue above the grey bars on the right means more links than the training lines have.",
        alt="Share of genes by their number of called enhancers, against the range of the training lines.",
    )


def genes_per_enhancer(lines: Sequence[SeenLine], facts: Facts) -> Figure:
    """Called genes per enhancer."""
    return Figure(
        name="genes-per-enhancer",
        title="Genes per enhancer",
        plots=_counted(
            lines,
            facts,
            lambda own: own.per_enhancer,
            "called genes of an enhancer",
            "share of enhancers",
            "per_enhancer",
        ),
        reads="Each blue point is the share of elements that are linked with so many genes; those at 0 are called for "
        "none. " + _RANGE,
        alt="Share of enhancers by their number of called genes, against the range of the training lines.",
    )


def considered_per_gene(lines: Sequence[SeenLine], facts: Facts) -> Figure:
    """Enhancers asked about per gene."""
    return Figure(
        name="considered-per-gene",
        title="Enhancers asked about per gene",
        plots=_counted(lines, facts, lambda own: own.considered, "enhancers of a gene", "share of genes", "considered"),
        reads="How many pairs a gene was asked about with. " + _RANGE + " The more there are beyond it, the fewer of "
        "them interact, and the less the probabilities can be taken at their word.",
        alt="Share of genes by the number of enhancers they were paired with, against the range of the training lines.",
    )


def distances(lines: Sequence[SeenLine], facts: Facts) -> Figure:
    """Distances of all pairs, and of called ones."""
    plots = []
    for own in lines:
        at = facts.ranges.links_at(facts.threshold) if facts.ranges else None
        for counts, spread, what in (
            (own.called_distance, at.distance if at else None, "called pairs"),
            (own.distance, facts.ranges.distance if facts.ranges else None, "all pairs"),
        ):
            labels = span_labels(counts.cuts, _bp)
            panel = against_range(own.line, counts, spread, facts, labels, "distance", f"share of {what}")
            plots.append(Plot(_titled(own.line, lines, what), panel))
    return Figure(
        name="distances",
        title="Distances between enhancer and gene",
        plots=plots,
        reads="Shares of pairs by the distance between the middle of the enhancer and the TSS. " + _RANGE + " Called "
        "pairs should be nearer than all pairs; pairs farther apart than any the model learnt from are guesses.",
        alt="Share of pairs by distance, called ones and all, against the range of the training lines.",
        wide=True,
    )


def scores(lines: Sequence[SeenLine], facts: Facts) -> Figure:
    """Distribution of the scores."""
    plots = []
    for own in lines:
        spread = facts.ranges.logit if facts.ranges else None
        panel = drawing("score (logit)", "share of pairs")
        middle = _middles(own.logit.cuts)
        _range_and_line(panel, own.line, own.logit, spread, facts, middle.tolist(), slice(None))
        top = max(float(own.logit.shares.max(initial=0)), 0.01)
        panel.add_scatter(
            x=[facts.logit_threshold] * 2,
            y=[0, top],
            mode="lines",
            name="threshold",
            line={"color": RIVAL_COLOURS[2], "width": 1.5, "dash": "dash"},
        )
        plots.append(Plot(_titled(own.line, lines), panel))
    return Figure(
        name="scores",
        title="Scores",
        plots=plots,
        reads="Pairs to the right of the dashed threshold are called. " + _RANGE + " A blue heap that lies elsewhere "
        "as a whole means that a probability is not worth here what it was worth on the validation line.",
        alt="Histogram of the scores with the threshold, against the range of the training lines.",
    )


def far_or_near(place: int, line: str, found: Sequence[tuple[str, str, Likeness]]) -> Figure:
    """How far line number `place` is from the nearest training line; `found` has panel, axis and likeness."""
    plots = []
    for title, axis, own in found:
        panel = drawing(axis, "", 120 + 26 * (len(own.among) + 2))
        marks = [(plain(name), far, GREY, "circle", "training line") for name, far in own.among.items()]
        if np.isfinite(own.held_out):
            marks.append(("validation line", own.held_out, RIVAL_COLOURS[0], "diamond-open", "validation line"))
        marks.append((plain(line), own.distance, BLUE, "circle", "this line"))
        for kind in dict.fromkeys(mark[-1] for mark in marks):
            group = [mark for mark in marks if mark[-1] == kind]
            marker = {"color": group[0][2], "symbol": group[0][3], "size": 11}
            x, y = [mark[1] for mark in group], [mark[0] for mark in group]
            panel.add_scatter(x=x, y=y, mode="markers", marker=marker, name=kind, showlegend=False)
        panel.update_layout(xaxis={"rangemode": "tozero"}, yaxis={"type": "category"})
        plots.append(Plot(title, panel))
    return Figure(
        name=f"far-or-near-{place}",
        title=f"How far {line} is from the training lines",
        plots=plots,
        reads="Each dot is the distance of a line from the training line nearest to it; for a training line, from the "
        "nearest other one. Blue to the right of all grey dots is a line unlike those the model learnt from.",
        alt="Distance of each line from the nearest training line.",
        wide=True,
    )


def against_range(
    line: str, counts: Counts, spread: Spread | None, facts: Facts, labels: Sequence[str], x: str, y: str
) -> Drawing:
    """Shares of `counts` by bin, with the range of the training lines where `spread` has one."""
    panel = drawing(x, y)
    panel.update_layout(xaxis={"type": "category", "tickangle": -45, "nticks": 12})
    used = counts.bins > 0
    if spread:
        used |= np.max([spread.shares[own] for own in spread.shares], axis=0) > 0
    last = int(np.flatnonzero(used).max(initial=0)) + 1
    first = int(np.flatnonzero(used).min(initial=last - 1))
    _range_and_line(panel, line, counts, spread, facts, list(labels), slice(first, last))
    return panel


def span_labels(cuts: Sequence[float], told: Callable[[float], str]) -> list[str]:
    """Names of the bins between `cuts`."""
    inner = [f"{told(low)}-{told(high)}" for low, high in itertools.pairwise(cuts)]
    return [f"below {told(cuts[0])}", *inner, f"{told(cuts[-1])} on"]


def count_labels(cuts: Sequence[float]) -> list[str]:
    """Names of the bins of whole numbers between `cuts`, which end in .5."""
    ends = [-0.5, *cuts]
    lows, highs = [int(end + 0.5) for end in ends], [int(end - 0.5) for end in cuts]
    inner = [str(low) if low == high else f"{low}-{high}" for low, high in zip(lows, highs, strict=False)]
    return [*inner, f"{lows[-1]}+"]


_RANGE = "Grey bars reach from the lowest to the highest training line, orange is the validation line."


def _counted(
    lines: Sequence[SeenLine], facts: Facts, of: Callable[[SeenLine], np.ndarray], x: str, y: str, name: str
) -> list[Plot]:
    at = facts.ranges.links_at(facts.threshold) if facts.ranges else None
    spread = (facts.ranges.considered if facts.ranges else None) if name == "considered" else getattr(at, name, None)
    plots = []
    for own in lines:
        counts = count_spread(of(own))
        panel = against_range(own.line, counts, spread, facts, count_labels(counts.cuts), x, y)
        plots.append(Plot(_titled(own.line, lines), panel))
    return plots


def _range_and_line(
    panel: Drawing, line: str, counts: Counts, spread: Spread | None, facts: Facts, x: Sequence[object], part: slice
) -> None:
    if spread and facts.ranges:
        of_lines = np.array([spread.shares[own] for own in facts.ranges.train_lines])[:, part]
        low, high = of_lines.min(axis=0), of_lines.max(axis=0)
        panel.add_bar(
            x=x[part],
            base=low,
            # A range of no height would not be seen.
            y=np.maximum(high - low, 0.002),
            marker_color=GREY,
            opacity=0.45,
            name="training lines",
        )
        held_out = facts.ranges.held_out
        panel.add_scatter(
            x=x[part],
            y=np.array(spread.shares[held_out])[part],
            mode="markers",
            marker={"color": RIVAL_COLOURS[0], "symbol": "diamond-open", "size": 7},
            name=plain(f"{held_out} (validation)"),
        )
    panel.add_scatter(
        x=x[part],
        y=counts.shares[part],
        mode="lines+markers",
        line={"color": BLUE, "width": 2},
        marker={"size": 6},
        name=plain(line),
        showlegend=True,
    )


def _middles(cuts: Sequence[float]) -> np.ndarray:
    step = cuts[1] - cuts[0] if len(cuts) > 1 else 1.0
    return np.array([cuts[0] - step / 2, *(np.array(cuts) + step / 2)])


def _titled(line: str, lines: Sequence[SeenLine], what: str = "") -> str:
    return ", ".join(part for part in (line if len(lines) > 1 else "", what) if part)


def _bp(value: float) -> str:
    return f"{value / 1e6:g} Mb" if value >= 1e6 else f"{value / 1e3:g} kb"
