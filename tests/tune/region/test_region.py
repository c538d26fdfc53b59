"""The region of responses that are known."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from planted_region import LINES, SEEDS, SPACE, A, B, flat, plateau, searched

from tune.region.answer import Landscape, analyse
from tune.region.design import design_of
from tune.region.region import Region, find_region, places_of
from tune.region.surrogate import fit_surrogate


def landscape(table: pd.DataFrame) -> Landscape:
    found = analyse(table, SPACE, LINES, SEEDS, {A: 0.011, B: 0.1}).parts[0].landscape
    assert found is not None
    return found


def region(table: pd.DataFrame, lines: list[str] = LINES) -> Region:
    design = design_of(table, SPACE, lines, SEEDS)
    surrogate = fit_surrogate(design)
    return find_region(design, surrogate, places_of(surrogate, 0))


@pytest.fixture(scope="module")
def planted() -> Landscape:
    table = searched(points=32)
    table["share/corr"] = 0.4 * table[A]
    return landscape(table)


def test_T11_2_an_exactly_flat_response_gives_exactly_the_whole_box() -> None:
    found = region(searched(flat, noise=0.0))
    assert (found.volume.value, found.volume.low, found.volume.high) == (1.0, 1.0, 1.0)
    assert all(found.inside)
    for axis in found.axes:
        assert (axis.projection.low.value, axis.projection.high.value) == pytest.approx((0.01, 4.0))


def test_a_response_of_nothing_but_noise_gives_almost_the_whole_box() -> None:
    volumes = [region(searched(flat, seed=seed)).volume for seed in (0, 1)]
    assert min(volume.value for volume in volumes) > 0.9
    assert all(1.0 in volume for volume in volumes)


def test_T11_2_permuted_labels_of_the_lines_change_nothing() -> None:
    table = searched(points=12)
    first, second = LINES[0], LINES[2]
    swapped = {}
    for seed in SEEDS:
        one, other = f"score/{first}@{seed}", f"score/{second}@{seed}"
        swapped |= {one: other, other: one}
    own, permuted = region(table), region(table.rename(columns=swapped))
    names = {first: second, second: first}
    assert permuted.worst_line == names.get(own.worst_line, own.worst_line)
    assert asdict(permuted) | {"worst_line": ""} == asdict(own) | {"worst_line": ""}


def test_T11_2_the_order_of_the_lines_changes_nothing() -> None:
    table = searched(points=12)
    assert asdict(region(table, LINES[::-1])) == asdict(region(table))


def test_the_bounds_of_a_planted_region_lie_in_their_intervals(planted: Landscape) -> None:
    own, other = planted.region.axes
    reach = np.sqrt(planted.region.tolerance / 0.8)
    assert 0.01 * 400 ** (0.35 - reach) in own.projection.low
    assert 0.01 * 400 ** (0.75 + reach) in own.projection.high
    assert own.projection.low.low > 0.011
    assert (other.projection.low.value, other.projection.high.value) == pytest.approx((0.01, 4.0))


def test_the_volume_of_a_planted_region_lies_in_its_interval(planted: Landscape) -> None:
    assert 0.4 + 2 * np.sqrt(planted.region.tolerance / 0.8) in planted.region.volume


def test_the_recommended_setting_lies_on_the_plateau(planted: Landscape) -> None:
    at = np.log(planted.region.best[A] / 0.01) / np.log(400)
    assert plateau(np.array([[at, 0.5]]))[0] > 0.699


def test_offsets_of_lines_do_not_widen_the_region() -> None:
    table = searched(points=16)
    moved = table.copy()
    for at, line in enumerate(LINES):
        for seed in SEEDS:
            moved[f"score/{line}@{seed}"] += 0.1 * at
    own, other = region(table), region(moved)
    assert other.tolerance == pytest.approx(own.tolerance)
    assert other.volume.value == pytest.approx(own.volume.value, abs=0.02)


def test_points_of_the_design_are_inside_where_the_plateau_is(planted: Landscape) -> None:
    at = np.log(searched(points=32)[A].to_numpy() / 0.01) / np.log(400)
    inside = np.array(planted.region.inside)
    assert inside[(at > 0.4) & (at < 0.7)].all()
    assert not inside[(at < 0.05)].any()


def test_the_worst_line_of_the_region_is_the_hardest_one(planted: Landscape) -> None:
    table = searched(points=32)
    means = {line: table[[f"score/{line}@{seed}" for seed in SEEDS]].to_numpy().mean() for line in LINES}
    assert planted.region.worst_line == min(means, key=lambda line: means[line])
    assert planted.region.worst_inside <= planted.region.worst_at_best


def test_the_surrogate_says_that_it_can_be_believed(planted: Landscape) -> None:
    assert planted.quality.r2 > 0.8
    assert planted.quality.ranks > 0.7


def test_the_surrogate_says_that_it_cannot_be_believed_on_noise() -> None:
    assert fit_surrogate(design_of(searched(flat), SPACE, LINES, SEEDS)).r2 < 0.2


def test_the_recommended_setting_gains_over_a_default_off_the_plateau(planted: Landscape) -> None:
    at = np.log(1.1) / np.log(400)
    assert 0.8 * (0.35 - at) ** 2 == pytest.approx(planted.gain.value, abs=0.03)
    assert planted.gain.low > 0


def test_the_zones_of_the_records_are_compared_per_term(planted: Landscape) -> None:
    own = next(zone for zone in planted.zones if zone.key == A)
    at = np.linspace(0, np.log(20) / np.log(400), 9), np.log(np.array([50, 200])) / np.log(400)
    old, claimed = at[0], np.linspace(*at[1], 9)
    truth = plateau(np.c_[claimed, claimed]).mean() - plateau(np.c_[old, old]).mean()
    assert truth in own.difference
    assert own.old.activity < 0.05 < own.claimed.activity
    assert "scores higher, as the records claim" in own.says
    assert "drowned" in own.says


def test_a_term_that_changes_nothing_cannot_be_told_apart_between_the_zones(planted: Landscape) -> None:
    other = next(zone for zone in planted.zones if zone.key == B)
    assert 0.0 in other.difference
    assert "cannot be told apart" in other.says


def test_a_curve_has_the_shape_of_what_was_planted(planted: Landscape) -> None:
    own, other = planted.effects
    assert np.corrcoef(own.mean, plateau(np.c_[np.linspace(0, 1, 17), np.zeros(17)]))[0, 1] > 0.97
    assert other.span.value < 0.2 * own.span.value
    assert 0.0 in other.per_efold
