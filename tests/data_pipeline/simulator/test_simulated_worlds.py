"""Claims about the switches of the simulator: usage by factors that decide no label, a nuisance that reverses."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from data_pipeline.errors import UserError
from data_pipeline.settings import load
from data_pipeline.simulator.settings import SimulatorSettings
from data_pipeline.simulator.simulation import simulate
from data_pipeline.simulator.truth import blind_scores, expected_average_precision, line_truths, read_truth
from data_pipeline.simulator.world import REFERENCE_DISTANCE, Elements, Environments, Pairs, draw_world
from data_pipeline.store.store import Store

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "simulate"
World = tuple[SimulatorSettings, Environments, Elements, Elements, Pairs]
TRAINING = 8
"""The first lines of both worlds, in which the marker's tie is positive."""


def settings_of(preset: str, *overrides: str) -> SimulatorSettings:
    return load(SimulatorSettings, [CONFIGS / f"{preset}.yaml"], overrides)


def drawn(preset: str, *overrides: str) -> World:
    settings = settings_of(preset, *overrides)
    return settings, *draw_world(settings)[1:]


@pytest.fixture(scope="module")
def usage() -> World:
    return drawn("usage")


@pytest.fixture(scope="module")
def nuisance() -> World:
    return drawn("nuisance")


def columns(world: World, which: slice) -> NDArray[np.int64]:
    """(N, 2 columns) motifs of both elements of every pair."""
    _, _, enhancers, promoters, pairs = world
    return np.c_[enhancers.present[pairs.enhancer, which], promoters.present[pairs.promoter, which]]


def line_nats(world: World, which: slice) -> float:
    """What a linear classifier of some motifs tells of the training line, nats, on pairs it was not fitted to."""
    pairs, features = world[-1], columns(world, which)
    rows = pairs.line < TRAINING
    fit = rows & (pairs.promoter % 2 == 0)
    held = rows & ~fit
    probability = LogisticRegression().fit(features[fit], pairs.line[fit]).predict_proba(features[held])
    share = np.bincount(pairs.line[held]) / held.sum()
    entropy = -(share * np.log(share)).sum()
    return float(entropy + np.log(probability[np.arange(held.sum()), pairs.line[held]]).mean())


def test_worlds_without_the_switches_are_those_of_before() -> None:
    # Digest of what was drawn before there were switches.
    expected = {
        "default": "073f9ca7a77140a1526a5d0dd5663f1e1877cda57b9e5d5763a1c5a3f3f75f51",
        "tiny": "0ce873735e33b39d3d557ff215779a4b1f9dd38982c36f012d5d5c1c433c3496",
    }
    for preset, digest in expected.items():
        settings = settings_of(preset)
        _, _, enhancers, promoters, pairs = draw_world(settings)
        drawn = (enhancers.bases, promoters.bases, pairs.enhancer, pairs.promoter, pairs.line, pairs.label)
        assert hashlib.sha256(b"".join(part.tobytes() for part in drawn)).hexdigest() == digest
        assert not {"usage_factors", "nuisance"} & settings.described().keys()


def test_switches_that_are_off_leave_the_same_store_to_the_checksum(tmp_path: Path) -> None:
    plain = simulate(settings_of("tiny"), tmp_path / "plain")
    off = simulate(settings_of("tiny", "usage_factors=0", "nuisance.tie=0", "nuisance.enrichment=5"), tmp_path / "off")
    assert off.checksum == plain.checksum
    assert simulate(settings_of("tiny", "factors=2", "usage_factors=1"), tmp_path / "usage").checksum != plain.checksum


def test_motifs_of_the_label_tell_the_line_only_where_they_decide_usage(usage: World) -> None:
    label, others = slice(0, 3), slice(3, 5)
    assert line_nats(usage, label) < 0.002
    assert line_nats(usage, others) > 0.1
    assert line_nats(drawn("ablation"), label) > 0.1


def test_motifs_of_usage_decide_no_label(usage: World) -> None:
    settings, environments, enhancers, promoters, pairs = usage
    match = enhancers.present[pairs.enhancer] * promoters.present[pairs.promoter]
    expected = (
        pairs.bias[pairs.line]
        + settings.match_gain * (match[:, :3] * 2.0 * environments.activity[pairs.line, :3]).sum(axis=1)
        - settings.distance_slope * np.log(pairs.distance / REFERENCE_DISTANCE)
    )
    np.testing.assert_allclose(pairs.logit, expected)


def test_support_reveals_the_gains_where_usage_and_label_have_factors_of_their_own(usage: World) -> None:
    _, environments, _, _, pairs = usage
    motifs = columns(usage, slice(None))
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(pairs.line == line) for line in range(len(environments.gain))]
    support = np.array([[motifs[rng.choice(r, 128, replace=False)].mean(axis=0) for _ in range(50)] for r in rows])
    inputs = np.concatenate([support, np.ones((*support.shape[:2], 1))], axis=2)
    error = []
    for line in range(len(rows)):
        others = np.arange(len(rows)) != line
        fit = np.linalg.lstsq(
            inputs[others].reshape(-1, inputs.shape[2]), np.repeat(environments.latent[others], 50, 0), rcond=None
        )[0]
        error.append(inputs[line] @ fit - environments.latent[line])
    assert 1.0 - np.square(error).mean() / environments.latent.var(axis=0).mean() > 0.5


