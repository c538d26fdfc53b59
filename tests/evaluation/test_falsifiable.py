"""Each falsifiable prediction on constructed cases: confirmed, refuted where that was planted, and not testable."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console
from tiny_models import tiny_run
from tiny_training import tiny_store

from data_pipeline.episodes.supports import SupportSize
from data_pipeline.errors import UserError
from data_pipeline.settings import load
from data_pipeline.store.store import Store
from distributed.fold_evaluation import evaluate, open_run
from distributed.run_folder.records import EPOCHS
from distributed.settings import RunSettings
from distributed.verification import read_trials
from evaluation.falsifiable import (
    factors_are_recovered,
    gates_are_bimodal,
    invariant_tells_nothing,
    unseen_lie_inside,
    weights_are_sensitive,
)
from evaluation.leakage import line_information
from evaluation.line_views import view_lines
from evaluation.quadrants import EvaluationSettings
from evaluation.scoring import Scorer
from model.energy.energy import Energy, EnergySettings
from model.energy.forms import guarded

Floats = NDArray[np.float64]


def noisy(centres: Floats, noise: float = 0.05, draws: int = 20) -> Floats:
    """(lines, draws, d) environments scattered about (lines, d) centres."""
    return centres[:, None] + noise * np.random.default_rng(1).normal(size=(len(centres), draws, centres.shape[1]))


def circle(count: int, dimensions: int = 2) -> Floats:
    """(count, dimensions) points on a circle in the first two dimensions."""
    angle = 2 * np.pi * np.arange(count) / count
    return np.pad(np.stack([np.cos(angle), np.sin(angle)], axis=1), ((0, 0), (0, dimensions - 2)))


def pairs_of_lines(shift: float, lines: int = 3, pairs: int = 600) -> tuple[Floats, NDArray[np.int64], Floats]:
    """z_I (n, 8), lines (n,) and z_E (lines, 2), the mean of z_I moving with the line by `shift`."""
    rng = np.random.default_rng(0)
    line = np.repeat(np.arange(lines), pairs)
    codes = rng.normal(size=(lines * pairs, 8))
    codes[:, 0] += shift * line
    return codes, line, rng.normal(size=(lines, 2))


def test_R90_gates_that_open_or_close_confirm_it() -> None:
    rng = np.random.default_rng(1)
    drive = np.concatenate([rng.normal(-2, 0.5, 30), rng.normal(2, 0.5, 30)])
    found = gates_are_bimodal(drive, planted=drive)
    assert found.outcome == "confirmed"
    assert found.figures["open"] == 0.5
    assert "has two modes" in found.planted
    assert found.expected == "confirmed"


@pytest.mark.parametrize("spread", [0.1, 2.0, 3.0, 4.0])
def test_R90_gates_that_one_normal_drives_into_saturation_do_not_confirm_it(spread: float) -> None:
    rng = np.random.default_rng(1)
    outcomes = [gates_are_bimodal(rng.normal(0.0, spread, 60)).outcome for _ in range(200)]
    assert outcomes.count("confirmed") <= 0.05 * len(outcomes)


@pytest.mark.parametrize("gap", [1.5, 3.0])
def test_R90_two_kinds_of_lines_confirm_it_also_where_gates_saturate(gap: float) -> None:
    rng = np.random.default_rng(1)
    sides = np.repeat([-gap, gap], 30)
    outcomes = [gates_are_bimodal(rng.normal(sides, gap / 3)).outcome for _ in range(50)]
    assert outcomes.count("confirmed") >= 0.95 * len(outcomes)


def test_R90_planted_gains_about_one_value_expect_a_refutation() -> None:
    found = gates_are_bimodal(np.tile([-2.0, 2.0], 30), planted=np.random.default_rng(1).normal(0.0, 4.0, 60))
    assert (found.outcome, found.expected) == ("confirmed", "refuted")


def test_R90_few_gates_or_none_cannot_tell() -> None:
    few = gates_are_bimodal(np.tile([-2.0, 2.0], 12))
    assert few.outcome == "not testable"
    assert "24 gates are too few" in few.says
    assert "no gates" in gates_are_bimodal(np.zeros(60)).says


def test_R91_codes_without_the_line_confirm_it() -> None:
    codes, line, environment = pairs_of_lines(shift=0.0)
    found = invariant_tells_nothing(codes, line, np.arange(len(line)) % 200, environment)
    assert found.outcome == "confirmed"
    assert found.figures["high"] < 0.05


def test_R91_a_line_that_was_left_in_the_codes_refutes_it() -> None:
    codes, line, environment = pairs_of_lines(shift=2.0)
    found = invariant_tells_nothing(codes, line, np.arange(len(line)) % 200, environment)
    assert found.outcome == "refuted"
    assert 0.3 < found.figures["low"] < found.figures["nats"] < found.figures["high"] < np.log(3)


def test_R91_expects_what_the_planted_causes_of_the_labels_tell() -> None:
    codes, line, environment = pairs_of_lines(shift=0.0)
    told = invariant_tells_nothing(codes, line, np.arange(len(line)) % 200, environment, planted=pairs_of_lines(2.0)[0])
    assert (told.outcome, told.expected) == ("confirmed", "refuted")
    assert "what decides the labels tells" in told.planted
    alike = invariant_tells_nothing(codes, line, np.arange(len(line)) % 200, environment, planted=codes)
    assert alike.expected == "confirmed"


def test_R91_few_pairs_cannot_tell() -> None:
    codes, line, environment = pairs_of_lines(shift=0.5, pairs=40)
    found = invariant_tells_nothing(codes, line, np.arange(len(line)) % 10, environment)
    assert found.outcome == "not testable"
    assert "120 pairs are too few" in found.says
    assert invariant_tells_nothing(codes, 0 * line, line, environment[:1]).outcome == "not testable"


def test_R91_elements_that_stand_in_one_line_only_are_not_read_as_information() -> None:
    # Every cluster has a code of its own and lies in one line: a split by pairs would read the line off the cluster.
    cluster = np.repeat(np.arange(60), 20)
    codes = np.random.default_rng(0).normal(size=(60, 8))[cluster]
    nats, _, high = line_information(codes, cluster % 2, cluster)
    assert nats < 0.05
    assert high < 0.2


def test_R92_a_mixture_of_training_lines_confirms_it() -> None:
    known = circle(9, 6)
    found = unseen_lie_inside(noisy(known), noisy(known[[0, 4]].mean(axis=0, keepdims=True)), (known, 0.1 * known[:1]))
    assert found.outcome == "confirmed"
    assert found.figures["ratio"][0] == 0
    assert found.planted == "the planted latents lie at 0.00"
    assert found.expected == "confirmed"


def test_R92_a_line_on_the_edge_is_no_farther_out_than_noise_takes_it() -> None:
    known = circle(9, 6)
    found = unseen_lie_inside(noisy(known), noisy((known[:1] + known[1:2]) / 2))
    assert found.outcome == "confirmed"


def test_R92_a_line_as_new_as_any_training_line_refutes_it() -> None:
    known = circle(9, 6)
    assert unseen_lie_inside(noisy(known[1:]), noisy(known[:1])).outcome == "refuted"


def test_R92_a_line_beyond_all_others_refutes_it() -> None:
    known = circle(9, 6)
    found = unseen_lie_inside(noisy(known), noisy(np.stack([0 * known[0], 2 * known[0]])), (known, 2 * known[:1]))
    assert found.outcome == "refuted"
    assert found.figures["near"] == pytest.approx([1, 0])
    assert found.figures["ratio"][1] > 2
    assert float(found.planted.split()[-1]) > 2
    assert found.expected == "refuted"


def test_R92_lines_at_the_edge_and_too_few_or_equal_lines_cannot_tell() -> None:
    known = circle(9, 6)
    edge = noisy((known[:1] + known[1:2]) / 2, noise=0.5)
    assert unseen_lie_inside(noisy(known, noise=0.5), edge).outcome == "not testable"
    two = unseen_lie_inside(noisy(known[:2]), noisy(known[:1]))
    assert two.outcome == "not testable"
    assert "outside their hull" in two.says
    assert "same for every line" in unseen_lie_inside(np.zeros((9, 5, 6)), np.zeros((1, 5, 6))).says


def trials(shares: tuple[float, float], kind: str = "weight", gain: float = 0.0) -> pd.DataFrame:
    """Five trials near .1 and five in [.5, 2], with gradient shares as given and a score that differs by `gain`."""
    small, large = np.linspace(0.06, 0.15, 5), np.linspace(0.6, 1.9, 5)
    score = 0.5 + 0.01 * np.tile([-1, 0, 1, 0, 0], 2) + np.repeat([0.0, gain], 5)
    share = np.repeat(shares, 5)
    values = np.concatenate([small, large])
    return pd.DataFrame({f"{kind}/grl": values, f"acts/{kind}/grl": True, "share/grl": share, "score": score})


def test_R93_a_weight_that_drowns_at_a_tenth_confirms_it() -> None:
    (found,) = weights_are_sensitive(trials((0.01, 0.2)))
    assert found.outcome == "confirmed"
    assert found.figures["strong_share"] == 0.2


@pytest.mark.parametrize("shares", [(0.3, 3.0), (0.001, 0.01)])
def test_R93_a_weight_that_acts_at_a_tenth_or_nowhere_refutes_it(shares: tuple[float, float]) -> None:
    assert weights_are_sensitive(trials(shares))[0].outcome == "refuted"


@pytest.mark.parametrize(("gain", "outcome"), [(0.1, "confirmed"), (-0.1, "confirmed"), (0.0, "refuted")])
def test_R93_under_a_held_gradient_the_score_decides(gain: float, outcome: str) -> None:
    assert weights_are_sensitive(trials((0.1, 1.0), "ratio", gain))[0].outcome == outcome


@pytest.mark.parametrize(("kind", "shares"), [("weight", (0.3, 0.3)), ("weight", (0.01, 0.2)), ("ratio", (0.1, 1.0))])
def test_R93_is_not_judged_on_a_number_that_could_not_act(kind: str, shares: tuple[float, float]) -> None:
    table = trials(shares, kind, gain=0.1).assign(**{f"acts/{kind}/grl": False})
    found = weights_are_sensitive(table)[0]
    assert found.outcome == "not testable"
    assert f"in none of 10 trials could the {kind} act" in found.says
    # Those that could act are judged alone, and here they are too few.
    table.loc[[0, 9], f"acts/{kind}/grl"] = True
    assert "1 trials near .1 and 1 in" in weights_are_sensitive(table)[0].says


def test_R93_needs_a_search_with_trials_in_both_ranges_and_measured_gradients() -> None:
    assert "--search" in weights_are_sensitive(pd.DataFrame())[0].says
    assert "3 of each" in weights_are_sensitive(trials((0.1, 1.0)).iloc[:6])[0].says
    unmeasured = weights_are_sensitive(trials((float("nan"), 1.0)))[0]
    assert (unmeasured.outcome, "no gradients" in unmeasured.says) == ("not testable", True)


def test_planted_factors_are_recovered_noise_is_not_and_few_lines_cannot_tell() -> None:
    rng = np.random.default_rng(1)
    latent = rng.normal(size=(12, 2))
    assert factors_are_recovered(latent @ rng.normal(size=(2, 16)), latent).outcome == "confirmed"
    assert factors_are_recovered(rng.normal(size=(12, 16)), latent).outcome == "refuted"
    assert factors_are_recovered(rng.normal(size=(4, 16)), latent[:4]).outcome == "not testable"
    assert factors_are_recovered(np.zeros((12, 16)), latent).outcome == "not testable"


def searched(folder: Path, *overrides: str, **columns: list[Any]) -> Path:
    """The folder of a search with two complete trials of grl's weight and a stopped one, over base `overrides`."""
    table = pd.DataFrame(
        {
            "state": ["complete", "stopped", "complete"],
            "score": [0.5, 0.4, 0.6],
            "objective.terms.grl.weight": [0.1, 1.0, 1.5],
            "optimiser.lr": [1e-3, 1e-3, 1e-3],
            "runs": [["trial-0000-a", "trial-0000-b"], [], ["trial-0002-a"]],
            **columns,
        }
    )
    folder.mkdir(exist_ok=True)
    table.to_parquet(folder / "trials.parquet")
    base = load(RunSettings, overrides=overrides).model_dump(mode="json")
    (folder / "search.json").write_text(json.dumps({"run": base}))
    for run, share, weight in (("trial-0000-a", 0.1, 0.2), ("trial-0000-b", 0.3, 0.2), ("trial-0002-a", 0.0, 0.0)):
        file = folder / "runs" / run / EPOCHS
        file.parent.mkdir(parents=True, exist_ok=True)
        figures = {"mean/gradient_ratio/grl": share, "mean/weight/grl": weight}
        file.write_text(json.dumps({"step": 9, **figures}) + "\n")
    return folder


