"""Every number of the specification has its test, and docs/requirements.md says where, truthfully."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PAGE = (PROJECT / "docs/requirements.md").read_text()
DEFINED = {
    str(file.relative_to(PROJECT)): set(re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE))
    for file in (PROJECT / "tests").rglob("test_*.py")
}
"""Test functions by file."""
NUMBERS_PER_SECTION = {0: 7, 1: 5, 2: 4, 3: 8, 4: 6, 5: 7, 6: 6, 7: 6, 8: 7, 9: 5, 10: 3, 11: 2, 12: 2, 13: 1}
"""T-numbers of algorithms.md, by section."""
LATER = {"T11.1", "T11.2"}
"""They come with the region of a search."""
T_NUMBERS = [f"T{section}.{n}" for section, count in NUMBERS_PER_SECTION.items() for n in range(1, count + 1)]
SPANS = ((1, 8), (10, 15), (20, 30), (40, 56), (60, 66), (70, 76), (80, 86), (90, 93), (100, 108))
REQUIREMENTS = [f"R{n:02}" for first, last in SPANS for n in range(first, last + 1)] + [
    f"B{n:02}" for n in range(1, 10)
]


def row(number: str) -> list[str]:
    """Cells of the page's one row of `number`: claim, where, shown by."""
    rows = re.findall(rf"^\| {re.escape(number)} \| (.*) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 1, f"docs/requirements.md has {len(rows)} rows of {number}"
    return re.split(r" \| ", rows[0])


@pytest.mark.parametrize("number", [number for number in T_NUMBERS if number not in LATER])
def test_every_t_number_has_a_test_of_its_name_where_the_page_says(number: str) -> None:
    prefix = f"test_{number.replace('.', '_')}_"
    has = {file for file, names in DEFINED.items() if any(name.startswith(prefix) for name in names)}
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", row(number)[2]))
    assert named
    assert sorted(named - has) == []


@pytest.mark.parametrize("number", REQUIREMENTS)
def test_every_requirement_names_its_code_and_a_test_that_exists(number: str) -> None:
    claim, where, shown = row(number)
    tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", shown)
    assert claim
    assert re.findall(r"`[\w/.]+`", where)
    assert tests
    assert [f"{file}::{name}" for file, name in tests if name not in DEFINED.get(file, set())] == []


def test_every_file_on_the_page_exists() -> None:
    files = set(re.findall(r"`([\w/]+\.(?:py|yaml))[`:]", PAGE))
    assert [file for file in sorted(files) if not (PROJECT / file).is_file()] == []


def test_the_page_has_no_number_that_nobody_asked_for() -> None:
    numbers = re.findall(r"^\| ([TRB]\d+(?:\.\d+)?) \|", PAGE, re.MULTILINE)
    assert sorted(numbers) == sorted([*REQUIREMENTS, *T_NUMBERS])


def test_no_test_claims_a_number_that_does_not_exist() -> None:
    claimed = {
        f"T{a}.{b}" for names in DEFINED.values() for name in names for a, b in re.findall(r"test_T(\d+)_(\d+)_", name)
    }
    assert sorted(claimed - set(T_NUMBERS)) == []
