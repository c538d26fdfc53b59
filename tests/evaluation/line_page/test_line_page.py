"""What the page of a predicted line says, with and without ranges of the training lines."""

from __future__ import annotations

import numpy as np
import pytest
from line_ranges import facts, ranges, seen_line

from evaluation.line_page.freezing import links_per, whole_groups
from evaluation.line_page.judged import JudgedLine, callouts, how_many, links_sentence, trust_sentence
from evaluation.line_page.page import line_page
from evaluation.line_page.range_figures import count_labels, links_per_gene, span_labels
from evaluation.line_page.ranges import COUNT_CUTS
from evaluation.page import Figure, Page, Table
from evaluation.page.writing import page_html


def parts(page: Page, kind: type) -> list:  # type: ignore[type-arg]
    return [part for section in page.sections for part in section.parts if isinstance(part, kind)]


def test_links_of_a_gene_are_its_distinct_called_enhancers() -> None:
    gene, enhancer = np.array([7, 7, 7, 3, 3]), np.array([1, 1, 2, 1, 4])
    called = np.array([False, True, False, False, False])
    members, links = links_per(gene, enhancer, called)
    assert (members.tolist(), links.tolist()) == ([2, 2], [0, 1])


def test_of_a_large_line_whole_genes_are_drawn() -> None:
    gene = np.repeat(np.arange(50), 10)
    drawn = whole_groups(gene, 95, 0)
    assert len(drawn) == 100
    assert set(np.bincount(gene[drawn])) <= {0, 10}
    assert whole_groups(gene, 500, 0).tolist() == list(range(500))


def test_the_page_begins_with_what_is_called() -> None:
    own = ranges()
    seen = seen_line(own=own)
    assert how_many(seen, facts(own)) == (
        "In A549 3 links of 2 genes (of 3) with 1 enhancers (of 2) are called: 2 of 3 pairs reach a probability of "
        ".500, and a gene's own promoter is no link."
    )


@pytest.mark.parametrize(
    ("links", "where"), [((0, 1, 2), "as in"), ((9, 9, 9), "more than in"), ((0, 0, 0), "fewer than in")]
)
def test_links_per_gene_stand_beside_the_training_lines(links: tuple[int, ...], where: str) -> None:
    own = ranges()
    told = links_sentence(seen_line(links=links, own=own), facts(own))
    assert f", {where} the training lines (.50 to 1.50)." in told


def test_a_line_unlike_the_training_lines_is_warned_of_in_a_sentence() -> None:
    own = ranges()
    judged = JudgedLine.of(seen_line(signals=(5, 5, 5, 5), environment=(2.0, 2.0), own=own), own)
    told = trust_sentence(judged, facts(own))
    assert "A549 is unlike the lines the model learnt from in its signals and the environment the model infers" in told
    warned = [one.text for one in callouts(judged, facts(own)) if one.tone == "warning"]
    assert warned[0].startswith(
        "The signals of A549 lie outside the range of the training lines: 1.00 from the nearest training line, GM12878 "
        "(mean KS distance over tracks), where these are .00 to .50 from one another; the validation line, "
        "which the report judges, is .25."
    )
    assert len(warned) == 2


def test_a_line_like_the_training_lines_is_not_warned_of() -> None:
    own = ranges()
    judged = JudgedLine.of(seen_line(own=own), own)
    assert {one.tone for one in callouts(judged, facts(own))} == {"good"}
    assert "within the range of the lines the model learnt from" in trust_sentence(judged, facts(own))


def test_missing_tracks_are_named() -> None:
    own = ranges()
    told = [one.text for one in callouts(JudgedLine.of(seen_line(own=own), own), facts(own, missing=("pair:DNase",)))]
    assert "Missing in A549, and taken as their mean over the training lines: pair:DNase." in told


def test_a_model_without_ranges_has_a_page_that_says_so() -> None:
    page = line_page([seen_line()], facts(None))
    assert "its run was evaluated by an earlier version" in page_html(page)
    assert not parts(page, Table)
    assert all(
        trace.name in ("A549", "threshold")
        for figure in parts(page, Figure)
        for plot in figure.plots
        for trace in plot.drawing.data
    )


def test_figures_have_the_range_of_the_training_lines_where_the_threshold_is_the_calibrations() -> None:
    own = ranges()
    figure = links_per_gene([seen_line(own=own)], facts(own))
    range_, held_out, line = figure.plots[0].drawing.data
    assert list(range_.x) == ["0", "1", "2", "3"]
    assert np.asarray(range_.base).tolist() == [0.0, 0.5, 0.0, 0.0]
    assert np.asarray(line.y).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0.0])
    assert np.asarray(held_out.y).tolist() == [0.25] * 4
    assert len(links_per_gene([seen_line(own=own)], facts(own, 0.3)).plots[0].drawing.data) == 1
    assert "no counts of the training lines" in links_sentence(seen_line(own=own), facts(own, 0.3))


def test_bins_are_called_by_what_they_hold() -> None:
    assert count_labels(COUNT_CUTS)[:2] == ["0", "1"]
    assert count_labels(COUNT_CUTS)[-3:] == ["50-99", "100-199", "200+"]
    assert span_labels([1.0, 2.0], str) == ["below 1.0", "1.0-2.0", "2.0 on"]


def test_two_lines_have_a_panel_each() -> None:
    own = ranges()
    page = line_page([seen_line(own=own), seen_line("Jurkat", own=own)], facts(own))
    assert [plot.title for plot in next(p for p in parts(page, Figure) if p.name == "scores").plots] == [
        "A549",
        "Jurkat",
    ]
    assert len(page.answer) == 6
    page_html(page)
