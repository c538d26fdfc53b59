"""Probabilities shifted to an estimated prevalence: what moves, what stays, what is recorded, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from tiny_models import CALIBRATION, evaluated, tiny_run
from tiny_training import tiny_store
from typer.testing import CliRunner

from data_pipeline.errors import UserError
from distributed.predict import app
from distributed.prediction.deployment import FrozenCalibration, open_run, write_export
from distributed.prediction.prevalence_shift import ShiftedTables
from evaluation.prevalence import estimate_shift

PROBABILITIES = ["probability", "probability_lower", "probability_upper"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("shift")
    store = tiny_store(place / "store")
    write_export(open_run(evaluated(tiny_run(place / "runs", store))), place / "model")
    return place


def predicted(place: Path, out: Path, *options: object) -> tuple[pd.DataFrame, dict[str, object]]:
    words = ("--model", place / "model", "--store", place / "store", "--out", out, "--local", *options)
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.exception
    return pd.read_parquet(out), json.loads(out.with_name(f"{out.name}.json").read_text())


def test_probabilities_move_to_the_estimated_prevalence_and_nothing_else_does(place: Path, tmp_path: Path) -> None:
    plain, said = predicted(place, tmp_path / "plain.parquet")
    shifted, record = predicted(place, tmp_path / "shifted.parquet", "--prevalence-shift")
    pd.testing.assert_frame_equal(shifted.drop(columns=PROBABILITIES), plain.drop(columns=PROBABILITIES))
    assert said["prevalence_shift"] is None
    told = record["prevalence_shift"]
    assert isinstance(told, dict)
    assert set(told["lines"]) == set(plain["line"])
    for line, own in plain.groupby("line"):
        shift = estimate_shift(own["logit"].to_numpy(np.float64) / 2.0 - 0.5, CALIBRATION["prevalence"])
        assert told["lines"][line]["prevalence_estimated"] == pytest.approx(shift.prevalence)
        mine = shifted.loc[own.index]
        expected = expit(logit(own["probability"]) + shift.offset)
        np.testing.assert_allclose(mine["probability"], expected, rtol=1e-5)
        # 80 % of a t with 2 degrees of freedom over three lines.
        half = 1.8856181 * CALIBRATION["between"]["sd_shifted"]
        down = np.hypot((own["logit"] - own["logit_lower"]).astype(float) / 2.0, half)
        np.testing.assert_allclose(logit(mine["probability"]) - logit(mine["probability_lower"]), down, rtol=1e-4)
    assert told["band"]["learnt_from"] == "3 lines"
    assert (shifted["probability_lower"] < shifted["probability"]).all()
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "plain.parquet", "plain.parquet.json", "shifted.parquet", "shifted.parquet.json"
    ]  # fmt: skip


def test_with_one_draw_the_band_is_that_between_lines(place: Path, tmp_path: Path) -> None:
    table, _ = predicted(place, tmp_path / "scores.parquet", "--prevalence-shift", "--draws", 1)
    assert table["logit_lower"].isna().all()
    width = logit(table["probability_upper"]) - logit(table["probability_lower"])
    np.testing.assert_allclose(width, 2 * 1.8856181 * CALIBRATION["between"]["sd_shifted"], rtol=1e-4)


@pytest.mark.parametrize("left_out", [None, "prevalence"])
def test_a_model_whose_calibration_knows_no_prevalence_is_refused_before_anything_is_scored(
    left_out: str | None, tmp_path: Path
) -> None:
    kept = {name: value for name, value in CALIBRATION.items() if name != left_out}
    calibration = FrozenCalibration.model_validate(kept) if left_out else None
    with pytest.raises(UserError, match="no calibration that records its prevalence"):
        ShiftedTables(calibration, tmp_path)


def test_links_of_a_format_are_the_pairs_that_are_called_shifted_or_not(place: Path, tmp_path: Path) -> None:
    plain, _ = predicted(place, tmp_path / "first.parquet")
    cut = round(float(plain["probability"].quantile(0.7)), 4)
    links = []
    for name, options in (("plain", []), ("shifted", ["--prevalence-shift"])):
        words = ["--model", place / "model", "--store", place / "store", "--out", tmp_path / name, "--local", *options]
        formats = ["--format", "bedpe", "--format", "parquet", "--threshold", str(cut)]
        result = CliRunner().invoke(app, [*map(str, words), *formats])
        assert result.exit_code == 0, result.exception
        table = pd.read_parquet(tmp_path / f"{name}.parquet")
        found = len(pd.read_csv(tmp_path / f"{name}.bedpe.gz", sep="\t", header=None, comment="#"))
        assert found == (table["call"] == 1).sum()
        links.append((found, int((table["probability"] >= cut).sum())))
    assert links[0][0] == links[1][0]
    assert links[0][1] != links[1][1]
