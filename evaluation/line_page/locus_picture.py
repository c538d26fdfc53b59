"""A locus as a picture for a paper: SVG, whose text stays text, and PNG. The same locus gives the same SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from evaluation.line_page.locus import Gene, LineAtLocus, Locus, arc, weight
from evaluation.page import BLUE, GREY, RIVAL_COLOURS

WIDTH = 9.0
"""Inches."""
ARCS, TRACK, GENES = 1.9, 0.55, 0.75
"""Heights of the rows in inches."""
LABEL = 0.013
"""Share of the width that a letter of a gene's name takes."""
LEVELS = 3
"""Rows that names of genes are put in; a name without room has none."""
MB = 1e6


def locus_picture(locus: Locus, kind: Literal["svg", "png"]) -> bytes:
    """The content of a file of `kind`."""
    heights = [height for own in locus.lines for height in (ARCS, *[TRACK] * len(_signals(own)))] + [GENES]
    # The text of an SVG stays text, its identifiers do not change from run to run, and names with $ are no mathematics.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "locus", "text.parse_math": False, "font.size": 8}):
        figure = Figure(figsize=(WIDTH, sum(heights) + 0.7), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
        row = 0
        for own in locus.lines:
            _arcs(axes[row], locus, own)
            for place, (name, values) in enumerate(_signals(own).items()):
                row += 1
                _signal(axes[row], locus, own, name, values, RIVAL_COLOURS[place % len(RIVAL_COLOURS)])
            row += 1
        _genes(axes[row], locus)
        axes[0].set_title(f"{locus.gene}   {locus.chrom}:{locus.start:,}-{locus.end:,}", loc="left", fontsize=10)
        axes[-1].set_xlabel(f"{locus.chrom}, Mb")
        axes[-1].set_xlim(locus.start / MB, locus.end / MB)
        for axis in axes:
            axis.spines[["top", "right"]].set_visible(False)
        file = io.BytesIO()
        figure.savefig(file, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


def _signals(own: LineAtLocus) -> dict[str, Any]:
    return own.tracks or own.pairs.signals


def _arcs(axis: Any, locus: Locus, own: LineAtLocus) -> None:
    pairs = own.pairs
    for row in range(len(pairs.names)):
        x, y = arc(int(pairs.centre[row]), int(pairs.tss[row]), locus.end - locus.start)
        called = bool(pairs.called[row])
        width, opacity = weight(float(pairs.probability[row]), locus.threshold, called)
        axis.plot(x / MB, y, color=BLUE if called else GREY, linewidth=width, alpha=opacity, solid_capstyle="round")
    for called, colour in ((False, GREY), (True, BLUE)):
        chosen = pairs.called == called
        spans = np.stack([pairs.start[chosen], pairs.end[chosen] - pairs.start[chosen]], axis=1) / MB
        axis.broken_barh(spans.tolist(), (-0.06, 0.05), facecolors=colour)
    axis.set_ylim(-0.08, 1.05)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.set_ylabel(own.line)


def _signal(axis: Any, locus: Locus, own: LineAtLocus, name: str, values: Any, colour: str) -> None:
    if own.tracks:
        steps = axis.stairs(values, locus.bins / MB, fill=True, color=colour)
        # Nothing lies outside; what an SVG calls a clip depends on where that lies in memory.
        steps.set_clip_on(False)
    else:
        axis.vlines(own.pairs.centre / MB, 0, values, color=colour, linewidth=1.5)
    axis.set_ylim(bottom=0)
    axis.locator_params(axis="y", nbins=3)
    axis.set_ylabel(name, rotation=0, ha="right", va="center")


def _genes(axis: Any, locus: Locus) -> None:
    for gene in locus.genes:
        mine = gene.name == locus.gene
        marker = {1: ">", -1: "<"}.get(gene.strand, "o")
        axis.plot(gene.tss / MB, 0, marker, color=RIVAL_COLOURS[2] if mine else GREY, markersize=6 if mine else 4)
    for gene, level in labelled(locus.genes, locus.gene, locus.start, locus.end):
        mine = gene.name == locus.gene
        style = {"color": "black", "fontweight": "bold"} if mine else {"color": "#5a626b"}
        axis.text(gene.tss / MB, 0.55 + 0.75 * level, gene.name, ha="center", fontsize=7, **style)
    axis.set_ylim(-0.5, 0.6 + 0.75 * LEVELS)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.set_ylabel("genes", rotation=0, ha="right", va="center")


def labelled(genes: Sequence[Gene], first: str, start: int, end: int) -> list[tuple[Gene, int]]:
    """Genes whose name has room, with the row it is put in; the gene `first` has room before all others."""
    taken: list[list[tuple[float, float]]] = [[] for _ in range(LEVELS)]
    found = []
    for gene in sorted(genes, key=lambda own: (own.name != first, own.tss)):
        middle, half = (gene.tss - start) / (end - start), LABEL * len(gene.name) / 2
        for level, spans in enumerate(taken):
            if all(middle + half < low or middle - half > high for low, high in spans):
                spans.append((middle - half, middle + half))
                found.append((gene, level))
                break
    return found
