"""How the page of a search names settings, writes numbers and lays out the axis of a setting."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from plotly.graph_objects import Figure as Drawing

from evaluation.page import GREY, plain
from tune.region import CLAIMED, OLD, STRENGTHS, TERM, AxisRegion, Estimate, Landscape, Part

EVERYWHERE = "all trials"
"""Name of the part whose settings all trials vary."""
OLD_FILL, CLAIMED_FILL = "rgba(138,138,138,0.20)", "rgba(0,158,115,0.16)"
"""Zones of a loss weight: seen on white and on black."""
SCALE = [[0.0, "#D55E00"], [0.5, "#A0A0A0"], [1.0, "#0072B2"]]
"""From low to high, of equal lightness, so that both ends are seen on white and on black."""


def short(key: str) -> str:
    """`grl weight` of `objective.terms.grl.weight`: the key without what all keys begin with, in words."""
    return key.removeprefix(TERM).removeprefix("objective.").replace(".", " ")


def number(value: float | None, digits: int = 4, sign: str = "") -> str:
    """`value` to `digits` decimals; '-' where it does not exist."""
    if value is None or not math.isfinite(value):
        return "-"
    # Adding 0 makes a 0 of a -0.
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"


def setting(value: Any) -> str:
    """A value of a setting; '-' where the trial has none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return str(value)
    return f"{float(value):.3g}"


def between(own: Estimate, digits: int = 4, sign: str = "") -> str:
    """A value with its interval; '-' where it does not exist."""
    inside = f" [{number(own.low, digits, sign)}, {number(own.high, digits, sign)}]" if math.isfinite(own.low) else ""
    return number(own.value, digits, sign) + inside


def percent(own: Estimate) -> str:
    """A share with its interval, in percent."""
    return f"{own.value:.0%} ({own.low:.0%} to {own.high:.0%})"


def counted(count: int, word: str) -> str:
    """`3 trials`, `1 trial`."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def under(part: Part) -> str:
    """What a title or a sentence says of a part that is not that of all trials."""
    key, _, value = part.name.partition("=")
    return "" if part.name == EVERYWHERE else f" under {short(key)} {value}"


def mapped(parts: list[Part]) -> list[tuple[Part, Landscape]]:
    """The parts that have a landscape, with it."""
    return [(part, part.landscape) for part in parts if part.landscape is not None]


def is_strength(key: str) -> bool:
    """Whether the records' zones speak of this setting: the weight or the gradient ratio of a loss term."""
    return key.startswith(TERM) and key.split(".")[-1] in STRENGTHS


def values_of(part: Part, axis: AxisRegion) -> np.ndarray:
    """(N,) value of the setting at the part's points."""
    at = np.array([point[part.axes.index(axis.key)] for point in part.points], dtype=np.float64)
    low, high = axis.box
    return low * (high / low) ** at if axis.log else low + (high - low) * at


def rows_of(part: Part, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the design in `table` that belong to the part, whatever became of them."""
    rows = table[table["kind"] == "trial"]
    if part.name == EVERYWHERE:
        return rows
    for key in [str(name) for name in rows.columns if part.name.startswith(f"{name}=")]:
        rows = rows[rows[key].map(str) == part.name.removeprefix(f"{key}=")]
    return rows


def lay_out(panel: Drawing, axis: AxisRegion, which: str = "x", room: float = 0.03) -> None:
    """Give the `which` axis of a panel the scale and the range of a setting."""
    low, high = (math.log10(end) if axis.log else end for end in axis.box)
    gap = room * (high - low)
    style: dict[str, Any] = {"range": [low - gap, high + gap], "type": "log" if axis.log else "linear"}
    if axis.log:
        style |= {"tickmode": "array"} | ticks(*axis.box)
    panel.update_layout({f"{which}axis": style})


def ticks(low: float, high: float) -> dict[str, list[Any]]:
    """Where a logarithmic axis is labelled: few enough for a narrow panel, and never a 2 that stands for .2."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if last - first <= 2 else (1, 3) if last - first == 3 else (1,)
    at = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    kept = [value for value in at if low * 0.93 <= value <= high * 1.07]
    return {"tickvals": kept, "ticktext": [f"{value:.4g}" if 1e-4 <= value < 1e5 else f"{value:.0e}" for value in kept]}


def shade_zones(panel: Drawing, named: bool = True) -> None:
    """Shade the zones of a loss weight that the records speak of behind a panel with a logarithmic x axis."""
    for (low, high), fill, name in ((OLD, OLD_FILL, "old zone"), (CLAIMED, CLAIMED_FILL, "claimed zone")):
        panel.add_shape(
            type="rect", x0=low, x1=high, y0=0, y1=1, yref="paper", fillcolor=fill, line_width=0, layer="below"
        )
        if named:
            panel.add_annotation(
                x=math.log10(low * high) / 2, y=1, yref="paper", yanchor="bottom", text=name, showarrow=False
            )


def labels(keys: list[str]) -> list[str]:
    """Short names for a figure."""
    return [plain(short(key)) for key in keys]


def in_legend(panel: Drawing, name: str, symbol: str) -> None:
    """Name a mark whose colour is a number: plotly cannot show one in a legend and complains on the console."""
    panel.add_scatter(
        x=[None], y=[None], mode="markers", name=name, marker={"symbol": symbol, "size": 9, "color": GREY}
    )
