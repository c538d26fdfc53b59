"""The page on context names every column there is, with the assays it needs."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from data_pipeline.context.groups import GROUPS

PAGE = Path(__file__).resolve().parents[3] / "docs/context.md"


def spelled(pattern: str) -> list[str]:
    """The names that a pattern with braces stands for."""
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    return ["".join(chosen) for chosen in itertools.product(*parts)]


def test_the_page_has_a_row_for_every_column_and_no_other() -> None:
    sections = re.split(
        r"^### `(\w+)`$", PAGE.read_text(encoding="utf-8").partition("\n## A missing assay")[0], flags=re.M
    )
    told = {
        (group, name): needs
        for group, text in zip(sections[1::2], sections[2::2], strict=True)
        for pattern, needs in re.findall(r"^\| `([^`]+)` \| ([^|]*?) ?\|", text, flags=re.M)
        for name in spelled(pattern)
    }
    columns = {(group, column.name): column.assays for group in GROUPS for column in GROUPS[group].columns}
    assert set(told) == set(columns)
    for column, assays in columns.items():
        assert told[column] in (", ".join(assays), {1: "the assay", 2: "both"}.get(len(assays)))
