"""Mean signals beside the elements and along the window."""

from __future__ import annotations

import pytest
from tiny_scenes import scene

from data_pipeline.context.flanks import COLUMNS, PARTS, flanks

E, P = 2_000_000, 2_100_000


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(
    ("start", "where"),
    [
        (P, "beyond_promoter"),
        (P - 10_000, "before_promoter"),
        (E - 10_000, "beyond_enhancer"),
        (E, "before_enhancer"),
    ],
)
def test_beyond_leads_away_from_the_other_element_and_before_towards_it(start: int, where: str, mirror: bool) -> None:
    values = flanks(scene([(E, P)], [], mirror, H3K4me3=[(start, start + 10_000, 7.0)]))[0]
    found = dict(zip([column.name for column in COLUMNS], values, strict=True))
    expected = {f"H3K4me3_{where}_{width}kb": 70 / width for width in (10, 25, 100)}
    if where.startswith("before"):
        # The window between is the flank of both.
        other = "enhancer" if where.endswith("promoter") else "promoter"
        expected |= {f"H3K4me3_before_{other}_100kb": 0.7}
        expected |= {f"H3K4me3_window_{PARTS if other == 'enhancer' else 1}": 3.5}
    assert {name: value for name, value in found.items() if value} == pytest.approx(expected)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("part", range(PARTS))
def test_the_window_is_cut_from_the_enhancer_to_the_promoter(part: int, mirror: bool) -> None:
    start = E + part * 20_000
    values = flanks(scene([(E, P)], [], mirror, DNase=[(start, start + 20_000, 3.0)]))[0]
    found = {column.name: value for column, value in zip(COLUMNS, values, strict=True) if "DNase_window" in column.name}
    assert found == pytest.approx({f"DNase_window_{number + 1}": 3.0 * (number == part) for number in range(PARTS)})
