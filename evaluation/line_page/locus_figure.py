"""A locus as a figure of the page, where one can point at an arc and read whose it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from evaluation.line_page.locus import LineAtLocus, Locus, arc, reads, weight
from evaluation.page import BLUE, GREY, RIVAL_COLOURS, Figure, Plot, drawing, plain

ARCS, TRACK, GENES, GAP = 150, 55, 60, 16
"""Heights of the rows, and of what lies between them, in pixels."""
MB = 1e6


def locus_figure(locus: Locus, place: int) -> Figure:
    """The figure of locus number `place`."""
    return Figure(
        name=f"locus-{place}",
        title=f"{locus.gene}, {locus.chrom}:{locus.start:,}-{locus.end:,}",
        plots=[Plot(own.line if len(locus.lines) > 1 else "", _panel(locus, own)) for own in locus.lines],
        reads=reads(locus),
        alt=f"Arcs from enhancers to {locus.gene}, genes around it, and signals along the genome.",
        wide=True,
    )


def _panel(locus: Locus, own: LineAtLocus) -> Any:
    signals = own.tracks or own.pairs.signals
    heights = [ARCS, *[TRACK] * len(signals), GENES]
    total = sum(heights) + GAP * (len(heights) - 1)
    panel = drawing(f"{locus.chrom}, Mb", "", total + 40)
    tops = np.cumsum([0, *[height + GAP for height in heights]])[:-1]
    for row, (height, top) in enumerate(zip(heights, tops, strict=True)):
        domain = [1 - (top + height) / total, 1 - top / total]
        panel.update_layout(
            {
                _axis("y", row): {
                    "domain": domain,
                    "automargin": True,
                    "fixedrange": True,
                    "nticks": 3,
                    "title": {"text": ""},
                }
            }
        )
    panel.update_layout(
        xaxis={"range": [locus.start / MB, locus.end / MB], "anchor": _trace_axis(len(heights) - 1)}, showlegend=False
    )
    _arcs(panel, locus, own)
    for row, (name, values) in enumerate(signals.items(), start=1):
        panel.update_layout({_axis("y", row): {"title": {"text": plain(name), "font": {"size": 11}}}})
        _signal(panel, locus, own, values, row)
    _genes(panel, locus, len(heights) - 1)
    return panel


def _arcs(panel: Any, locus: Locus, own: LineAtLocus) -> None:
    pairs, span = own.pairs, locus.end - locus.start
    panel.update_layout(yaxis={"range": [-0.03, 1.05], "visible": False})
    for row in range(len(pairs.names)):
        x, y = arc(int(pairs.centre[row]), int(pairs.tss[row]), span)
        called = bool(pairs.called[row])
        width, opacity = weight(float(pairs.probability[row]), locus.threshold, called)
        apart = abs(int(pairs.centre[row] - pairs.tss[row])) / 1000
        told = f"{pairs.names[row]}, {apart:,.0f} kb, p {pairs.probability[row]:.3f}"
        panel.add_scatter(
            x=x / MB,
            y=y,
            mode="lines",
            line={"color": BLUE if called else GREY, "width": width},
            opacity=opacity,
            name=plain(told),
            hoverinfo="name",
            hoverlabel={"namelength": -1},
        )
    panel.add_scatter(
        x=pairs.centre / MB,
        y=np.zeros(len(pairs.names)),
        mode="markers",
        marker={"symbol": "square", "size": 5, "color": [BLUE if called else GREY for called in pairs.called]},
        hoverinfo="skip",
        name="enhancers",
    )


def _signal(panel: Any, locus: Locus, own: LineAtLocus, values: np.ndarray, row: int) -> None:
    colour = RIVAL_COLOURS[(row - 1) % len(RIVAL_COLOURS)]
    if own.tracks:
        # A step per bin, closed along 0.
        x, y = np.repeat(locus.bins, 2)[1:-1], np.repeat(values, 2)
        panel.add_scatter(
            x=x / MB, y=y, mode="lines", fill="tozeroy", line={"color": colour, "width": 0.8}, name="signal",
            hoverinfo="y", yaxis=_trace_axis(row),
        )  # fmt: skip
    else:
        marker = {"color": colour, "size": 6}
        panel.add_scatter(
            x=own.pairs.centre / MB, y=values, mode="markers", marker=marker, name="signal", hoverinfo="y",
            yaxis=_trace_axis(row),
        )  # fmt: skip


def _genes(panel: Any, locus: Locus, row: int) -> None:
    panel.update_layout({_axis("y", row): {"range": [-0.6, 2.6], "visible": False}})
    own = [gene.name == locus.gene for gene in locus.genes]
    panel.add_scatter(
        x=[gene.tss / MB for gene in locus.genes],
        y=[0] * len(locus.genes),
        mode="markers",
        marker={
            "symbol": [{1: "triangle-right", -1: "triangle-left"}.get(gene.strand, "circle") for gene in locus.genes],
            "size": [12 if mine else 8 for mine in own],
            "color": [RIVAL_COLOURS[2] if mine else GREY for mine in own],
        },
        text=[plain(gene.name) for gene in locus.genes],
        hoverinfo="text",
        name="genes",
        yaxis=_trace_axis(row),
    )
    panel.add_scatter(
        x=[locus.tss / MB], y=[1.3], mode="text", text=[f"<b>{plain(locus.gene)}</b>"], hoverinfo="skip", name="gene",
        # Away from the nearer edge, where it would be cut off on a telephone.
        textposition="middle right" if 2 * locus.tss < locus.start + locus.end else "middle left",
        yaxis=_trace_axis(row),
    )  # fmt: skip


def _axis(letter: str, row: int) -> str:
    return f"{letter}axis{row + 1 if row else ''}"


def _trace_axis(row: int) -> str:
    return f"y{row + 1 if row else ''}"
