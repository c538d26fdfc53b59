"""The values of a categorical setting (the modes of balancing) against each other, and what they cost."""

from __future__ import annotations

import math

import numpy as np
from plotly.graph_objects import Figure as Drawing

from evaluation.page import BLUE, GREY, RIVAL_COLOURS, Figure, Plot, drawing, plain
from tune.region import Mode, Modes, Versus
from tune.search_page.labels import counted, short

SHOWN = 30
"""Pairs of a forest plot; a page has the rest in its table."""
SURE = 0.05
"""Corrected p-value from which two modes cannot be told apart."""


def forest_figure(modes: Modes, place: int) -> Figure:
    """Paired differences of all pairs, tuned and untuned, the largest first."""
    left = f" The {SHOWN} largest differences are drawn; the table has all." if len(modes.tuned) > SHOWN else ""
    return Figure(
        name=f"modes-{place}",
        title=f"Values of {short(modes.key)} against each other",
        plots=[
            Plot("Tuned: each at a point chosen by the other lines", _forest(modes.tuned)),
            Plot("Untuned: the mean over its points", _forest(modes.untuned)),
        ],
        reads="To the right of zero the first of a pair scores higher on the same lines and seeds; the bar is the "
        "95 % interval over lines. Filled discs are the pairs that Holm's correction over all pairs still tells apart "
        f"(p below {SURE:g}); an open one is no difference to build on, wherever it stands.{left}",
        alt="Paired difference in average precision for every pair of modes with its interval over lines.",
        wide=True,
    )


def _forest(pairs: list[Versus]) -> Drawing:
    kept = sorted(pairs, key=lambda pair: -abs(pair.difference.value))[:SHOWN]
    # Each is told so that the difference is positive: a reader then looks along one side of zero.
    rows = sorted((_ahead(pair) for pair in kept), key=lambda row: -row[1])
    panel = drawing("difference in AP", "", 70 + 22 * len(rows))
    panel.update_layout(
        xaxis={"zeroline": True, "zerolinewidth": 2},
        yaxis={"tickvals": list(range(len(rows))), "ticktext": [plain(name) for name, *_ in rows], "showgrid": False,
               "range": [len(rows) - 0.5, -0.5], "zeroline": False},
    )  # fmt: skip
    x, y = [], []
    for at, (_, _, low, high, _) in enumerate(rows):
        if math.isfinite(low):
            x += [low, high, None]
            y += [at, at, None]
    if x:
        panel.add_scatter(x=x, y=y, mode="lines", name="95 % interval over lines", hoverinfo="skip",
                          line={"color": BLUE, "width": 2})  # fmt: skip
    sure = [p < SURE for *_, p in rows]
    for told, name, symbol in ((True, "told apart", "circle"), (False, "not told apart", "circle-open")):
        places = [place for place, own in enumerate(sure) if own is told]
        if places:
            panel.add_scatter(
                x=[rows[place][1] for place in places], y=places, mode="markers", name=name,
                marker={"color": BLUE, "size": 9, "symbol": symbol, "line": {"width": 2, "color": BLUE}},
                text=[f"p {rows[place][4]:.3f}" for place in places],
            )  # fmt: skip
    return panel


def _ahead(pair: Versus) -> tuple[str, float, float, float, float]:
    """Name, difference, both ends and p of a pair, told from the better one."""
    own = pair.difference
    if own.value < 0:
        return f"{pair.other} \u2212 {pair.one}", -own.value, -own.high, -own.low, pair.p
    return f"{pair.one} \u2212 {pair.other}", own.value, own.low, own.high, pair.p


def cost_figure(modes: Modes, place: int) -> Figure | None:
    """Score against seconds per step; None where the table knows no times."""
    known = sorted((own for own in modes.modes if own.seconds_per_step > 0), key=lambda own: own.seconds_per_step)
    if len(known) < 2:
        return None
    panel = drawing("milliseconds per step", "AP", 380)
    x = [1000 * own.seconds_per_step for own in known]
    gap = 0.15 * (max(x) - min(x) or 1.0)
    panel.update_layout(
        xaxis={"range": [min(x) - gap, max(x) + gap]},
        yaxis={"range": _heights([own.tuned for own in known] + [own.untuned for own in known])},
    )
    for own, at in zip(known, x, strict=True):
        panel.add_scatter(x=[at, at], y=[own.untuned, own.tuned], mode="lines", showlegend=False, hoverinfo="skip",
                          line={"color": GREY, "width": 1, "dash": "dot"})  # fmt: skip
    panel.add_scatter(
        x=x, y=[own.untuned for own in known], mode="markers", name="untuned",
        marker={"color": RIVAL_COLOURS[0], "size": 9, "symbol": "square-open", "line": {"width": 2}},
    )  # fmt: skip
    panel.add_scatter(
        x=x, y=[own.tuned for own in known], mode="markers+text", name="tuned", textposition=_sides(known),
        text=[plain(str(own.value)) for own in known], marker={"color": BLUE, "size": 10}, textfont={"size": 11},
    )  # fmt: skip
    count = counted(min(own.points for own in known), "complete trial")
    return Figure(
        name=f"cost-{place}",
        title=f"What the values of {short(modes.key)} cost and gain",
        plots=[Plot("", panel)],
        reads="Up is better, right is dearer: a mode with another one above and to the left of it is not worth its "
        f"time. A disc is the tuned score, a square the mean over a mode's points ({count} at least); where the two "
        "are far apart the mode needs tuning.",
        alt="Score of each mode, tuned and untuned, against the time of a training step.",
        wide=True,
    )


def _sides(known: list[Mode]) -> list[str]:
    """Names stand away from the square, and on the other side where they would touch the name before."""
    wide = 0.25 * max(float(np.ptp([own.seconds_per_step for own in known])), 1e-9)
    high = 0.1 * max(float(np.ptp([own.tuned for own in known])), 1e-9)
    sides: list[str] = []
    for at, own in enumerate(known):
        above = own.tuned >= own.untuned
        last = known[at - 1] if at else None
        if last and own.seconds_per_step - last.seconds_per_step < wide and abs(own.tuned - last.tuned) < high:
            above = sides[-1] == "bottom center"
        sides.append("top center" if above else "bottom center")
    return sides


def _heights(scores: list[float]) -> list[float]:
    gap = max(float(np.ptp(scores)), 1e-3)
    return [min(scores) - 0.2 * gap, max(scores) + 0.2 * gap]