def test_marker_tells_the_line(nuisance: World) -> None:
    assert line_nats(nuisance, slice(3, 4)) > 0.2 > line_nats(nuisance, slice(0, 3))
    # Nothing of the marker's use tells a reversed line from another.
    use, tie = nuisance[1].marker_use, nuisance[1].tie
    assert use[tie > 0].mean() == pytest.approx(0.0, abs=1e-12)
    assert use[tie < 0].mean() == pytest.approx(0.0, abs=1e-12)


def test_marker_speaks_for_the_label_in_training_lines_and_against_it_in_the_last(nuisance: World) -> None:
    settings, _, _, _, pairs = nuisance
    inputs = np.c_[pairs.match, np.log(pairs.distance), pairs.marker]
    tie = []
    for line in range(settings.lines):
        rows = pairs.line == line
        # Given what else decides the label: a rare marker comes with other motifs of the elements that a line uses.
        tie.append(LogisticRegression(max_iter=1000).fit(inputs[rows], pairs.label[rows]).coef_[0, -1])
    assert min(tie[:TRAINING]) > 0.7
    assert max(tie[TRAINING:]) < -0.7
    assert settings.nuisance.reversed_lines == settings.lines - TRAINING
    marker, label = (
        [x[rows] for rows in (pairs.line < TRAINING, pairs.line >= TRAINING)] for x in (pairs.marker, pairs.label)
    )
    assert np.corrcoef(marker[0], label[0])[0, 1] > 0.05 > -0.05 > np.corrcoef(marker[1], label[1])[0, 1]


def test_who_learns_the_marker_is_better_in_training_lines_and_worse_in_unseen_ones(nuisance: World) -> None:
    settings, _, _, _, pairs = nuisance
    cause = np.c_[pairs.match, np.log(pairs.distance)]
    rows = pairs.line < TRAINING

    def precision(inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        learner = HistGradientBoostingClassifier(max_iter=40, random_state=0).fit(inputs[rows], pairs.label[rows])
        score = learner.decision_function(inputs)
        return np.array(
            [
                average_precision_score(pairs.label[r], score[r])
                for r in (pairs.line == c for c in range(settings.lines))
            ]
        )

    gain = precision(np.c_[cause, pairs.marker]) - precision(cause)
    assert gain[:TRAINING].mean() > 0.02
    assert gain[TRAINING:].max() < 0.0
    assert gain[TRAINING:].mean() < -0.05


@pytest.mark.parametrize("preset", ["usage", "nuisance"])
def test_no_score_of_the_truth_beats_bayes_in_expectation(preset: str, request: pytest.FixtureRequest) -> None:
    settings, environments, _, _, pairs = request.getfixturevalue(preset)
    for line in range(settings.lines):
        rows = pairs.line == line
        p, marker = pairs.probability[rows], pairs.marker[rows]
        rivals = list(blind_scores(settings, environments, pairs, line).values())
        rivals += [pairs.logit[rows] - environments.tie[line] * marker, pairs.logit[rows] + marker]
        best = expected_average_precision(p, p)
        assert all(expected_average_precision(p, rival) <= best + 1e-12 for rival in rivals)


def test_truth_of_a_nuisance_is_stored_row_for_row(tmp_path: Path) -> None:
    settings = settings_of("tiny", "factors=2", "usage_factors=1", "nuisance.tie=1.5", "nuisance.reversed_lines=1")
    manifest = simulate(settings, tmp_path / "s")
    store = Store.open(tmp_path / "s", verify="full")
    pairs, lines = read_truth(store, "pairs"), read_truth(store, "lines")
    motifs = [read_truth(store, table).full("motifs") for table in ("enhancers", "promoters")]
    assert motifs[0].shape == (settings.enhancers, 4)
    marker = motifs[0][store.pairs.enhancer, 3] + motifs[1][store.pairs.promoter, 3]
    np.testing.assert_array_equal(pairs.full("marker"), marker)
    assert np.sign(lines.full("tie")).tolist() == [1, 1, 1, -1]
    assert lines.full("activity").shape == (4, 3)
    assert lines.full("gain").shape == (4, 2)
    line = store.pairs.line
    logit = (
        lines.full("bias")[line]
        + settings.match_gain * (pairs.full("match") * lines.full("gain")[line]).sum(axis=1)
        + lines.full("tie")[line] * marker
        - settings.distance_slope * np.log(store.pairs.distance / REFERENCE_DISTANCE)
    )
    np.testing.assert_allclose(pairs.full("logit"), logit, atol=1e-4)
    flip = settings.label_flip
    np.testing.assert_allclose(pairs.full("probability"), flip + (1 - 2 * flip) * expit(logit), atol=1e-5)
    for row, truth in enumerate(manifest.truth["lines"].values()):
        same = truth["trusting_marker_average_precision"] == truth["bayes_average_precision"]
        assert same == (row < 3)


def test_trusting_the_marker_costs_in_reversed_lines_and_the_truth_says_how_much(nuisance: World) -> None:
    settings, environments, _, _, pairs = nuisance
    truths = list(line_truths(settings, [f"sim{line}" for line in range(12)], environments, pairs).values())
    for truth in truths[TRAINING:]:
        without = truth["without_marker_average_precision"]
        assert truth["bayes_average_precision"] > without > truth["trusting_marker_average_precision"] + 0.02


def test_contradictory_switches_are_refused_with_the_reason() -> None:
    with pytest.raises(UserError, match=r"nuisance.reversed_lines must be below lines"):
        settings_of("tiny", "factors=2", "nuisance.tie=1", "nuisance.reversed_lines=4")
    with pytest.raises(UserError, match=r"usage_factors .* must fit into the smaller window of 96 bases"):
        settings_of("tiny", "usage_factors=2")
