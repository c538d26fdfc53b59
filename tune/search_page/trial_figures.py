"""What became of every trial: the course of the search, several objectives, points run again, and all rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from evaluation.page import BLUE, RIVAL_COLOURS, Figure, Plot, Table, drawing, plain
from tune.region import RegionReport
from tune.search_page.labels import SCALE, between, in_legend, number, setting, short

SYMBOLS = {"complete": ("circle", BLUE), "stopped": ("triangle-down-open", RIVAL_COLOURS[0]),
           "failed": ("x", RIVAL_COLOURS[2])}  # fmt: skip
"""State of a trial: mark and colour."""
LISTED = 12
"""Points that failed which are told in sentences; more than these nobody reads."""


def history_figure(table: pd.DataFrame) -> Figure | None:
    """Score of each trial in order and the best so far; None without a complete trial."""
    rows = table[table["kind"] == "trial"].sort_values("number")
    complete = rows[rows["state"] == "complete"]
    if complete.empty:
        return None
    panel = drawing("trial", "AP", 320)
    panel.add_scatter(
        x=complete["number"], y=complete["score"].cummax(), mode="lines", name="best so far",
        line={"color": BLUE, "width": 2, "shape": "hv"},
    )  # fmt: skip
    lowest = float(rows["score"].min())
    bottom = lowest - 0.06 * max(float(complete["score"].max()) - lowest, 1e-3)
    for state, (symbol, colour) in SYMBOLS.items():
        own = rows[rows["state"] == state]
        if len(own):
            marker = {"symbol": symbol, "color": colour, "size": 8, "line": {"width": 1.5, "color": colour}}
            y = own["score"].fillna(bottom) if state != "failed" else [bottom] * len(own)
            panel.add_scatter(x=own["number"], y=y, mode="markers", name=state, marker=marker)
    return Figure(
        name="history",
        title="The course of the search",
        plots=[Plot("", panel)],
        reads="A line that stopped rising long before the end says that more trials of this kind would find little; an "
        "even design rises by luck alone. A stopped trial's score is of the lines it reached and cannot be compared; "
        "failed ones stand at the bottom.",
        alt="Macro average precision of every trial in order, with the best so far.",
        wide=True,
    )


def objectives_figure(table: pd.DataFrame, lines: Sequence[str]) -> Figure | None:
    """Mean against worst line with calibration error as colour; None with fewer than two complete trials."""
    rows = table[(table["kind"] == "trial") & (table["state"] == "complete")]
    if len(rows) < 2:
        return None
    worst = rows[[f"score/{line}" for line in lines]].min(axis=1)
    goals = np.column_stack([rows["score"], worst, -rows["calibration_error"]]).astype(np.float64)
    kept = undominated(goals)
    panel = drawing("mean AP", "AP of the worst line", 400)
    # Low errors are good, and blue is what is good on this page.
    panel.update_layout(
        coloraxis={"colorscale": SCALE, "reversescale": True,
                   "colorbar": {"thickness": 12, "title": {"text": "calibration<br>error"}}},
    )  # fmt: skip
    for best, name, symbol, size in ((False, "bettered in all by another", "circle-open", 8),
                                     (True, "bettered by none", "star", 14)):  # fmt: skip
        at = np.flatnonzero(kept == best)
        panel.add_scatter(
            x=goals[at, 0], y=goals[at, 1], mode="markers", showlegend=False, hoverinfo="text",
            text=[f"trial {rows['number'].iloc[place]}, calibration error {-goals[place, 2]:.4f}" for place in at],
            marker={"symbol": symbol, "size": size, "color": -goals[at, 2], "coloraxis": "coloraxis"},
        )  # fmt: skip
        in_legend(panel, name, symbol)
    return Figure(
        name="objectives",
        title="Mean, worst line and calibration at once",
        plots=[Plot("", panel)],
        reads=f"Stars are the {int(kept.sum())} trials that no other one betters in all three; choose among them by "
        "what matters, up for the hardest line, right for the mean, blue for probabilities that can be believed.",
        alt="Worst line against mean average precision per trial, coloured by calibration error.",
        wide=True,
    )


def undominated(goals: np.ndarray) -> np.ndarray:
    """(N,) bool: rows of `goals` (N, G), more is better, that no row equals or betters in all and betters in one."""
    as_good = (goals[:, None] >= goals[None]).all(axis=2)
    better = (goals[:, None] > goals[None]).any(axis=2)
    return np.asarray(~(as_good & better).any(axis=0))


def repeats_of(table: pd.DataFrame, lines: Sequence[str]) -> dict[str, tuple[int, list[float]]]:
    """{what was run again: (its confirming trial, macro score of each fresh seed)}."""
    again = table[(table["kind"] == "confirm") & (table["state"] == "complete")]
    found = {}
    for _, row in again.iterrows():
        cells = [str(name).rpartition("@") for name in table.columns if "@" in str(name) and pd.notna(row[name])]
        seeds = sorted({seed for line, _, seed in cells if line.startswith("score/")}, key=int)
        scores = [float(np.mean([row.get(f"score/{line}@{seed}", np.nan) for line in lines])) for seed in seeds]
        found[str(row["repeats"])] = (int(row["number"]), [score for score in scores if np.isfinite(score)])
    return {name: own for name, own in found.items() if own[1]}


def noise_figure(report: RegionReport, table: pd.DataFrame) -> Figure | None:
    """Scores of fresh seeds beside what the search said; None where nothing was run again."""
    again = repeats_of(table, report.folds)
    if not again:
        return None
    searched = {own.number: own.search for own in report.noise.confirmations}
    names = sorted(again, key=lambda name: -float(np.mean(again[name][1])))
    panel = drawing("macro AP", "", 90 + 44 * len(names))
    panel.update_layout(
        yaxis={"tickvals": list(range(len(names))), "ticktext": [plain(name) for name in names], "showgrid": False,
               "range": [len(names) - 0.5, -0.5], "zeroline": False},
    )  # fmt: skip
    flat = [(score, at) for at, name in enumerate(names) for score in again[name][1]]
    means = [float(np.mean(again[name][1])) for name in names]
    panel.add_scatter(x=[x for x, _ in flat], y=[y for _, y in flat], mode="markers", name="a fresh seed",
                      marker={"color": BLUE, "size": 9, "opacity": 0.75})  # fmt: skip
    bar = {"color": BLUE, "symbol": "line-ns", "size": 22, "line": {"width": 3, "color": BLUE}}
    panel.add_scatter(x=means, y=list(range(len(names))), mode="markers", name="their mean", marker=bar)
    said = [(searched[again[name][0]], at) for at, name in enumerate(names) if again[name][0] in searched]
    said = [(score, at) for score, at in said if np.isfinite(score)]
    if said:
        open_ = {"color": RIVAL_COLOURS[2], "symbol": "diamond-open", "size": 12, "line": {"width": 2}}
        panel.add_scatter(
            x=[x for x, _ in said], y=[y for _, y in said], mode="markers", name="said by the search", marker=open_
        )
    return Figure(
        name="repeats",
        title="The same points with fresh seeds",
        plots=[Plot("", panel)],
        reads="Discs of one row differ by training noise alone. A diamond to the right of its discs was lucky in the "
        "search; rows whose discs overlap cannot be told apart by these seeds.",
        alt="Macro average precision of every fresh seed for the points that were run again, and the search's score.",
        wide=True,
    )


def confirmation_table(report: RegionReport, table: pd.DataFrame) -> Table | None:
    """What was run again, by name."""
    names = {own: name for name, (own, _) in repeats_of(table, report.folds).items()}
    rows = [
        [names.get(own.number, str(own.number)), number(own.search), number(own.again),
         between(own.optimism, sign="+"), str(own.seeds)]
        for own in report.noise.confirmations
    ]  # fmt: skip
    return Table(
        "Points that were run again",
        ["what", "in the search", "fresh seeds", "optimism", "fresh seeds per line"],
        rows,
        ["what"],
        "Optimism is what the search promised beyond fresh seeds; an interval that leaves out 0 says that the choice "
        "was lucky, and by how much.",
    ) if rows else None  # fmt: skip


def trial_rows(table: pd.DataFrame, keys: Sequence[str], lines: Sequence[str]) -> Table:
    """Every trial of the design, best first."""
    rows = table[table["kind"] == "trial"].sort_values("score", ascending=False, kind="stable")
    lines = [line for line in lines if f"score/{line}" in rows]
    worded = [key for key in keys if not pd.api.types.is_numeric_dtype(rows[key])]
    cells = [
        [
            str(row["number"]),
            str(row["state"]),
            number(row["score"]),
            *(number(row[f"score/{line}"]) for line in lines),
            *(setting(row[key]) for key in keys),
            number(row["seconds"], 0),
            number(row["step_seconds"]),
            str(row["reason"]),
        ]
        for _, row in rows.iterrows()
    ]
    columns = ["trial", "state", "macro AP", *lines, *keys, "seconds", "seconds per step", "reason"]
    return Table(
        "All trials",
        columns,
        cells,
        ["state", "reason", *worded],
        "Sort by a line to see whether its best trials are those of the mean; '-' stands where a trial has no score or "
        "does not have the setting.",
    )


def failures(table: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """A sentence per point that could not be trained."""
    rows = table[(table["kind"] == "trial") & (table["state"] == "failed")]
    said = []
    for _, row in rows.iterrows():
        at = ", ".join(f"{short(key)} {setting(row[key])}" for key in keys if setting(row[key]) != "-")
        reason = str(row["reason"]).rstrip(".") or "no reason was recorded"
        said.append(f"Trial {row['number']} ({at}): {reason}.")
    more = len(said) - LISTED
    return said if more <= 0 else [*said[:LISTED], f"{more} more have their reasons in the table of all trials."]
