"""The page of a search: what it says, what it says where there is nothing to show, and that a browser can open it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browsers import check_page
from search_tables import Searched, almost_empty_search, balance_search, lambda_search, odd_search

from evaluation.page import Callout, Figure, Page, Points, Table, write_page
from tune.region import RegionReport
from tune.search_page import region_tables, search_page, sentences
from tune.search_page.labels import number, short
from tune.search_page.trial_figures import undominated

Made = tuple[Searched, RegionReport, Page]
ALL_FIGURES = {"region-1", "plane-1", "effects-1", "importance-1", "activity-1", "lines", "repeats", "history"}


def made(search: Searched) -> Made:
    report = search.report()
    return search, report, search_page(report, search.table, "one", search.words)


@pytest.fixture(scope="module")
def whole() -> Made:
    return made(lambda_search())


@pytest.fixture(scope="module")
def balance() -> Made:
    return made(balance_search(32))


@pytest.fixture(scope="module")
def empty() -> Made:
    return made(almost_empty_search())


def parts_of(page: Page) -> list[object]:
    return [part for section in page.sections for part in section.parts]


def figures_of(page: Page) -> dict[str, Figure]:
    return {part.name: part for part in parts_of(page) if isinstance(part, Figure)}


def text_of(page: Page) -> str:
    said = [part.text for part in parts_of(page) if isinstance(part, Callout)]
    return "\n".join(said + [text for part in parts_of(page) if isinstance(part, Points) for text in part.sentences])


def test_the_page_opens_with_the_three_sentences_of_the_report(whole: Made) -> None:
    _, report, page = whole
    assert list(page.answer) == sentences(report)
    assert len(page.answer) == 3


def test_every_question_has_its_figure(whole: Made) -> None:
    assert set(figures_of(whole[2])) == ALL_FIGURES


@pytest.mark.parametrize("which", ["whole", "balance", "empty"])
def test_every_figure_and_table_has_a_sentence_that_says_what_to_read_off_it(
    which: str, request: pytest.FixtureRequest
) -> None:
    page = request.getfixturevalue(which)[2]
    shown = [part for part in parts_of(page) if isinstance(part, Figure | Table)]
    assert shown
    assert [part.title for part in shown if not part.reads.endswith(".")] == []


def test_the_test_line_that_no_trial_read_is_named(whole: Made) -> None:
    assert "The test line HepG2 was never read" in text_of(whole[2])


def test_the_command_that_trains_the_recommended_settings_is_there(whole: Made) -> None:
    assert "python distributed/train.py --config runs/one/recommended.yaml" in text_of(whole[2])


def test_each_term_has_a_verdict_on_the_zones_of_the_records(whole: Made) -> None:
    _, report, _ = whole
    columns, rows = region_tables(report)["Zones of the records"]
    verdicts = {row[0]: row[columns.index("verdict")] for row in rows}
    assert verdicts.keys() == {"corr", "grl", "hcont", "proto", "rank", "sparse"}
    assert verdicts["corr"] == "higher"


def test_settings_are_named_shortly_in_figures_and_wholly_in_tables(whole: Made) -> None:
    _, report, page = whole
    assert "corr weight" in [plot.title for plot in figures_of(page)["effects-1"].plots]
    assert "objective.terms.corr.weight" in [row[0] for row in region_tables(report)["Region per setting"][1]]


def test_trials_without_a_score_stand_below_the_others(whole: Made) -> None:
    traces = {trace.name: trace for trace in figures_of(whole[2])["effects-1"].plots[0].drawing.data}
    lowest = min(traces["complete trials"].y)
    assert len(traces["failed"].x) == 1
    assert len(traces["stopped"].x) == 2
    assert max(*traces["failed"].y, *traces["stopped"].y) < lowest


def test_the_optimism_in_the_answer_is_that_of_the_best_trial(whole: Made) -> None:
    search, report, _ = whole
    best = search.table[(search.table["kind"] == "trial") & (search.table["state"] == "complete")]["score"].max()
    assert report.noise.confirmations[0].search == pytest.approx(best)


def test_every_trial_of_the_design_has_a_row(whole: Made) -> None:
    (rows,) = [part for part in parts_of(whole[2]) if isinstance(part, Table) and part.title == "All trials"]
    assert sorted(int(row[0]) for row in rows.rows) == list(range(32))


def test_points_that_failed_are_told_with_their_reasons(whole: Made) -> None:
    assert "Trial 5 (corr weight" in text_of(whole[2])
    assert "loss is not finite at step 40." in text_of(whole[2])


def test_choices_are_compared_pairwise_beside_their_cost(balance: Made) -> None:
    _, report, page = balance
    assert {"modes-1", "cost-1"} <= set(figures_of(page))
    assert len(region_tables(report)["Pairs of objective.balance.mode"][1]) == 2 * 28


def test_hardly_any_trials_give_reasons_in_place_of_figures(empty: Made) -> None:
    _, _, page = empty
    assert set(figures_of(page)) == {"history"}
    for what in ("region", "curves", "importances"):
        assert f"No {what}: not enough complete trials: 1" in text_of(page)
    assert "this page is of a search under way" in text_of(page)


def test_a_search_without_any_trial_has_a_page_too() -> None:
    search = almost_empty_search()
    nothing = Searched(pd.DataFrame(), search.space, search.words, search.lines)
    _, report, page = made(nothing)
    assert figures_of(page) == {}
    assert region_tables(report) == {}


@pytest.mark.browser
def test_the_page_of_modes_does_in_a_browser_what_a_page_must(balance: Made, tmp_path: Path) -> None:
    write_page(balance[2], tmp_path / "page.html")
    check_page(tmp_path / "page.html")


@pytest.mark.browser
def test_so_does_a_page_of_odd_names_and_several_objectives(tmp_path: Path) -> None:
    _, _, page = made(odd_search())
    assert set(figures_of(page)) == ALL_FIGURES | {"objectives"}
    write_page(page, tmp_path / "page.html")
    check_page(tmp_path / "page.html")


def test_trials_that_no_other_betters_in_all_are_found() -> None:
    goals = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0], [0.5, 0.5], [1.0, 1.0]])
    assert undominated(goals).tolist() == [True, True, True, False, True]


def test_numbers_that_do_not_exist_are_a_dash_and_there_is_no_negative_zero() -> None:
    assert [number(float("nan")), number(None), number(-0.00001, 2)] == ["-", "-", "0.00"]


@pytest.mark.parametrize(
    ("key", "name"),
    [("objective.terms.grl.weight", "grl weight"), ("objective.balance.mode", "balance mode"),
     ("optimiser.lr", "optimiser lr")],
)  # fmt: skip
def test_a_short_name_leaves_out_what_all_begin_with(key: str, name: str) -> None:
    assert short(key) == name
