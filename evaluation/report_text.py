"""The evaluation report in words and tables of finished cells, for the console and the page alike.

Every table of the console fits 140 columns with names of up to 12 characters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as Grid

from evaluation.calibration import Calibration
from evaluation.page import Table
from evaluation.quadrants import QUADRANTS, ROLES, Row
from evaluation.report import Report

RIVALS_PER_TABLE = 5
PLACE = ("role", "line/chrom", "cell line")


def render(report: Report, console: Console) -> None:
    """Print the tables, the calibration and the findings."""
    for table in tables(report):
        grid = Grid(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
        for column in table.columns:
            grid.add_column(column, justify="left" if column in table.words else "right", no_wrap=True)
        for row in table.rows:
            grid.add_row(*row)
        console.print(grid)
    for sentence in (*provenance(report), *alarms(report), *report.training, *verdicts(report)):
        console.print(f"- {sentence}", markup=False, highlight=False)


def provenance(report: Report) -> Iterator[str]:
    """How the figures came about: protocol, calibration, intervals, what was left out."""
    calibration = Calibration.from_dict(report.calibration)
    if report.protocol:
        yield f"protocol: {report.protocol}"
    if report.environment:
        yield report.environment
    if learnt := report.context.get("learnt"):
        yield f"learnt: {', '.join(f'{name} {value:.3g}' for name, value in learnt.items())}"
    yield (
        f"calibration frozen on the validation line: temperature {calibration.temperature:.3g}, bias "
        f"{calibration.bias:.3g}, threshold {calibration.threshold:.3g} by {calibration.criterion}"
        + ("" if calibration.at_recall70 is None else f", {calibration.at_recall70:.3g} at 70% recall")
    )
    yield _between_lines(calibration)
    yield (
        "brackets are 95% intervals: bootstrap over clusters for a line and for pooled rows, t-interval over lines "
        "for macro rows"
    )
    if report.unknown_labels:
        yield f"{report.unknown_labels:,} pairs without a label were left out"
    for name, reason in report.left_out.items():
        yield f"baseline {name} left out: {reason}"


def _between_lines(calibration: Calibration) -> str:
    """What is known of the calibration on a line it was not fitted to."""
    between = calibration.between
    if between is None:
        return (
            "how far the calibration is off on other lines is not known: there is one line with both labels and too "
            "few chromosomes to leave out, so bands of predictions hold the draw of the support alone"
        )
    told = (
        f"on other lines the calibration's intercept is off by a standard deviation of {between.sd:.2g} logits, "
        f"{between.sd_shifted:.2g} after the shift to the estimated prevalence"
    )
    if between.of == "chromosomes":
        return (
            f"{told}: of {between.units} chromosomes of the one line with labels, left out in turn, as there is no "
            "second line; between lines it will be more"
        )
    return f"{told}: of {between.units} lines left out in turn"


def alarms(report: Report) -> list[str]:
    """The alarms of the finished predictions, or that there are none."""
    return [f"ALARM: {sentence}" for sentence in report.findings] or ["no alarm fired"]


def verdicts(report: Report) -> Iterator[str]:
    """One sentence per falsifiable prediction: its number, what became of it, the statistic, what was planted."""
    for own in report.verify:
        planted = f"; {own['planted']}" if own["planted"] else ""
        if own["expected"]:
            told = {own["expected"]: "as planted", "not testable": "left open"}.get(own["outcome"], "NOT as planted")
            planted += f": {told}"
        yield f"{own['requirement']} {own['outcome']}: {own['claim']}. {own['says']}{planted}"


def tables(report: Report) -> list[Table]:
    """The ranking, threshold and rival tables, each at most 140 columns wide with names of up to 12 characters."""
    names = rival_names(report)
    parts = [names[start : start + RIVALS_PER_TABLE] for start in range(0, len(names), RIVALS_PER_TABLE)]
    eq = []
    if tells_candidates(report):
        eq = [candidates_table(report), *(rival_table(report, part, "eq_") for part in parts)]
    transfer = [transfer_table(report)] if report.transfer else []
    leads = [rival_table(report, part) for part in parts]
    return [ranking_table(report), threshold_table(report), *leads, *eq, *transfer]


def ranking_table(report: Report) -> Table:
    """How well each line, macro mean and pooled set is ranked."""
    return _table(report, "Ranking", _RANKING)


def threshold_table(report: Report) -> Table:
    """What the frozen threshold and the frozen calibration do in each."""
    return _table(report, "At the frozen threshold; calibration; spread over support draws", _THRESHOLD)


def tells_candidates(report: Report) -> bool:
    """Whether the predictions say whose candidates pairs are, so that there is an eq average precision."""
    return any(math.isfinite(row["eq_ap"]) for row in _ordered(report))


def candidates_table(report: Report) -> Table:
    """How well candidates are ranked where their number tells nothing."""
    return _table(report, "Where the number of candidates tells nothing", _CANDIDATES)


def rival_table(report: Report, names: Sequence[str], kind: str = "") -> Table:
    """The rivals `names` beside the model in each; `kind` is empty for average precision, eq_ for the eq one."""
    columns = {name: (lambda row, name=name: _rival(row["rivals"].get(name), kind)) for name in names}
    title = "eq average precision" if kind else "Average precision"
    return _table(report, f"{title} of the rivals, and the model's lead over each on the same draws", columns)


def transfer_table(report: Report) -> Table:
    """Lines under a calibration that did not see their labels, plain and shifted to an estimated prevalence."""
    cells = [
        [
            own["line"],
            own["fitted_to"],
            f"{own['n']:,.0f}",
            *(number(own[name]) for name in ("prevalence", "estimated")),
            *(number(own[f"{name}{kind}"]) for name in ("ece", "brier") for kind in ("", "_shifted")),
            *(number(own[f"error{kind}"], sign="+") for kind in ("", "_shifted")),
        ]
        for own in report.transfer
    ]
    columns = ["n", "prev.", "estimated", "ECE", "shifted", "Brier", "shifted ", "intercept off", "shifted  "]
    title = "Calibration of lines it was not fitted to, plain and shifted to the prevalence estimated without labels"
    words = ("line", "calibrated on")
    return Table(title, [*words, *columns], cells, words=words)


def rival_names(report: Report) -> list[str]:
    """The rivals in the order of the tables."""
    return list(dict.fromkeys(name for row in _ordered(report) for name in row["rivals"]))


def _ordered(report: Report) -> Iterator[Row]:
    for role in ROLES:
        for quadrant in QUADRANTS:
            lines, macro, pooled = (
                [row for row in rows if row["role"] == role and row["quadrant"] == quadrant]
                for rows in (report.lines, report.macro, report.pooled)
            )
            # the mean of one line would repeat it
            yield from [*lines, *macro, *pooled] if len(lines) > 1 else lines


def _table(report: Report, title: str, columns: Mapping[str, Any]) -> Table:
    def place(row: Row) -> list[str]:
        line, chromosome = row["quadrant"].split("/")
        return [row["role"], f"{line.split('_')[0]}/{chromosome.split('_')[0]}", row["line"]]

    cells = [[*place(row), *(show(row) for show in columns.values())] for row in _ordered(report)]
    return Table(title, [*PLACE, *columns], cells, words=PLACE)


def number(value: float | None, digits: int = 3, sign: str = "") -> str:
    """`value` without the leading zero, as tables of probabilities are read; '-' where it does not exist."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:{sign}.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:{sign}.{digits}f}"