def test_a_search_folder_gives_scores_values_and_gradient_shares(tmp_path: Path) -> None:
    found = read_trials(searched(tmp_path, "objective.balance.mode=fixed_ramp"))
    assert found["weight/grl"].to_list() == [0.1, 1.5]
    assert found["share/grl"].to_list() == pytest.approx([0.2, 0.0])
    assert found["score"].to_list() == [0.5, 0.6]
    # The other trial's runs ended before the term started.
    assert found["acts/weight/grl"].to_list() == [True, False]
    with pytest.raises(UserError, match=r"no folder of a search.*trials\.parquet"):
        read_trials(tmp_path / "runs")
    (tmp_path / "search.json").unlink()
    with pytest.raises(UserError, match=r"no folder of a search.*search\.json"):
        read_trials(tmp_path)


def test_a_trial_s_own_settings_say_whether_its_weight_could_act(tmp_path: Path) -> None:
    dead = read_trials(searched(tmp_path / "mode", "objective.balance.mode=gradnorm_ema"))
    assert not dead["acts/weight/grl"].any()
    off = read_trials(searched(tmp_path / "off", "objective.balance.mode=fixed_ramp", "objective.terms.grl.on=false"))
    assert not off["acts/weight/grl"].any()
    modes = {"objective.balance.mode": ["fixed_ramp", "fixed_ramp", "gradnorm_ema"]}
    assert read_trials(searched(tmp_path / "both", **modes))["acts/weight/grl"].to_list() == [True, False]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("verify") / "store")


