"""What the page of a search says in sentences: what to heed first, how wide the region is, where figures come from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from tune.region import Landscape, Part, Quality, RegionReport
from tune.search_page.labels import between, counted, mapped, number, percent, under
from tune.search_page.wording import BELIEVED

SOBOL = ("sobol", "random")
"""Samplers whose points are spread over the box whatever they score."""


@dataclass(frozen=True)
class SearchWords:
    """What the page needs to know of a search beside its numbers."""

    store: str
    """Path of the store."""
    test_line: str
    """Line that no trial touched."""
    sampler: str
    """How points were chosen."""
    trials: int
    """Trials that were planned."""
    keys: Sequence[str]
    """Searched settings."""
    command: str
    """How to train the recommended settings; empty where there are none."""
    base: Mapping[str, Any] = field(default_factory=dict)
    """Default per searched setting."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of Python and the libraries that matter."""


def warnings(report: RegionReport, table: pd.DataFrame, words: SearchWords) -> Iterator[str]:
    """What a reader must know before believing the rest."""
    states = states_of(table)
    unfinished = words.trials - sum(states.get(state, 0) for state in ("complete", "stopped", "failed"))
    if unfinished > 0:
        yield f"{unfinished} of {counted(words.trials, 'trial')} have not ended: this page is of a search under way."
    if failed := states.get("failed", 0):
        yield (
            f"{counted(failed, 'trial')} failed; the places where they stood are listed under Trials, and the region "
            "is not known to be safe there."
        )
    for part, land in mapped(report.parts):
        if math.isfinite(land.quality.r2) and land.quality.r2 < BELIEVED:
            yield (
                f"The surrogate{under(part)} predicts a left-out trial hardly better than the mean does (R2 "
                f"{land.quality.r2:.2f}): curves, importances and the bounds of the region are wide guesses."
            )
    if words.sampler not in SOBOL and mapped(report.parts):
        yield (
            f"Sampler {words.sampler} went where scores were high, so the rest of the box is thinly covered: volumes "
            "and importances lean on the surrogate there; a sobol search is the one to map a region with."
        )


def states_of(table: pd.DataFrame) -> dict[str, int]:
    """Trials of the design per state."""
    rows = table.loc[table["kind"] == "trial", "state"]
    return {str(state): int(count) for state, count in rows.value_counts().items()}


def size_of_region(part: Part, land: Landscape) -> list[str]:
    """How much of the box the region fills, by this rule and by others."""
    region, inside = land.region, sum(land.region.inside)
    raw = "-" if math.isnan(region.raw_share.value) else percent(region.raw_share)
    return [
        f"{percent(region.volume)} of the searched box{under(part)} lies in the region: within "
        f"{region.tolerance:.4f} of the best point, one paired standard error over lines, or not to be told "
        f"from it; {inside} of its {len(part.trials)} complete trials lie there.",
        f"By other rules: {raw} of the trials pass the one-SE rule by their own spread over lines; "
        f"{region.half_volume:.0%} of the box is within the tolerance with even odds, {region.strict_volume:.0%} "
        "against the best of every draw.",
    ]


def worst_lines(part: Part, land: Landscape) -> str:
    """The hardest line at the best point and in the region."""
    region = land.region
    return (
        f"At the recommended point{under(part)} the hardest line is {region.worst_line}, with "
        f"{region.worst_at_best:.4f} to expect; the lowest that any line is to expect anywhere in the "
        f"region is {region.worst_inside:.4f}."
    )


def noise_words(report: RegionReport) -> list[str]:
    """The noise floor in sentences."""
    noise = report.noise
    said = [f"{noise.reason[0].upper()}{noise.reason[1:]}."] if noise.reason else []
    if math.isfinite(noise.sd):
        said.append(
            f"Another seed alone moves a macro score by {noise.sd:.4f} (standard deviation of one seed, "
            f"{noise.freedom} degrees of freedom)."
        )
    if math.isfinite(noise.paired):
        said.append(f"Two points that differ by less than {noise.paired:.4f} cannot be told from training noise.")
    if math.isfinite(noise.paired_lines):
        said.append(f"A difference below {noise.paired_lines:.4f} may turn round in another set of lines.")
    return said


def best_words(part: Part, land: Landscape) -> list[str]:
    """The best trial against the recommended point, and the gain over the default."""
    best = land.best_trial
    gain = land.gain_reason or f"expected to gain {between(land.gain, sign='+')} over the default"
    return [
        f"Trial {best.number} scored highest{under(part)}, {best.score:.4f}; smoothed over its neighbours "
        f"{best.expected:.4f} is to be expected of it, and {between(best.recommended)} of the recommended setting.",
        f"The recommended setting{under(part)}: {gain}.",
    ]


def origin(report: RegionReport, table: pd.DataFrame, words: SearchWords) -> Iterator[str]:
    """How the figures came about."""
    states = ", ".join(f"{count} {state}" for state, count in states_of(table).items()) or "none yet"
    yield (
        f"Trials: {states}; {counted(report.counts.get('used', 0), 'trial')} with a score in every cell "
        f"({counted(len(report.folds), 'line')} x {counted(len(report.seeds), 'seed')}) stand behind the region. "
        "Stopped and failed trials and those that repeat a point never enter it."
    )
    yield (
        f"Each validation line ({', '.join(report.folds)}) was left out of training once per seed "
        f"({', '.join(map(str, report.seeds))}), the same in all trials, so that differences are paired."
    )
    yield f"The test line {words.test_line} was never read: neither trained on, nor validated on, nor scored here."
    yield f"Points were chosen by {words.sampler}; store {words.store}."
    for part, land in mapped(report.parts):
        yield _quality(part, land.quality)
    for part in report.parts:
        if part.landscape is None:
            yield f"No region{under(part)}: {part.reason}."
    if words.command:
        yield f"To train the recommended settings: {words.command}"
    yield "Versions: " + (", ".join(f"{name} {own}" for name, own in sorted(words.versions.items())) or "not recorded")


def _quality(part: Part, own: Quality) -> str:
    where = f"The surrogate{under(part)} stands on {counted(own.points, 'trial')}"
    if math.isnan(own.r2):
        return f"{where}, whose scores are all the same."
    return (
        f"{where}; left out one at a time their scores are predicted with an R2 of {own.r2:.2f} (1: exactly, 0: "
        f"no better than the mean) and a rank correlation of {number(own.ranks, 2)}. Noise of a point {own.noise:.4f}, "
        f"own ways of the lines {own.line_spread:.4f} (standard deviations)."
    )
