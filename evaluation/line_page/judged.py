"""A predicted line, judged: how unlike the training lines it is, and the sentences that say so."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from data_pipeline.errors import listed
from evaluation.line_page.likeness import (
    NOTHING,
    Likeness,
    TrackLikeness,
    environment_likeness,
    signal_likeness,
    spread_likeness,
    track_likeness,
)
from evaluation.line_page.ranges import LineRanges, Spread
from evaluation.line_page.seen import Facts, SeenLine, count_spread
from evaluation.page import Callout
from evaluation.report_text import number


@dataclass(frozen=True)
class JudgedLine:
    """A line beside the training lines."""

    seen: SeenLine
    signals: Likeness
    environment: Likeness
    distance: Likeness
    """In the distances of its pairs."""
    considered: Likeness
    """In the number of enhancers per gene."""
    tracks: list[TrackLikeness]
    """The most unlike first."""

    @classmethod
    def of(cls, seen: SeenLine, ranges: LineRanges | None) -> JudgedLine:
        """Judge `seen`; nothing is like or unlike where there are no ranges."""
        if ranges is None:
            return cls(seen, NOTHING, NOTHING, NOTHING, NOTHING, [])
        environment = environment_likeness(ranges, seen.environment) if seen.environment.size else NOTHING
        return cls(
            seen,
            signal_likeness(ranges, seen.signals),
            environment,
            spread_likeness(ranges, ranges.distance, seen.distance),
            spread_likeness(ranges, ranges.considered, count_spread(seen.considered)),
            track_likeness(ranges, seen.signals),
        )

    @property
    def unlike(self) -> list[str]:
        """What of the line lies outside the training lines' range, in words."""
        found = {
            "its signals": self.signals,
            "the environment the model infers": self.environment,
            "the distances of its pairs": self.distance,
            "the number of enhancers per gene": self.considered,
        }
        return [what for what, own in found.items() if own.outside]


def how_many(seen: SeenLine, facts: Facts) -> str:
    """How many pairs are called, and what links they make."""
    links, genes = int(seen.per_gene.sum()), int((seen.per_gene > 0).sum())
    enhancers = int((seen.per_enhancer > 0).sum())
    return (
        f"In {seen.line} {links:,} links of {genes:,} genes (of {len(seen.per_gene):,}) with {enhancers:,} enhancers "
        f"(of {len(seen.per_enhancer):,}) are called: {seen.called_distance.total:,} of {seen.distance.total:,} pairs "
        f"reach a probability of {number(facts.threshold)}, and a gene's own promoter is no link."
    )


def links_sentence(seen: SeenLine, facts: Facts) -> str:
    """How many links a gene has, beside the training lines."""
    mean = float(seen.per_gene.mean()) if len(seen.per_gene) else 0.0
    own = f"A gene of {seen.line} has {number(mean, 2)} links on average"
    at = facts.ranges.links_at(facts.threshold) if facts.ranges else None
    if facts.ranges is None:
        return f"{own}; the model carries no ranges of its training lines to hold that against."
    if at is None:
        return f"{own}; at a threshold of one's own there are no counts of the training lines to hold that against."
    low, high = _range(at.per_gene, facts.ranges)
    where = "more than" if mean > high else "fewer than" if mean < low else "as"
    if low == high:
        return f"{own}, {where} in the training line ({number(low, 2)})."
    return f"{own}, {where} in the training lines ({number(low, 2)} to {number(high, 2)})."


def trust_sentence(judged: JudgedLine, facts: Facts) -> str:
    """Whether the line is like those the model learnt from, in one sentence."""
    line = judged.seen.line
    if facts.ranges is None:
        return f"Whether {line} is like the lines the model learnt from is not known."
    if judged.unlike:
        return (
            f"{line} is unlike the lines the model learnt from in {_joined(judged.unlike)}: trust the order of its "
            "scores less than the model's report says, and its probabilities less than that."
        )
    if judged.signals.outside is None and judged.environment.outside is None:
        return f"Whether {line} is like the lines the model learnt from cannot be said."
    return f"{line} lies within the range of the lines the model learnt from, as far as {_few(facts.ranges)} tell."


def callouts(judged: JudgedLine, facts: Facts) -> Iterator[Callout]:
    """A sentence on each thing that is compared, a warning where the line lies outside."""
    line, ranges = judged.seen.line, facts.ranges
    if ranges is None:
        yield Callout(
            f"The model carries no ranges of its training lines, so nothing says whether {line} is like them: its run "
            "was evaluated by an earlier version, or not at all; run evaluate.py on it and export it again.",
            "warning",
        )
        return
    yield from _about(
        judged.signals,
        f"The signals of {line}",
        "mean KS distance over tracks",
        "what the model reads off them may mean something else here",
    )
    yield from _about(
        judged.environment,
        f"The environment that the model infers for {line} (z_E)",
        "in units of its spread between support sets",
        "the model is asked beyond the lines it has learnt to tell apart",
    )
    yield from _about(
        judged.distance,
        f"The distances of the pairs of {line}",
        "KS distance",
        "the pairs asked about were chosen otherwise, and with another share of interacting ones probabilities are off",
    )
    yield from _about(
        judged.considered,
        f"The numbers of enhancers that genes of {line} are asked about with",
        "KS distance",
        "the more candidates there are the smaller a share of them interacts, and probabilities are too high",
    )
    if facts.missing_tracks:
        yield Callout(
            f"Missing in {line}, and taken as their mean over the training lines: {listed(facts.missing_tracks)}.",
            "note",
        )


def _about(own: Likeness, what: str, unit: str, then: str) -> Iterator[Callout]:
    if not math.isfinite(own.distance):
        return
    here = f"{number(own.distance, 2)} from the nearest training line, {own.nearest} ({unit})"
    if own.outside is None:
        yield Callout(f"{what}: {here}. With one training line there is no range to hold that against.", "note")
        return
    among = [number(value, 2) for value in (min(own.among.values()), max(own.among.values()))]
    them = f"{among[0]} to {among[1]}" if among[0] != among[1] else among[0]
    held_out = (
        f"; the validation line, which the report judges, is {number(own.held_out, 2)}"
        if math.isfinite(own.held_out)
        else ""
    )
    if own.outside:
        yield Callout(
            f"{what} lie outside the range of the training lines: {here}, where these are {them} from one another"
            f"{held_out}. So {then}.".replace("(z_E) lie", "(z_E) lies"),
            "warning",
        )
    else:
        yield Callout(
            f"{what} lie within the range of the training lines: {here}, where these are {them} from one another"
            f"{held_out}.".replace("(z_E) lie", "(z_E) lies"),
            "good",
        )


def _range(spread: Spread, ranges: LineRanges) -> tuple[float, float]:
    means = [spread.mean[line] for line in ranges.train_lines]
    return float(np.min(means)), float(np.max(means))


def _few(ranges: LineRanges) -> str:
    return f"{len(ranges.train_lines)} training lines"


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
