"""Which validation line pays for a setting."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from plotly.graph_objects import Figure as Drawing

from evaluation.page import BLUE, GREY, RIVAL_COLOURS, Figure, Plot, drawing, plain
from tune.region import Landscape, Part
from tune.search_page.labels import EVERYWHERE, number
from tune.search_page.tables import Cells

STYLES = {
    "best trial": ("circle-open", RIVAL_COLOURS[0]),
    "best, fresh seeds": ("circle", RIVAL_COLOURS[0]),
    "default, fresh seeds": ("diamond-open", GREY),
    "recommended, fresh seeds": ("star", RIVAL_COLOURS[2]),
}
"""Mark and colour of a point."""
Parts = Sequence[tuple[Part, Landscape]]


def line_figure(lines: Sequence[str], parts: Parts, table: pd.DataFrame) -> Figure | None:
    """Scores per line in all trials, in the region and at single points; None below two complete trials."""
    rows = complete(table)
    if len(rows) < 2:
        return None
    lines = hardest_first(lines, rows)
    panel = drawing("AP minus the mean of the line", "", 90 + 40 * len(lines))
    means = {line: float(rows[f"score/{line}"].mean()) for line in lines}
    names = [f"{plain(line)}<br>mean {means[line]:.3f}" for line in lines]
    panel.update_layout(
        xaxis={"zeroline": True, "zerolinewidth": 2},
        yaxis={"tickvals": list(range(len(lines))), "ticktext": names, "zeroline": False,
               "range": [len(lines) - 0.5, -0.5], "showgrid": False},
    )  # fmt: skip
    _spread(panel, rows, means, "all complete trials", GREY, 3)
    _spread(panel, inside(parts, rows), means, "trials in the region", BLUE, 9)
    for name, row in single_points(rows, table).items():
        symbol, colour = STYLES.get(name, ("square-open", RIVAL_COLOURS[3]))
        x = [row[f"score/{line}"] - means[line] for line in lines]
        marker = {"symbol": symbol, "size": 12, "color": colour, "line": {"width": 2, "color": colour}}
        panel.add_scatter(x=x, y=list(range(len(lines))), mode="markers", name=plain(name), marker=marker)
    return Figure(
        name="lines",
        title="What single lines gain and lose",
        plots=[Plot("", panel)],
        reads="The hardest line comes first, and scores are told from what all complete trials have on that line. A "
        "blue bar that stays to the right says that the region suits this line too; compare the recommended setting "
        "(star) with the default (diamond) on the hardest line before anything else.",
        alt="Per validation line the spread of scores over trials and over the region, and the points run again.",
        wide=True,
    )


def line_table(lines: Sequence[str], parts: Parts, table: pd.DataFrame) -> Cells:
    """The same numbers as they were measured; the lowest of the region is the worst that a user of it has seen."""
    rows = complete(table)
    single, region = single_points(rows, table), inside(parts, rows)
    cells = [
        [
            line,
            number(rows[f"score/{line}"].mean()),
            number(region[f"score/{line}"].min() if len(region) else None),
            *(number(row[f"score/{line}"]) for row in single.values()),
        ]
        for line in hardest_first(lines, rows)
    ]
    return ["line", "mean of trials", "lowest in region", *single], cells


def complete(table: pd.DataFrame) -> pd.DataFrame:
    """The complete trials of the design."""
    return table[(table["kind"] == "trial") & (table["state"] == "complete")]


def hardest_first(lines: Sequence[str], rows: pd.DataFrame) -> list[str]:
    """Lines by their mean over trials, those without a score left out."""
    means = {line: rows[f"score/{line}"].mean() for line in lines if f"score/{line}" in rows}
    return sorted((line for line, own in means.items() if pd.notna(own)), key=lambda line: means[line])


def inside(parts: Parts, rows: pd.DataFrame) -> pd.DataFrame:
    """The complete trials in the region of all trials, or in that of the first part that has one."""
    own = next((pair for pair in parts if pair[0].name == EVERYWHERE), parts[0] if parts else None)
    kept = [] if own is None else [
        trial for trial, is_inside in zip(own[0].trials, own[1].region.inside, strict=True) if is_inside
    ]  # fmt: skip
    return rows[rows["number"].isin(kept)]


def single_points(rows: pd.DataFrame, table: pd.DataFrame) -> dict[str, pd.Series]:
    """The best trial, and the points that were run again."""
    again = table[(table["kind"] == "confirm") & (table["state"] == "complete")]
    return {"best trial": rows.loc[rows["score"].idxmax()]} | {
        f"{row['repeats']}, fresh seeds": row for _, row in again.iterrows()
    }


def _spread(panel: Drawing, rows: pd.DataFrame, means: dict[str, float], name: str, colour: str, width: float) -> None:
    if rows.empty:
        return
    x, y = [], []
    for at, (line, mean) in enumerate(means.items()):
        x += [rows[f"score/{line}"].min() - mean, rows[f"score/{line}"].max() - mean, None]
        y += [at, at, None]
    panel.add_scatter(x=x, y=y, mode="lines", name=name, line={"color": colour, "width": width}, opacity=0.7)
