"""The page of a prediction: what was called in each line, how that stands beside the training lines, and loci."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evaluation.line_page.judged import JudgedLine, callouts, how_many, links_sentence, trust_sentence
from evaluation.line_page.range_figures import (
    considered_per_gene,
    distances,
    far_or_near,
    genes_per_enhancer,
    links_per_gene,
    scores,
)
from evaluation.line_page.seen import Facts, SeenLine
from evaluation.page import Figure, Page, Part, Points, Section, Table
from evaluation.report_text import number

MOST_TRACKS = 15
"""Rows of the table of tracks."""


def line_page(lines: Sequence[SeenLine], facts: Facts, loci: Sequence[Figure] = ()) -> Page:
    """The page of the predicted `lines`, with the figures of `loci`."""
    judged = [JudgedLine.of(own, facts.ranges) for own in lines]
    sections = [
        Section("Loci", list(loci)),
        Section(
            "Like the training lines?", [part for place, own in enumerate(judged) for part in _like(place, own, facts)]
        ),
        Section("Links", [links_per_gene(lines, facts), genes_per_enhancer(lines, facts)]),
        Section("Pairs asked about", [considered_per_gene(lines, facts), distances(lines, facts)]),
        Section("Scores", [scores(lines, facts)]),
        Section("How this page came about", [Points(list(_origin(facts)))]),
    ]
    names = ", ".join(own.line for own in lines)
    return Page(
        title=f"Predicted links of {names}",
        subtitle=f"What the model {facts.run} makes of pairs of {'this line' if len(lines) == 1 else 'these lines'}, "
        f"held against the lines it was trained on ({', '.join(facts.train_lines)}).",
        answer=list(_answer(judged, facts)),
        sections=[section for section in sections if section.parts],
    )


def _answer(judged: Sequence[JudgedLine], facts: Facts) -> Iterator[str]:
    for own in judged:
        yield how_many(own.seen, facts)
        yield links_sentence(own.seen, facts)
        yield trust_sentence(own, facts)


def _like(place: int, judged: JudgedLine, facts: Facts) -> Iterator[Part]:
    yield from callouts(judged, facts)
    found = [
        ("signals", "mean KS distance", judged.signals),
        ("environment", "distance in z_E", judged.environment),
        ("distances of pairs", "KS distance", judged.distance),
    ]
    if drawn := [(title, axis, own) for title, axis, own in found if own.nearest]:
        yield far_or_near(place, judged.seen.line, drawn)
    if judged.tracks:
        yield _tracks(judged)


def _tracks(judged: JudgedLine) -> Table:
    outside = sum(bool(own.likeness.outside) for own in judged.tracks)
    line = judged.seen.line
    rows = []
    for own in judged.tracks[:MOST_TRACKS]:
        among = own.likeness.among.values()
        low, high = own.train_means
        rows.append(
            [
                own.track.removeprefix("context:"),
                number(own.likeness.distance, 2),
                own.likeness.nearest,
                number(max(among), 2) if among else "-",
                f"{own.mean:.3g}",
                f"{low:.3g} to {high:.3g}",
                {True: "yes", False: "no", None: "-"}[own.likeness.outside],
            ]
        )
    return Table(
        f"Signals of {line} that are most unlike",
        ["signal", "KS", "nearest line", "training lines up to", "mean", "training means", "outside"],
        rows,
        words=["signal", "nearest line", "training means", "outside"],
        reads=f"KS is the largest difference between the shares of pairs below any value, in {line} and in the "
        f"training line nearest to it; it is outside where no training line is as far from the nearest other one. "
        f"That holds for {outside:,} of {len(judged.tracks):,} signals; of lines that are all alike it holds for one "
        f"signal in {_expected(judged)}.",
    )


def _expected(judged: JudgedLine) -> int:
    """Of lines that are alike any may be the farthest, the new one as well."""
    return max(len(own.likeness.among) for own in judged.tracks) + 1


def _origin(facts: Facts) -> Iterator[str]:
    yield (
        f"Scored with the best checkpoint of run {facts.run}; pairs are called at a probability of "
        f"{number(facts.threshold)}."
    )
    yield from facts.notes
    if facts.ranges:
        told = ", ".join(f"{line} {count:,}" for line, count in facts.ranges.pairs.items())
        yield (
            f"The ranges were counted when the run was evaluated, on pairs of {told}. Scores of training lines are of "
            f"pairs the model has learnt from; those of {facts.ranges.held_out}, the validation line, are not."
        )
