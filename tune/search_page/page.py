"""The page of a search: the region in which its settings generalise, what matters in it, and how sure that is.

Every figure and table has a sentence that says what to read off it; where there are too few trials for one the page
says so in its place. Cost: a second, most of it plotly's.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from evaluation.page import Callout, Figure, Page, Part, Points, Section, Table
from tune.region import RegionReport
from tune.search_page.activity_figures import activity_figure
from tune.search_page.effect_figures import effect_figure, importance_figure
from tune.search_page.labels import is_strength, mapped, under
from tune.search_page.line_figures import complete, line_figure, line_table
from tune.search_page.mode_figures import cost_figure, forest_figure
from tune.search_page.range_figures import plane_figure, range_figure
from tune.search_page.tables import (
    WORDS,
    Cells,
    effect_table,
    importance_table,
    interaction_table,
    mode_table,
    pair_table,
    range_table,
    zone_table,
)
from tune.search_page.trial_figures import (
    confirmation_table,
    failures,
    history_figure,
    noise_figure,
    objectives_figure,
    trial_rows,
)
from tune.search_page.wording import sentences
from tune.search_page.words import (
    SearchWords,
    best_words,
    noise_words,
    origin,
    size_of_region,
    warnings,
    worst_lines,
)

REGION_READS = (
    "A setting whose share of the axis is near 100 % can be left alone. Ends are followed by their interval; `others "
    "at best` is the range where nothing else is retuned."
)
EFFECT_READS = (
    "The first number is how far the setting moves the score from its best to its worst value, the second how much a "
    "step of factor e (2.7) gains; compare both with the noise floor."
)
IMPORTANCE_READS = "Settings with an ST whose interval begins near 0 need no tuning in this box."
PAIR_READS = "A pair whose interval leaves out 0 has to be tuned together."
ZONE_READS = (
    "Difference is what the claimed zone ([.5, 2]) scores beyond the old one ([.01, .2]) with the other settings "
    "averaged out; the verdict on the claimed zone is open where the interval holds 0. Scores are means of the trials "
    "in each zone as measured, shares their median."
)
MODE_READS = (
    "Untuned is what a user gets who picks the mode and nothing else, tuned what its point gives that the other lines "
    "chose; judge a lead by the pairs below, and its price by the seconds."
)
LINES_READ = (
    "The settings of a column that is high on the hardest line, not only in the mean, are those to trust on a new line."
)
FOREST_READS = "Differences of the first minus the second on the same lines and seeds, with the interval over lines."
Parts = Iterator[Part]


def search_page(report: RegionReport, table: pd.DataFrame, name: str, words: SearchWords) -> Page:
    """The page of the search called `name`, from its report and its table of trials (`search_space.trial_table`)."""
    table = _whole(table, words)
    sections = [
        Section("Attention", [Callout(text, "warning") for text in warnings(report, table, words)]),
        Section("The region", list(_region(report, words))),
        Section("What each setting does", list(_effects(report, table))),
        Section("Which settings matter", list(_importance(report))),
        Section("Does a weight act", list(_activity(report, table, words))),
        Section("Lines", list(_lines(report, table))),
        Section("Choices against each other", list(_modes(report))),
        Section("Noise", list(_noise(report, table))),
        Section("Trials", list(_trials(report, table, words))),
        Section("How these figures came about", [Points(list(origin(report, table, words)))]),
    ]
    return Page(
        title=f"Search {name}",
        subtitle="Which loss weights and which balancing generalise to lines no training saw, how wide that region is, "
        f"which settings matter in it, and how sure that is. Test line {words.test_line} was never read.",
        answer=sentences(report),
        sections=[section for section in sections if section.parts],
    )


def _whole(table: pd.DataFrame, words: SearchWords) -> pd.DataFrame:
    """The table with every column that the page asks for, also where no trial had a value for it."""
    asked = ["kind", "number", "state", "score", "seconds", "step_seconds", "calibration_error", "repeats", "reason"]
    whole = table.reindex(columns=[*table.columns, *(key for key in (*asked, *words.keys) if key not in table.columns)])
    return whole.assign(reason=whole["reason"].fillna(""), repeats=whole["repeats"].fillna(""))


def _region(report: RegionReport, words: SearchWords) -> Parts:
    for place, (part, land) in enumerate(mapped(report.parts), 1):
        yield Points(size_of_region(part, land))
        yield range_figure(part, land, words.base, place)
        yield _table(f"Region per setting{under(part)}", range_table(land), REGION_READS)
        plane = plane_figure(part, land, words.base, place)
        if plane is not None:
            yield plane
    yield from _without("region", report)


def _without(what: str, report: RegionReport) -> Parts:
    """In place of a figure of each part why there is none."""
    for part in report.parts:
        if part.landscape is None:
            yield Callout(f"No {what}{under(part)}: {part.reason}.")


def _effects(report: RegionReport, table: pd.DataFrame) -> Parts:
    yield from _without("curves", report)
    for place, (part, land) in enumerate(mapped(report.parts), 1):
        yield effect_figure(part, land, table, place)
        yield _table(f"Effect per setting{under(part)}", effect_table(land), EFFECT_READS)


def _importance(report: RegionReport) -> Parts:
    yield from _without("importances", report)
    for place, (part, land) in enumerate(mapped(report.parts), 1):
        found = land.sensitivity
        figure = importance_figure(part, land, place)
        if figure is not None:
            yield figure
        for what, why in (("Sobol indices", found.reason), ("PED-ANOVA inside the region", found.inside_reason)):
            if why:
                yield Callout(f"No {what}{under(part)}: {why}.")
        if figure is not None:
            yield _table(f"Importance per setting{under(part)}", importance_table(land), IMPORTANCE_READS)
        if found.pairs:
            yield _table(f"Interactions{under(part)}", interaction_table(land), PAIR_READS)


def _activity(report: RegionReport, table: pd.DataFrame, words: SearchWords) -> Parts:
    for place, (part, land) in enumerate(mapped(report.parts), 1):
        figure, silent = activity_figure(part, land, table, place)
        if figure is not None:
            yield figure
        if silent:
            yield Callout(f"No gradient share above 0 was recorded of {', '.join(silent)}{under(part)}.")
        if land.zones:
            yield Points([f"{own.term}: {own.says}." for own in land.zones])
            yield _table(f"Zones of the records{under(part)}", zone_table(part, land), ZONE_READS)
    if not mapped(report.parts) and any(map(is_strength, words.keys)):
        yield Callout("The zones of the records cannot be compared: no part of the space has enough complete trials.")


def _lines(report: RegionReport, table: pd.DataFrame) -> Parts:
    parts = mapped(report.parts)
    yield (
        Points([worst_lines(part, land) for part, land in parts])
        if parts
        else Callout("Which line pays for a setting cannot be said beyond the trials themselves: there is no region.")
    )
    figure = line_figure(report.folds, parts, table)
    if figure is not None:
        yield figure
    if not complete(table).empty:
        columns, rows = line_table(report.folds, parts, table)
        yield Table("Score per validation line", columns, rows, ["line"], LINES_READ)


def _modes(report: RegionReport) -> Parts:
    for place, modes in enumerate(report.modes, 1):
        if modes.reason:
            yield Callout(f"Nothing is compared: {modes.reason}.")
            continue
        figures: list[Figure | None] = [forest_figure(modes, place), cost_figure(modes, place)]
        yield from (figure for figure in figures if figure is not None)
        yield _table(f"Values of {modes.key}", mode_table(modes), MODE_READS)
        yield _table(f"Pairs of {modes.key}", pair_table(modes), FOREST_READS)


def _noise(report: RegionReport, table: pd.DataFrame) -> Parts:
    said = noise_words(report) + [text for own in mapped(report.parts) for text in best_words(*own)]
    if said:
        yield Points(said)
    figure = noise_figure(report, table)
    if figure is None:
        yield Callout("No point was run again with fresh seeds, so how lucky the best trial was is not measured.")
        return
    yield figure
    again = confirmation_table(report, table)
    if again is not None:
        yield again


def _trials(report: RegionReport, table: pd.DataFrame, words: SearchWords) -> Parts:
    figure = history_figure(table)
    yield figure if figure is not None else Callout("No trial is complete, so there is no course to draw.")
    if words.sampler == "nsga2":
        several = objectives_figure(table, report.folds)
        yield several if several is not None else Callout("Fewer than two complete trials: no objectives to compare.")
    if lost := failures(table, words.keys):
        yield Points(lost)
    rows = trial_rows(table, words.keys, report.folds)
    if rows.rows:
        yield rows


def _table(title: str, cells: Cells, reads: str) -> Table:
    columns, rows = cells
    return Table(title, columns, rows, [column for column in columns if column in WORDS], reads)
