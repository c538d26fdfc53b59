"""How figures look: colours that colour-blind readers can tell apart, and the bare layout of a panel.

The colours are those of Okabe and Ito that can be seen on white and on black, and line styles differ as well. What
depends on the scheme (text, grid) is set by page.js when the page is shown.
"""

from __future__ import annotations

import html
from typing import Any

from plotly.graph_objects import Figure as Drawing

BLUE, GREY = "#0072B2", "#8A8A8A"
"""What a report is about, and what it is held against."""
RIVAL_COLOURS = ("#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
DASHES = ("dash", "dashdot", "dot", "longdash", "longdashdot")
SYMBOLS = ("square-open", "diamond-open", "triangle-up-open", "x-thin-open", "pentagon-open")


def rival_style(place: int) -> tuple[str, str, str]:
    """Colour, line style and marker of the rival at `place`: the colours come again with another style."""
    turn, at = divmod(place, len(RIVAL_COLOURS))
    return RIVAL_COLOURS[at], DASHES[(at + turn) % len(DASHES)], SYMBOLS[(at + turn) % len(SYMBOLS)]


def drawing(x: str, y: str, height: int = 300, **layout: Any) -> Drawing:
    """An empty panel with axes named `x` and `y`, `height` pixels high without its legend; `layout` as in plotly."""
    axis = {"automargin": True}
    legend = {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "maxheight": 1.0}
    legend |= {"xref": "container", "x": 0}
    made = Drawing()
    made.update_layout(
        height=height,
        margin={"l": 8, "r": 12, "t": 8, "b": 8},
        xaxis=axis | {"title": {"text": x, "standoff": 6}},
        yaxis=axis | {"title": {"text": y, "standoff": 6}},
        legend=legend | {"font": {"size": 11}},
        hovermode="closest",
    )
    made.update_layout(layout)
    return made


UNIT = {"range": [-0.02, 1.02], "dtick": 0.2}
"""An axis of probabilities."""


def plain(text: str) -> str:
    """`text` for a figure as it stands: plotly would take what looks like a tag or like mathematics in it for one."""
    return html.escape(text, quote=False).replace("$", "&#36;")