def between(low: float | None, high: float | None) -> str:
    """An interval in brackets; empty where it does not exist."""
    return f"[{number(low)},{number(high)}]" if number(low) != "-" else ""


def _with_interval(row: Row, name: str) -> str:
    return f"{number(row[name])} {between(row.get(name + '_low'), row.get(name + '_high'))}".rstrip()


def _rival(values: Mapping[str, float] | None, kind: str) -> str:
    if values is None:
        return "-"
    ap, difference, low, high = (values[kind + name] for name in ("ap", "difference", "low", "high"))
    lead = f"{number(difference, sign='+')} {between(low, high)}".rstrip()
    return f"{number(ap)}\n{lead}"


_RANKING = {
    "n": lambda row: f"{row['n']:,}",
    "prev.": lambda row: number(row["prevalence"]),
    "AP": lambda row: _with_interval(row, "ap"),
    "lift": lambda row: number(row["lift"], 2),
    "AUROC": lambda row: _with_interval(row, "auroc"),
    "Bayes AP": lambda row: number(row["bayes_ap"]),
    "worst line": lambda row: f"{number(row['worst_ap'])} {row['worst_line']}" if "worst_ap" in row else "",
}

_CANDIDATES = {
    "eq AP": lambda row: _with_interval(row, "eq_ap"),
    "AP": lambda row: number(row["ap"]),
    "prev.": lambda row: number(row["prevalence"]),
    "enhancers": lambda row: f"{row['within_enhancer_groups']:,}",
    "within enhancer": lambda row: _with_interval(row, "within_enhancer_ap"),
    "genes": lambda row: f"{row['within_gene_groups']:,}",
    "within gene": lambda row: _with_interval(row, "within_gene_ap"),
}

_THRESHOLD = {
    "MCC": lambda row: _with_interval(row, "mcc"),
    "F1": lambda row: number(row["f1"]),
    "precision": lambda row: number(row["precision"]),
    "recall": lambda row: number(row["recall"]),
    "bal.acc.": lambda row: number(row["balanced_accuracy"]),
    "ECE before": lambda row: number(row["ece_before"]),
    "ECE after": lambda row: number(row["ece_after"]),
    "by mass": lambda row: number(row["ece_mass_after"]),
    "Brier": lambda row: number(row["brier"]),
    "support sd": lambda row: number(row["ap_support_sd"], 4),
}