def verdicts_of(run: Path, beside: Path) -> list[dict[str, Any]]:
    evaluate(run, run / "report", EvaluationSettings(draws=100), 60, Console(quiet=True), [beside])
    found: list[dict[str, Any]] = json.loads((run / "report/report.json").read_text())["verify"]
    return found


def test_a_report_says_what_became_of_every_prediction(store: Store, tmp_path: Path) -> None:
    run = tiny_run(tmp_path, store)
    told = verdicts_of(run, tiny_run(tmp_path, store, name="other"))
    assert [one["requirement"] for one in told] == ["R90", "R91", "R92", "R93", "recovery"]
    assert {one["outcome"] for one in told} <= {"confirmed", "refuted", "not testable"}
    # 4 channels, 4 lines, two runs.
    assert told[0]["figures"]["gates"] == 32
    page = html.unescape((run / "report/report.html").read_text())
    assert all(f"{one['requirement']} {one['outcome']}: {one['claim']}" in page for one in told)


def test_a_run_of_another_store_cannot_stand_beside(store: Store, tmp_path: Path) -> None:
    other = tiny_store(tmp_path / "store", "seed=2")
    run, stranger = tiny_run(tmp_path, store), tiny_run(tmp_path, other, name="stranger")
    with pytest.raises(UserError, match="another store"):
        verdicts_of(run, stranger)


