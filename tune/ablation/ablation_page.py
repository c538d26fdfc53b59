"""The page of an ablation: its answer in three sentences, the forest plot, and the tables."""

from __future__ import annotations

import math
from collections.abc import Iterator

from evaluation.page import Callout, Page, Part, Points, Section
from tune.ablation.comparison import AblationReport, Comparison
from tune.ablation.contrasts import Contrast
from tune.ablation.forest import forest
from tune.ablation.tables import between, failed, idle, notes, number, tables
from tune.ablation.variants import DEFAULT


def ablation_page(report: AblationReport, name: str) -> Page:
    """The page of `report` of the ablation called `name`; bytes of it depend on these alone."""
    *differences, conduct, lines = tables(report)
    figure = forest(report.comparisons)
    sections = [
        Section("Attention", list(_attention(report))),
        Section("Differences", [*([figure] if figure.plots else []), *differences]),
        Section("Differences per line", [lines] if lines.rows else []),
        Section("Mechanisms", [conduct]),
        Section("How these figures came about", list(_origin(report))),
    ]
    return Page(
        title=f"Ablation {name}",
        subtitle="The base settings and variants of them on the same folds, seeds and pairs, judged on cell lines no "
        "training saw.",
        answer=answer(report),
        sections=[section for section in sections if section.parts],
    )


def answer(report: AblationReport) -> list[str]:
    """How well the base does, what differs from it, and how sure that is: three sentences."""
    quadrant, rows = next(iter(report.comparisons.items()))
    return [_base(report, quadrant, rows), _differing(rows), _sure(report, rows)]


def clear_of_zero(contrast: Contrast) -> bool:
    """Whether there is an interval, and every one that there is lies on one side of zero."""
    known = [bounds for bounds in (contrast.over_runs, contrast.bootstrap) if all(map(math.isfinite, bounds))]
    return bool(known) and (all(low > 0 for low, _ in known) or all(high < 0 for _, high in known))


def _base(report: AblationReport, quadrant: str, rows: list[Comparison]) -> str:
    base = next((row for row in rows if row.name == DEFAULT and row.runs), None)
    if base is None:
        return "No run of the base settings is complete yet."
    lines = list(dict.fromkeys(test for test, _ in report.record.folds))
    saw = "no training saw" if quadrant.endswith("unseen_chrom") else "training saw in other lines"
    genome = f"in stretches of genome that {saw}"
    best = f"; the best possible is {number(report.bayes)}" if math.isfinite(report.bayes) else ""
    return (
        f"The base settings reach a macro average precision of {number(base.ap)} on {', '.join(lines)}, {genome}{best}."
    )


def _differing(rows: list[Comparison]) -> str:
    compared = [row for row in rows if row.difference.runs]
    if not compared:
        return "No variant can be compared yet."
    told = sorted((row for row in compared if clear_of_zero(row.difference)), key=lambda row: row.difference.mean)
    count = f"{len(compared)} variant{'s' if len(compared) > 1 else ''} compared"
    if not told:
        return f"Of {count}, none differs with every interval clear of zero."
    worse, better = ([row for row in told if sign * row.difference.mean > 0] for sign in (-1, 1))
    most = "".join([f"; the largest loss is {_told(row)}" for row in worse[:1]])
    most += "".join([f"; the largest gain is {_told(row)}" for row in better[-1:]])
    found = f"{len(better)} {'is' if len(better) == 1 else 'are'} better and {len(worse)} worse"
    return f"Of {count}, {found} with every interval clear of zero{most}."


def _told(row: Comparison) -> str:
    found = row.difference
    intervals = " ".join(filter(None, (between(*found.over_runs, "t"), between(*found.bootstrap, "b"))))
    return f"'{row.name}' with {number(found.mean, '+')} {intervals}"


def _sure(report: AblationReport, rows: list[Comparison]) -> str:
    states = report.runs["state"].value_counts()
    unfinished = "".join(f", {states[state]} {state}" for state in ("failed", "waiting") if state in states)
    lines = len({test for test, _ in report.record.folds})
    seeds = len(report.record.seeds)
    if max((row.difference.runs for row in rows), default=0) < 2:
        limit = "with one run per variant the intervals say that the pairs suffice, not that another run would agree"
    elif lines < 3:
        limit = "so few test lines say little of another line"
    else:
        limit = "the t-intervals say whether a difference will hold in another line"
    stands = f"{states.get('complete', 0)} complete runs ({lines} test line{'s' if lines > 1 else ''}, {seeds} seed"
    return f"This stands on {stands}{'s' if seeds > 1 else ''}{unfinished}), and {limit}."


def _attention(report: AblationReport) -> Iterator[Part]:
    yield from (Callout(sentence, "warning") for sentence in idle(report))
    if missing := list(failed(report)):
        runs = "one run" if len(missing) == 1 else f"{len(missing)} runs"
        yield Callout(f"{runs} failed, and the tables do without; --resume tries again", "warning")
        yield Points(missing)


def _origin(report: AblationReport) -> Iterator[Part]:
    yield Points([f"{sentence[0].upper()}{sentence[1:]}." for sentence in notes(report)])
