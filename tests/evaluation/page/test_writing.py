"""What stands in the file of a page, whatever shows it."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from every_part import HOSTILE, every_part, panels

from data_pipeline.errors import UserError
from evaluation.page.parts import Figure, Section
from evaluation.page.plots import DASHES, RIVAL_COLOURS, rival_style
from evaluation.page.writing import number_of, page_html, write_page


def without_plotly(text: str) -> str:
    return re.sub(r"<script>/\*\*.*?</script>", "", text, flags=re.DOTALL)


def test_the_same_parts_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        write_page(every_part(), tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_what_users_have_named_is_escaped_everywhere() -> None:
    own = without_plotly(page_html(every_part()))
    assert HOSTILE not in own
    assert own.count(html.escape(HOSTILE).replace("&#x27;", "&#39;")) >= 8


def test_headings_go_down_one_at_a_time() -> None:
    levels = [int(level) for level in re.findall(r"<h(\d)[ >]", without_plotly(page_html(every_part())))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))


def test_a_figure_s_data_are_those_it_was_given_and_no_template() -> None:
    (*_, content) = re.findall(r'<script type="application/json">(.*?)</script>', page_html(every_part()))
    drawn = json.loads(content)
    assert [trace["type"] for trace in drawn["data"]] == ["scatter", "bar"]
    assert drawn["data"][0]["y"] == [0, 1, 4]
    assert "template" not in drawn["layout"]


def test_a_page_without_figures_does_not_carry_plotly() -> None:
    assert len(page_html(replace(every_part(), sections=[]))) < 30_000


def test_two_figures_of_one_name_are_refused() -> None:
    figure = Figure("one", "One", panels(1), "Read it.", "A curve.")
    with pytest.raises(ValueError, match="names of their own: one, one"):
        page_html(replace(every_part(), sections=[Section("Figures", [figure, figure])]))


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        (".807 [.776,.843]", 0.807),
        ("-.0667 t[-.0708,-.0625]\nb[-.07,-.06]", -0.0667),
        ("+.206", 0.206),
        ("2,130", 2130.0),
        ("1.000", 1.0),
        ("3.2e-05", 3.2e-05),
        ("12 %", 12.0),
        ("7", 7.0),
        ("0.4", 0.4),
    ],
)
def test_a_cell_sorts_by_the_number_it_begins_with(cell: str, number: float) -> None:
    assert float(number_of(cell)) == number


@pytest.mark.parametrize("cell", ["", "-", "rank 0.4", "[.1,.2]"])
def test_a_cell_that_begins_with_no_number_has_none(cell: str) -> None:
    assert number_of(cell) == ""


def test_rivals_differ_in_colour_and_then_in_line_and_mark() -> None:
    styles = [rival_style(place) for place in range(len(RIVAL_COLOURS) * len(DASHES))]
    assert len(set(styles)) == len(styles)


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    with pytest.raises((UserError, OSError)):
        write_page(every_part(), tmp_path / "missing" / "page.html")
    assert list(tmp_path.iterdir()) == []
