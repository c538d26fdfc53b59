"""Claims about the simulator: what it plants is there, what it calls optimal is optimal, and it repeats itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from data_pipeline.errors import UserError
from data_pipeline.settings import load
from data_pipeline.simulator.motif_grammar import consensus_probability, draw_motifs
from data_pipeline.simulator.settings import MotifSettings, SimulatorSettings
from data_pipeline.simulator.simulation import simulate
from data_pipeline.simulator.truth import blind_scores, expected_average_precision, read_truth
from data_pipeline.simulator.world import REFERENCE_DISTANCE, draw_world
from data_pipeline.store.store import Store

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "simulate"
NIBBLE_TO_BASE = np.zeros(16, dtype=np.uint8)
NIBBLE_TO_BASE[[1, 2, 4, 8]] = [0, 1, 2, 3]


def tiny(*overrides: str) -> SimulatorSettings:
    return load(SimulatorSettings, [CONFIGS / "tiny.yaml"], overrides)


def default(*overrides: str) -> SimulatorSettings:
    return load(SimulatorSettings, [CONFIGS / "default.yaml"], overrides)


def log_odds_scores(bases: NDArray[np.uint8], pwm: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, factors) best log2-odds (against uniform bases) of each motif in `bases` (n, length), both strands."""
    width = pwm.shape[1]
    windows = np.lib.stride_tricks.sliding_window_view(bases, width, axis=1)
    best = np.full((len(bases), len(pwm)), -np.inf)
    for factor, matrix in enumerate(np.log2(pwm / 0.25)):
        for oriented in (matrix, matrix[::-1, ::-1]):
            score = sum(oriented[position][windows[..., position]] for position in range(width))
            best[:, factor] = np.maximum(best[:, factor], np.max(score, axis=1))
    return best


def test_same_seed_gives_the_same_checksum_and_another_seed_does_not(tmp_path: Path) -> None:
    first = simulate(tiny(), tmp_path / "a").checksum
    assert simulate(tiny(), tmp_path / "b").checksum == first
    assert simulate(tiny("seed=2"), tmp_path / "c").checksum != first


def test_simulated_store_passes_its_own_checksums_and_matches_the_settings(tmp_path: Path) -> None:
    settings = tiny("signals=both", "line_features=3")
    simulate(settings, tmp_path / "s")
    store = Store.open(tmp_path / "s", verify="full")
    assert len(store.lines) == settings.lines
    assert store.enhancers.length == settings.enhancer_window
    assert len(store.enhancers) == settings.enhancers
    assert len(store.promoters) == settings.promoters
    assert store.line_features.shape == (settings.lines, 3)
    assert store.signals(np.arange(5)).shape == (5, 1 + 2 * settings.factors)
    same_chrom = store.enhancers.chrom[store.pairs.enhancer] == store.promoters.chrom[store.pairs.promoter]
    assert same_chrom.all()
    assert store.pairs.distance.min() >= settings.min_distance
    assert store.pairs.distance.max() <= settings.max_distance


def test_stored_distance_is_the_distance_between_the_stored_windows(tmp_path: Path) -> None:
    simulate(tiny(), tmp_path / "s")
    store = Store.open(tmp_path / "s")
    centre = [(table.start + table.end) // 2 for table in (store.enhancers, store.promoters)]
    gap = np.abs(centre[0][store.pairs.enhancer] - centre[1][store.pairs.promoter])
    np.testing.assert_array_equal(gap, store.pairs.distance)


def test_no_pair_stands_twice_in_a_line_and_lines_share_pairs_with_other_labels() -> None:
    pairs = draw_world(default())[-1]
    key = (pairs.line * 100_000 + pairs.enhancer) * 100_000 + pairs.promoter
    assert len(np.unique(key)) == len(key)
    locus, count = np.unique(pairs.enhancer * 100_000 + pairs.promoter, return_inverse=True)
    labels = np.bincount(count, weights=pairs.label)
    times = np.bincount(count)
    assert (times > 1).mean() > 0.08
    elements_of_lines = {line: set(pairs.enhancer[pairs.line == line]) for line in range(pairs.line.max() + 1)}
    assert len(elements_of_lines[0] & elements_of_lines[4]) > 0.2 * len(elements_of_lines[0])
    assert ((labels > 0) & (labels < times)).sum() > 100
    assert len(locus) < len(key)


def test_planted_motifs_are_found_in_the_stored_sequence(tmp_path: Path) -> None:
    settings = tiny()
    simulate(settings, tmp_path / "s")
    store = Store.open(tmp_path / "s")
    pwm = read_truth(store, "factors").full("pwm").reshape(settings.factors, 10, 4).astype(np.float64)
    for table, elements in (("enhancers", store.enhancers), ("promoters", store.promoters)):
        packed = elements.packed(np.arange(len(elements)))
        bases = NIBBLE_TO_BASE[np.stack([packed >> 4, packed & 15], axis=-1).reshape(len(packed), -1)]
        score = log_odds_scores(bases, pwm)
        present = read_truth(store, table).full("motifs") > 0
        assert score[present].min() > score[~present].mean() + 5.0
        assert np.mean((score > 11.0) == present) > 0.97


def test_motif_information_is_the_configured_one() -> None:
    pwm = draw_motifs(np.random.default_rng(0), 3, MotifSettings(information=1.5))
    np.testing.assert_allclose((2.0 + (pwm * np.log2(pwm)).sum(axis=2)), 1.5, atol=1e-9)
    assert consensus_probability(1.9) > consensus_probability(0.5) > 0.25


def test_prevalence_is_solved_for_in_every_line() -> None:
    pairs = draw_world(default("prevalence=0.1"))[-1]
    for line in range(pairs.line.max() + 1):
        rows = pairs.line == line
        assert pairs.probability[rows].mean() == pytest.approx(0.1, abs=1e-9)
        assert pairs.label[rows].mean() == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / rows.sum()))


