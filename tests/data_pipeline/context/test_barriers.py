"""CTCF between and around the elements of a pair."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_scenes import Stretch, scene

from data_pipeline.context.barriers import COLUMNS, barriers

NAMES = [column.name for column in COLUMNS]


def site(number: int, strength: float) -> Stretch:
    """CTCF over the whole of 10 kb bin 100 + `number`, so that its mass is strength x 10 kb."""
    return (100 + number) * 10_000, (101 + number) * 10_000, strength


def place(number: int) -> int:
    return (100 + number) * 10_000 + 5_000


BEHIND, ENHANCER, BETWEEN, PROMOTER, BEYOND = site(15, 5), site(20, 1), site(25, 6), site(30, 2), site(38, 4)


def told(sites: list[Stretch], mirror: bool) -> dict[str, float]:
    """Columns of a pair whose enhancer lies in bin 20 and whose TSS lies in bin 30, mass in units of 10 kb."""
    values = barriers(scene([(place(20), place(30))], [], mirror, CTCF=sites))[0]
    masses = {"at_promoter", "at_enhancer", "weaker_end", "ends_together", *(n for n in NAMES if "strongest_b" in n)}
    return {
        name: value / 10_000 if name in masses and "over" not in name else value
        for name, value in zip(NAMES, values.tolist(), strict=True)
    }


@pytest.mark.parametrize("mirror", [False, True])
def test_barriers_of_a_pair_worked_out_by_hand(mirror: bool) -> None:
    # A site counts in its own bin and both beside it: 14-16, 19-21, 24-26, 29-31 and 37-39.
    expected = {
        "at_promoter": 2.0,
        "at_enhancer": 1.0,
        "weaker_end": 1.0,
        "ends_together": 2**0.5,
        "above_75": 3,  # of 15 bins with signal, three have 6 and three have 5, the quantile
        "above_90": 0,
        "strongest_between": 6.0,
        "stronger_than_promoter": 3,
        "stronger_than_enhancer": 4,  # 24 to 26, and 29, which has the promoter's own site
        "promoter_over_strongest": 2 / 8,
        "enhancer_over_strongest": 1 / 7,
        "strongest_beyond_promoter": 4.0,
        "strongest_behind_enhancer": 5.0,
        "steps_to_stronger_beyond_promoter": 7,
        "steps_to_stronger_before_promoter": 4,
        "steps_to_stronger_behind_enhancer": 4,
        "promoter_rank": (101 - 12) / 101,  # its own three bins are not weaker
        "enhancer_rank": (101 - 15) / 101,
    }
    found = told([BEHIND, ENHANCER, BETWEEN, PROMOTER, BEYOND], mirror)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("mirror", [False, True])
def test_without_a_barrier_nothing_is_between(mirror: bool) -> None:
    found = told([BEHIND, ENHANCER, PROMOTER, BEYOND], mirror)
    assert found["strongest_between"] == 2.0  # the bin beside the promoter's
    assert found["stronger_than_promoter"] == 0
    assert found["steps_to_stronger_before_promoter"] == 14  # the site behind the enhancer


@pytest.mark.parametrize("mirror", [False, True])
def test_behind_and_beyond_are_not_between_and_reach_250_kb(mirror: bool) -> None:
    near = told([ENHANCER, PROMOTER, site(-6, 9), site(56, 9)], mirror)
    far = told([ENHANCER, PROMOTER, site(-7, 9), site(57, 9)], mirror)
    for name in ("strongest_beyond_promoter", "strongest_behind_enhancer"):
        assert (near[name], far[name]) == (9.0, 2.0 if "beyond" in name else 1.0)
    assert near["stronger_than_promoter"] == far["stronger_than_promoter"] == 0
    assert far["steps_to_stronger_beyond_promoter"] == 26
    assert far["steps_to_stronger_behind_enhancer"] == 26


@pytest.mark.parametrize("mirror", [False, True])
def test_what_is_not_within_500_kb_is_told_as_that_far(mirror: bool) -> None:
    found = told([ENHANCER, PROMOTER, site(82, 9)], mirror)
    assert found["steps_to_stronger_beyond_promoter"] == 50
    assert found["steps_to_stronger_behind_enhancer"] == 50
    assert found["steps_to_stronger_before_promoter"] == 50


def test_elements_in_one_bin_have_nothing_between() -> None:
    pair = scene([(place(20), place(20) + 2_000)], [], CTCF=[site(20, 3), site(22, 9)])
    found = dict(zip(NAMES, barriers(pair)[0], strict=True))
    assert found["strongest_between"] == found["stronger_than_enhancer"] == found["above_75"] == 0
    assert found["promoter_over_strongest"] == pytest.approx(1.0)
    assert found["steps_to_stronger_beyond_promoter"] == 1


def test_a_place_behind_the_last_signal_has_none() -> None:
    pair = scene([(place(20), place(300))], [], CTCF=[site(20, 3)])
    found = dict(zip(NAMES, barriers(pair)[0], strict=True))
    assert found["at_promoter"] == found["promoter_rank"] == 0
    assert found["at_enhancer"] == 30_000


def test_a_line_without_ctcf_on_the_chromosome_has_no_barriers() -> None:
    pair = scene([(place(20), place(30))], [], DNase=[site(20, 3)])
    found = dict(zip(NAMES, barriers(pair)[0], strict=True))
    assert {name for name, value in found.items() if value} == {name for name in NAMES if name.startswith("steps")}
    assert np.isfinite(list(found.values())).all()
