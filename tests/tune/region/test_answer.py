"""The report as a whole, its sentences, and searches that are too small to say anything."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from planted_region import BOX, LINES, SEEDS, SPACE, A, B, searched

from tune.region.answer import Landscape, RegionReport, analyse
from tune.search_page.wording import sentences

MODE, MEMORY = "objective.balance.mode", "objective.balance.memory"
BALANCE: dict[str, BaseDistribution] = {
    MEMORY: FloatDistribution(0.5, 0.99),
    MODE: CategoricalDistribution(["gradnorm_ema", "pcgrad"]),
}


def report(table: pd.DataFrame, lines: list[str] = LINES, seeds: list[int] = SEEDS) -> RegionReport:
    return analyse(table, SPACE, lines, seeds, {A: 0.1, B: 0.1})


def conditional(points: int = 24) -> pd.DataFrame:
    """Two modes, of which one has a setting of its own."""
    table = searched(points=points, space={MEMORY: BALANCE[MEMORY]})
    table[MODE] = ["gradnorm_ema", "pcgrad"] * (points // 2)
    table.loc[table[MODE] == "pcgrad", MEMORY] = np.nan
    return table


def planted(found: RegionReport) -> Landscape:
    land = found.parts[0].landscape
    assert land is not None
    return land


@pytest.fixture(scope="module")
def whole() -> RegionReport:
    return report(searched(points=16))


def test_the_report_is_json(whole: RegionReport) -> None:
    found = json.loads(json.dumps(whole.to_dict(), allow_nan=False))
    assert found["parts"][0]["landscape"]["region"]["volume"]["value"] == planted(whole).region.volume.value


def test_the_report_is_the_same_at_every_call(whole: RegionReport) -> None:
    assert report(searched(points=16)).to_dict() == whole.to_dict()


def test_truncated_trials_change_nothing_but_their_count(whole: RegionReport) -> None:
    table = pd.concat([searched(points=16), searched(seed=5, points=16).assign(state="stopped")], ignore_index=True)
    found = report(table)
    assert found.counts["stopped"] == 16
    assert found.to_dict()["parts"] == whole.to_dict()["parts"]


def test_the_answer_is_three_sentences(whole: RegionReport) -> None:
    said = sentences(whole)
    assert len(said) == 3
    assert all(text.endswith(".") and ". " not in text for text in said)
    assert "corr weight from" in said[0]
    assert "corr weight" in said[1]
    assert "gains" in said[2]


@pytest.mark.parametrize("points", [0, 1, 2, 7])
def test_too_few_trials_give_a_reason_in_place_of_numbers(points: int) -> None:
    found = report(searched(points=8).head(points))
    assert found.parts[0].landscape is None
    assert f"not enough complete trials: {points}" in found.parts[0].reason
    assert len(sentences(found)) == 3
    json.dumps(found.to_dict(), allow_nan=False)


def test_one_line_and_one_seed_still_have_a_region() -> None:
    found = report(searched(points=8, lines=["K562"], seeds=[0]), ["K562"], [0])
    land = planted(found)
    assert land.region.tolerance > 0
    assert np.isnan(found.noise.paired_lines)
    assert len(sentences(found)) == 3


def test_one_line_and_two_seeds_have_a_tolerance_from_the_seeds() -> None:
    land = planted(report(searched(points=16, lines=["K562"]), ["K562"]))
    assert land.region.tolerance == pytest.approx(0.004 / np.sqrt(2), rel=0.5)


def test_one_integer_axis_has_whole_bounds() -> None:
    space: dict[str, BaseDistribution] = {"model.energy.channels": IntDistribution(1, 16)}
    table = searched(points=12, space=space)
    (part,) = analyse(table, space, LINES, SEEDS, {"model.energy.channels": 4}).parts
    assert part.landscape is not None
    (axis,) = part.landscape.region.axes
    assert axis.projection.low.value == int(axis.projection.low.value)
    assert part.landscape.region.best["model.energy.channels"] in range(1, 17)


def test_a_conditional_setting_has_a_landscape_under_its_mode_alone() -> None:
    found = analyse(conditional(), BALANCE, LINES, SEEDS, {MEMORY: 0.9})
    assert [part.name for part in found.parts] == [f"{MODE}=gradnorm_ema"]
    assert found.parts[0].axes == [MEMORY]
    assert found.parts[0].landscape is not None
    assert f"under {MODE}=gradnorm_ema" in sentences(found)[0]
    assert [own.key for own in found.modes] == [MODE]


def test_categorical_settings_alone_have_modes_and_no_region() -> None:
    table = conditional().drop(columns=MEMORY)
    found = analyse(table, {MODE: BALANCE[MODE]}, LINES, SEEDS, {})
    said = sentences(found)
    assert "no numeric setting was varied" in said[0]
    assert "balance mode" in said[1]
    assert len(said) == 3


def test_what_modes_do_on_average_does_not_bend_the_landscape_of_shared_settings() -> None:
    space = {**SPACE, MODE: BALANCE[MODE]}
    table = searched(points=32)
    table[MODE] = np.where(np.random.default_rng(0).random(32) < 0.5, "pcgrad", "gradnorm_ema")
    for name in table:
        if name.startswith("score/"):
            table.loc[table[MODE] == "pcgrad", name] += 0.2
    land = planted(analyse(table, space, LINES, SEEDS, {}))
    assert land.quality.r2 > 0.7


@pytest.mark.parametrize(
    ("base", "reason"), [({A: 0.1}, "is not known"), ({A: 0.0, B: 0.1}, "outside the range that was searched")]
)
def test_a_default_that_cannot_be_compared_says_why(base: dict[str, float], reason: str) -> None:
    land = planted(analyse(searched(points=8), SPACE, LINES, SEEDS, base))
    assert reason in land.gain_reason
    assert np.isnan(land.gain.value)


def test_failed_points_are_listed_with_their_reason() -> None:
    table = searched(points=8)
    table.loc[3, ["state", "reason"]] = ["failed", "collapsed"]
    (failed,) = report(table).failed
    assert (failed.number, failed.reason, set(failed.point)) == (3, "collapsed", {A, B})


def test_the_box_is_what_was_searched(whole: RegionReport) -> None:
    land = planted(whole)
    assert land.region.axes[0].box == pytest.approx((BOX.low, BOX.high))