def test_labels_are_calibrated_to_the_true_probability() -> None:
    pairs = draw_world(default())[-1]
    which = np.digitize(pairs.probability, [0.05, 0.1, 0.2, 0.4, 0.6, 0.8])
    for bucket in np.unique(which):
        rows = which == bucket
        p = pairs.probability[rows]
        assert abs(pairs.label[rows].mean() - p.mean()) < 4 * np.sqrt((p * (1 - p)).sum()) / rows.sum()


def test_true_logit_is_the_documented_formula() -> None:
    settings = default()
    _, environments, enhancers, promoters, pairs = draw_world(settings)
    row = 4321
    line, enhancer, promoter = pairs.line[row], pairs.enhancer[row], pairs.promoter[row]
    match = enhancers.present[enhancer] * promoters.present[promoter]
    expected = (
        pairs.bias[line]
        + settings.match_gain * match @ (1.0 + (2.0 * environments.activity[line] - 1.0))
        - settings.distance_slope * np.log(pairs.distance[row] / REFERENCE_DISTANCE)
    )
    assert pairs.logit[row] == pytest.approx(expected)


def test_no_other_score_beats_the_bayes_average_precision_in_expectation() -> None:
    settings = default()
    _, environments, _, _, pairs = draw_world(settings)
    rng = np.random.default_rng(0)
    for line in range(settings.lines):
        rows = pairs.line == line
        p = pairs.probability[rows]
        best = expected_average_precision(p, p)
        rivals = [*blind_scores(settings, environments, pairs, line).values(), -pairs.distance[rows].astype(float)]
        rivals += [p + noise * rng.normal(size=len(p)) for noise in (0.001, 0.01, 0.1)]
        assert all(expected_average_precision(p, rival) <= best + 1e-12 for rival in rivals)


def test_environment_and_sequence_are_both_needed_on_the_default_store(tmp_path: Path) -> None:
    for truth in simulate(default(), tmp_path / "s").truth["lines"].values():
        assert 0.7 < truth["bayes_average_precision"] < 0.92
        assert truth["bayes_average_precision"] - truth["environment_blind_average_precision"] > 0.08
        assert truth["environment_blind_average_precision"] - truth["distance_average_precision"] > 0.15


def test_without_environment_effect_the_blind_optimum_is_the_bayes_optimum(tmp_path: Path) -> None:
    settings = load(SimulatorSettings, [CONFIGS / "tiny.yaml", CONFIGS / "no_environment_effect.yaml"])
    for truth in simulate(settings, tmp_path / "s").truth["lines"].values():
        assert truth["environment_blind_average_precision"] == truth["bayes_average_precision"]


def test_unlabelled_support_reveals_the_activities_of_a_line_never_seen() -> None:
    settings = default()
    _, environments, enhancers, promoters, pairs = draw_world(settings)
    motifs = np.concatenate([enhancers.present[pairs.enhancer], promoters.present[pairs.promoter]], axis=1)
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(pairs.line == line) for line in range(settings.lines)]
    support = np.array([[motifs[rng.choice(r, 32, replace=False)].mean(axis=0) for _ in range(50)] for r in rows])
    error = []
    for line in range(settings.lines):
        others = np.arange(settings.lines) != line
        inputs = np.c_[support[others].reshape(-1, motifs.shape[1]), np.ones(50 * others.sum())]
        fit = np.linalg.lstsq(inputs, np.repeat(environments.latent[others], 50, axis=0), rcond=None)[0]
        error.append(np.c_[support[line], np.ones(50)] @ fit - environments.latent[line])
    assert 1.0 - np.square(error).mean() / environments.latent.var(axis=0).mean() > 0.5


def test_interpolated_lines_lie_in_the_hull_of_two_others() -> None:
    latent = draw_world(tiny())[1].latent
    ends = [(a, b) for a in latent[:-1] for b in latent[:-1]]
    offset = [
        np.abs((b - a)[0] * (latent[-1] - a)[1] - (b - a)[1] * (latent[-1] - a)[0]) for a, b in ends if a is not b
    ]
    assert min(offset) < 1e-9


def test_contradictory_settings_are_refused_with_the_reason() -> None:
    with pytest.raises(UserError, match=r"min_distance must be below max_distance"):
        tiny("min_distance=1000", "max_distance=500")
    with pytest.raises(UserError, match=r"must fit into the smaller window of 96 bases"):
        tiny("motif.copies=8")
    with pytest.raises(UserError, match=r"unknown key 'prevalance', did you mean 'prevalence'"):
        tiny("prevalance=0.1")


def test_existing_folder_is_never_overwritten(tmp_path: Path) -> None:
    simulate(tiny(), tmp_path / "s")
    with pytest.raises(UserError, match="exists already"):
        simulate(tiny(), tmp_path / "s")
