"""The tables of an ablation, for the terminal, for Markdown and for the page alike."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table as Grid

from data_pipeline.durable import write_durably
from evaluation.page import Table
from tune.ablation.comparison import AblationReport, Comparison, Conduct
from tune.ablation.contrasts import Contrast

MARKDOWN = "table.md"
WORDS = ("variant", "to", "gradient shares", "alarms in runs", "what is different")
"""Columns of words."""


def tables(report: AblationReport) -> list[Table]:
    """Differences per quadrant, what the mechanisms did, and differences per line."""
    made = []
    for quadrant, rows in report.comparisons.items():
        if any(row.runs for row in rows):
            made.append(_differences(f"Average precision, {quadrant.replace('_', ' ')}", rows))
    made.append(_conduct(report))
    first = next(iter(report.comparisons.items()))
    return [*made, _lines(f"Difference per line, {first[0].replace('_', ' ')}", first[1])]


def notes(report: AblationReport) -> Iterator[str]:
    """The sentences beside the tables."""
    record, runs = report.record, report.runs
    counts = runs["state"].value_counts()
    lines = list(dict.fromkeys(test for test, _ in record.folds))
    yield (
        f"{', '.join(f'{count} {state}' for state, count in counts.items())}; test lines {', '.join(lines)}, seeds "
        f"{', '.join(map(str, record.seeds))}"
    )
    yield (
        "differences are means over runs (fold x seed), paired on the same pairs; t[]: 95% t-interval over runs, b[]: "
        "95% cluster bootstrap over the pairs of the test lines"
    )
    yield (
        "gradient share: |weight x gradient| of a loss term over the task's at the shared representation, late in "
        "training"
    )
    if math.isfinite(report.bayes):
        yield f"the best possible average precision on these lines is {report.bayes:.3f} (all pairs of a line)"
    for own in report.conduct:
        if math.isfinite(own.against_theorem):
            yield (
                f"{own.name} has an environment that cannot rank inside a line (algorithms.md 0.1): under one support "
                f"set it changes average precision by {own.against_theorem:.1g} at most"
            )
    for variant in record.variants:
        if variant.left_out:
            yield f"left out: {variant.name}, {variant.left_out}"


def idle(report: AblationReport) -> Iterator[str]:
    """The rows that show nothing."""
    for row in next(iter(report.comparisons.values())):
        if row.same:
            yield f"IN NAME ONLY: {row.name} has the logits of {row.against} in every run"


def failed(report: AblationReport) -> Iterator[str]:
    """The runs that are missing, and why."""
    for _, run in report.runs[report.runs["state"] == "failed"].iterrows():
        yield f"failed: {run['run']}, {run['reason']}"


def write_markdown(report: AblationReport, folder: Path) -> None:
    """Write table.md."""
    said = "\n".join(f"- {sentence}" for sentence in (*notes(report), *idle(report), *failed(report)))
    parts = [f"# Ablation {folder.name}", said]
    for table in tables(report):
        lines = [table.columns, ["---"] * len(table.columns), *table.rows]
        body = "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
        )
        parts += [f"## {table.title}", body]
    write_durably(folder / MARKDOWN, ("\n\n".join(parts) + "\n").encode())


def print_tables(report: AblationReport, console: Console) -> None:
    """Print tables and sentences; descriptions are for the file."""
    for table in tables(report):
        grid = Grid(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
        shown = [index for index, column in enumerate(table.columns) if column != "what is different"]
        for index in shown:
            grid.add_column(table.columns[index], justify="left" if table.columns[index] in table.words else "right")
        for row in table.rows:
            grid.add_row(*(row[index] for index in shown))
        console.print(grid)
    for sentence in (*notes(report), *idle(report), *failed(report)):
        console.print(f"- {sentence}", markup=False, highlight=False)


def _differences(title: str, rows: list[Comparison]) -> Table:
    columns = ["variant", "to", "runs", "macro AP", "difference", "over U_I only", "over wrong line's support"]
    cells = [
        [
            row.name,
            row.against if row.difference.runs else "-",
            str(row.runs),
            number(row.ap),
            _with_intervals(row.difference),
            _with_intervals(row.over_neutral),
            _with_intervals(row.over_wrong),
        ]
        for row in rows
    ]
    reads = (
        "Read a difference with the wider of its intervals: t[] says whether it will hold with another line or seed, "
        "b[] whether these pairs suffice to see it."
    )
    return Table(title, columns, cells, WORDS, reads)


def _conduct(report: AblationReport) -> Table:
    described = {variant.name: variant.description for variant in report.record.variants}
    columns = ["variant", "gradient shares", "gates sd", "alarms in runs", "seconds", "what is different"]
    cells = [
        [own.name, _shares(own), number(own.gate_sd), _alarms(own), _seconds(own.seconds), described[own.name]]
        for own in report.conduct
    ]
    reads = "A loss term with a gradient share near 0 was there and drowned: its row says nothing about the term."
    return Table("What the mechanisms did", columns, cells, WORDS, reads)


def _lines(title: str, rows: list[Comparison]) -> Table:
    lines = list(dict.fromkeys(line for row in rows for line in row.difference.lines))
    cells = []
    for row in rows:
        if row.difference.runs:
            known = {line: f"{number(value, '+')} {between(low, high)}".rstrip()
                     for line, (value, low, high) in row.difference.lines.items()}  # fmt: skip
            cells.append([row.name, *(known.get(line, "-") for line in lines)])
    reads = "A difference that one line alone shows is that line's; brackets are its cluster-bootstrap intervals."
    return Table(title, ["variant", *lines], cells, WORDS[:1], reads)


def _with_intervals(contrast: Contrast) -> str:
    over_runs, bootstrap = between(*contrast.over_runs, "t"), between(*contrast.bootstrap, "b")
    return "\n".join(part for part in (f"{number(contrast.mean, '+')} {over_runs}".rstrip(), bootstrap) if part)


def _shares(own: Conduct) -> str:
    return ", ".join(f"{name} {share:.2g}" for name, share in own.shares.items()) or "-"


def _alarms(own: Conduct) -> str:
    return ", ".join(f"{name} {count}" for name, count in own.alarms.items()) or "-"


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f}" if math.isfinite(seconds) else "-"


def number(value: float, sign: str = "") -> str:
    """`value` to four decimals without the leading zero; '-' where it does not exist."""
    if not math.isfinite(value):
        return "-"
    return f"{value:{sign}.4f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:{sign}.4f}"


def between(low: float, high: float, kind: str = "") -> str:
    """An interval in brackets behind the letter of its `kind`; empty where it does not exist."""
    return f"{kind}[{number(low)},{number(high)}]" if math.isfinite(low) and math.isfinite(high) else ""
