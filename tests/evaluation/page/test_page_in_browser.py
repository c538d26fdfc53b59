"""What a page of every part there is does in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsers import (
    WIDTHS,
    Opened,
    cells_of,
    check_figures_are_drawn,
    check_nothing_is_wider_than_the_window,
    check_paper_is_white,
    check_quiet_and_offline,
    check_tables_sort,
    check_the_scheme_is_followed,
    chromium,
    opened,
)
from every_part import HOSTILE, every_part

from evaluation.page.writing import write_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(every_part(), path)
    return path


@pytest.fixture(scope="module", params=WIDTHS)
def shown(request: pytest.FixtureRequest, browser: Browser, page: Path) -> Iterator[Opened]:
    """The page in a window of each width, for tests that leave all but the order of rows as it was."""
    with opened(browser, page, request.param) as seen:
        yield seen


def test_all_figures_are_drawn(shown: Opened) -> None:
    check_figures_are_drawn(shown.page)


def test_nothing_is_wider_than_the_window(shown: Opened) -> None:
    check_nothing_is_wider_than_the_window(shown.page)


def test_what_users_have_named_is_text_and_nothing_else(shown: Opened) -> None:
    assert shown.page.locator("main b, main img, h1 b").count() == 0
    assert shown.page.evaluate("window.taken") is None
    assert HOSTILE in shown.page.locator("h1").inner_text()
    assert HOSTILE in shown.page.locator(".legendtext").first.text_content()  # type: ignore[operator]


def test_page_and_figures_follow_the_scheme(shown: Opened) -> None:
    check_the_scheme_is_followed(shown.page)


def test_tables_sort_by_click_and_by_keyboard(shown: Opened) -> None:
    check_tables_sort(shown.page)


def test_numbers_sort_as_numbers_and_names_with_numbers_as_one_counts(shown: Opened) -> None:
    table = shown.page.locator("table").first
    table.locator("th button").nth(0).click()
    assert cells_of(table, 0) == [HOSTILE, "sim2", "sim10"]
    table.locator("th button").nth(1).press("Space")
    assert cells_of(table, 1) == ["-0.2", "1000.0", ""]


def test_the_console_stays_empty_and_the_network_unasked(browser: Browser, page: Path) -> None:
    with opened(browser, page) as seen:
        check_tables_sort(seen.page)
        check_paper_is_white(seen.page)
    check_quiet_and_offline(seen)


def test_paper_is_white_whatever_the_screen(browser: Browser, page: Path) -> None:
    with opened(browser, page, scheme="dark") as seen:
        check_paper_is_white(seen.page)


def test_the_window_is_filled_again_after_it_was_turned(browser: Browser, page: Path) -> None:
    with opened(browser, page, WIDTHS[1]) as seen:
        before = seen.page.locator(".plot svg.main-svg").first.bounding_box()
        seen.page.set_viewport_size({"width": 844, "height": 390})
        seen.page.wait_for_function(
            "width => document.querySelector('.plot svg.main-svg').clientWidth > width",
            arg=before["width"],  # type: ignore[index]
        )
        check_nothing_is_wider_than_the_window(seen.page)