@pytest.mark.parametrize("form", ["gated", "interaction", "lin_inter_fallback", "linear"])
def test_what_drives_the_gates_decides_them_in_every_form(form: str) -> None:
    torch.manual_seed(0)
    energy = Energy(EnergySettings.model_validate({"form": form, "channels": 3}), 4, 0, 0.9).eval()
    scores = energy(torch.randn(50, 2, 64), 3 * torch.randn(50, 4), None, torch.ones(()))
    drive = energy.modulation.drive(scores.resistance)
    if form == "linear":
        assert not drive.any()
    elif form == "gated":
        assert torch.allclose(2 * torch.sigmoid(drive), scores.gates)
    else:
        assert torch.allclose(guarded(drive), scores.gates)


def test_the_view_of_a_line_has_what_drives_its_gates(store: Store, tmp_path: Path) -> None:
    # Without local environment gates are the same for all pairs; with one support draw nothing is averaged.
    trained = open_run(tiny_run(tmp_path, store, energy={"dropout": 0.0}))
    (view, *_) = view_lines(trained.model, store, trained.fold, trained.settings, pairs=1, draws=1)
    seen: list[Any] = []
    trained.model.energy.register_forward_hook(lambda module, inputs, scores: seen.append(scores))
    view_lines(trained.model, store, trained.fold, trained.settings, pairs=1, draws=1)
    assert 2 / (1 + np.exp(-view.drive)) == pytest.approx(seen[1].gates[0, 0].numpy(), abs=1e-5)
    assert np.ptp(view.drive) > 0


def test_a_view_of_a_line_is_what_the_model_computes_for_it(store: Store, tmp_path: Path) -> None:
    trained = open_run(tiny_run(tmp_path, store))
    views = view_lines(trained.model, store, trained.fold, trained.settings, pairs=30, draws=3)
    assert [view.trained for view in views] == [True, True, False, False]
    first = views[0]
    assert (first.environment.shape, first.drive.shape) == ((3, 16), (4,))
    # z_I needs no support set: computed straight from the pairs' features, row for row.
    scorer = Scorer(trained.model, store, SupportSize.exactly(8), trained.settings.scoring)
    distance = torch.from_numpy(store.pairs.distance[first.rows].astype(np.float32))
    h = torch.from_numpy(scorer.pair_features(first.rows))
    with torch.no_grad():
        direct = trained.model.score(h[None], distance[None], h.new_zeros(1, len(h), 0), h.new_zeros(1, 16)).invariant
    assert first.invariant == pytest.approx(direct[0].numpy(), abs=1e-5)
