"""Calibration of lines left out: who takes part, planted spreads, and what is said where there is one line."""

import numpy as np
import pandas as pd
import pytest

from evaluation.calibration import Calibration, fit_calibration
from evaluation.line_transfer import judge_test_lines, leave_lines_out, spread_between_lines

HELD, UNSEEN = "seen_line/unseen_chrom", "unseen_line/seen_chrom"


def line(name, role="test", quadrant=HELD, shift=0.0, n=3000, seed=0, chromosomes=5):
    """Pairs whose log-odds are true but for `shift`; clusters are chromosomes."""
    generator = np.random.default_rng([seed, len(name)])
    logits = generator.normal(-1.0, 2.0, n)
    labels = (generator.random(n) < 1 / (1 + np.exp(-logits))).astype(np.int8)
    cluster = -1 - generator.integers(0, chromosomes, n)
    frame = {"line": name, "role": role, "quadrant": quadrant, "label": labels, "logit": logits + shift}
    return pd.DataFrame(frame | {"cluster": cluster})


def test_only_lines_whose_labels_may_be_used_are_left_out_and_learnt_from():
    known = pd.concat(
        [
            line("a"),
            line("bb", "valid", UNSEEN),
            line("ccc", "test", UNSEEN),
            line("dddd", "train", "seen_line/seen_chrom"),
        ]
    )
    judged = leave_lines_out(known)
    assert [own.line for own in judged] == ["a", "bb"]
    flipped = known.assign(label=np.where(known["line"].isin(["ccc", "dddd"]), 1 - known["label"], known["label"]))
    again = leave_lines_out(flipped)
    assert all((one.logits == other.logits).all() for one, other in zip(judged, again, strict=True))
    assert spread_between_lines(known) == spread_between_lines(flipped)


def test_a_line_is_judged_by_a_calibration_of_the_others():
    known = pd.concat([line("a", shift=1.0), line("bb"), line("ccc")])
    others = known[known["line"] != "a"]
    calibration = fit_calibration(others["label"].to_numpy(), others["logit"].to_numpy())
    judged = leave_lines_out(known)[0]
    np.testing.assert_allclose(judged.logits, calibration.scaled(known.loc[known["line"] == "a", "logit"]))
    found = judged.figures()
    assert found["error"] == pytest.approx(-1.0, abs=0.25)
    assert found["ece"] > 0.05


def test_the_spread_of_lines_with_planted_offsets_is_that_of_one_line_calibrating_another():
    offsets = np.array([-0.6, 0.0, 0.6])
    known = pd.concat([line("x" * (k + 1), shift=offset, n=6000) for k, offset in enumerate(offsets)])
    between = spread_between_lines(known)
    assert between is not None
    assert (between.units, between.of) == (3, "lines")
    # A line is 1.5 of its offset from the mean of the other two; the root of 2 (n - 1) / n makes that one to one.
    expected = np.sqrt(np.mean((1.5 * offsets) ** 2) * 2 * 2 / 3)
    assert between.sd == pytest.approx(expected, rel=0.2)
    assert between.half_width(shifted=False) == pytest.approx(1.8856 * between.sd, rel=1e-3)


def test_one_line_is_left_out_by_chromosomes_and_with_too_few_of_them_nothing_is_known():
    alone = line("a", "valid", UNSEEN)
    between = spread_between_lines(alone)
    assert between is not None
    assert (between.units, between.of) == (5, "chromosomes")
    assert between.sd < 0.5
    assert leave_lines_out(alone) == []
    assert spread_between_lines(line("a", "valid", UNSEEN, chromosomes=2)) is None
    promoters = alone.assign(cluster=-alone["cluster"])
    assert spread_between_lines(promoters) is None


def test_the_test_line_is_judged_under_the_frozen_calibration_and_shifted_by_its_scores_alone():
    rare = line("new", "test", UNSEEN)
    keep = (rare["label"] == 0) | (np.arange(len(rare)) % 4 == 0)
    known = pd.concat([line("a", "valid", UNSEEN), rare[keep]])
    valid = known[known["role"] == "valid"]
    calibration = fit_calibration(valid["label"].to_numpy(), valid["logit"].to_numpy())
    (judged,) = judge_test_lines(known, calibration)
    found = judged.figures()
    assert found["line"] == "new"
    assert found["prevalence"] == pytest.approx(found["estimated"], abs=0.05)
    assert abs(found["error_shifted"]) < abs(found["error"]) / 2
    assert found["brier_shifted"] < found["brier"]
    assert found["ece_shifted"] < found["ece"]
    blind = known.assign(label=np.where(known["role"] == "test", 1 - known["label"], known["label"]))
    assert judge_test_lines(blind, calibration)[0].offset == judged.offset


def test_a_calibration_of_before_is_judged_without_a_shift():
    known = line("new", "test", UNSEEN)
    (judged,) = judge_test_lines(known, Calibration())
    assert judged.offset == 0
    assert np.isnan(judged.estimated)
