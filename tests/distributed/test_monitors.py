"""What docs/requirements.md claims to be recorded each epoch (R70-R76) stands in what a run writes down."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from tiny_training import tiny_settings, tiny_store

from data_pipeline.episodes.folds import resolve_fold
from data_pipeline.episodes.plan import Plan
from data_pipeline.episodes.reader import collate, gather, plan_steps
from data_pipeline.store.store import Store
from distributed.assembly import build_module, validation_rows
from distributed.monitoring.watch import Watch, WatchState, numbers
from distributed.run_folder.records import EPOCHS, Records, read_records
from evaluation.calibration import fit_calibration
from evaluation.epoch_end import epoch_figures, training_line_figures
from model.energy.energy import Energy, EnergySettings
from model.energy.forms import FORMS

PAGE = (Path(__file__).resolve().parents[2] / "docs/requirements.md").read_text()
CLAIMED = {
    number: re.findall(r"`([\w/]+)`", re.findall(rf"^\| {number} \| (.*?) \| ", PAGE, re.MULTILINE)[0])
    for number in ("R70", "R71", "R72", "R73", "R74", "R75", "R76")
}
"""Figures that the claim of a requirement names."""
ONLY_INTERACTION = "mean/energy/lambda"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("monitors") / "store")


def recorded(store: Store, folder: Path, *overrides: str) -> pd.DataFrame:
    """epochs.jsonl of two epochs of two steps: step, watch, epoch's end and records as the loop puts them together."""
    settings = tiny_settings("episodes.steps_per_epoch=2", "objective.balance.every=1", *overrides)
    fold = resolve_fold(store, settings.fold)
    plan = Plan(store, fold, settings.episodes, 0)
    torch.manual_seed(0)
    module = build_module(store, fold, settings)
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3)
    watch = Watch(settings.model, settings.objective, settings.train.responses, 1e-3, 3, has_environment=True)
    state, records, m = WatchState(), Records(folder, 0), settings.episodes.support
    rows = validation_rows(store, fold, 100)
    for step in range(4):
        module.train()
        batch = collate(gather(store, plan_steps(plan, step, step + 1, 0, 1), m), m)
        optimiser.zero_grad()
        total, report = module(batch, step, step / 2)
        total.backward()
        optimiser.step()
        state, _ = watch.step(state, numbers(report), step)
        if step % 2:
            figures = epoch_figures(module.model, store, fold, settings, rows, (0, 1, lambda own, total: own))
            state, figures, _, _ = watch.epoch(state, figures, step, (step + 1) / 2)
            records.epoch(step, step // 2, figures)
    records.close()
    return read_records(folder / EPOCHS)


@pytest.fixture(scope="module")
def epochs(store: Store, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    at_once = ["objective.curriculum.warm_epochs=0", "objective.curriculum.ramp_epochs=0"]
    everything = ["model.competition.on=true", "objective.terms.rank.on=true", *at_once]
    return recorded(store, tmp_path_factory.mktemp("run"), *everything)


@pytest.mark.parametrize("number", CLAIMED)
def test_a_run_s_epochs_hold_every_monitor_that_the_page_claims(epochs: pd.DataFrame, number: str) -> None:
    claimed = [name for name in CLAIMED[number] if name != ONLY_INTERACTION]
    assert len(claimed) >= 4
    assert [name for name in claimed if name not in epochs] == []
    assert epochs[claimed].iloc[-1].notna().all()


def test_lambda_is_recorded_where_the_form_has_one(store: Store, tmp_path: Path) -> None:
    assert ONLY_INTERACTION in CLAIMED["R71"]
    found = recorded(store, tmp_path, "model.energy.form=interaction")
    # It starts at .1 and has hardly moved in a step.
    assert found[ONLY_INTERACTION].iloc[0] == pytest.approx(0.1, abs=0.01)


def told(form: str) -> tuple[Energy, Mapping[str, torch.Tensor]]:
    energy = Energy(EnergySettings.model_validate({"form": form, "channels": 3}), 4, 0, 0.9)
    for parameter in (energy.readout.b, energy.readout.t, energy.modulation.coupling):
        if parameter is not None:
            parameter.data = torch.linspace(0.3, 0.9, len(parameter))
    return energy, energy.report()


def test_the_couplings_reported_are_those_the_energy_uses() -> None:
    energy, found = told("gated")
    coupling = energy.modulation.coupling
    assert coupling is not None
    assert [float(found[f"energy/w{k}"]) for k in range(3)] == pytest.approx(F.softplus(coupling.detach()).tolist())
    assert float(found["energy/b"]) == pytest.approx(0.3)
    assert float(found["energy/T"]) == pytest.approx(0.5 + 1.5 / (1 + np.exp(-0.3)))
    assert float(told("interaction")[1]["energy/lambda"]) == pytest.approx(0.3)
    fallback = told("lin_inter_fallback")[1]
    assert [float(fallback[f"energy/{name}"]) for name in ("lambda", "lambda_shift")] == pytest.approx([0.3, 0.9])


@pytest.mark.parametrize("form", sorted(FORMS))
def test_every_coupling_is_reported(form: str) -> None:
    energy, found = told(form)
    couplings = 0 if energy.modulation.coupling is None else len(energy.modulation.coupling)
    assert len(found) == 2 + couplings


def test_training_figures_are_those_of_the_field() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(300) < 0.3).astype(np.int8)
    logits = labels + rng.normal(size=300)
    found = training_line_figures(labels, logits)
    calibration = fit_calibration(labels, logits)
    assert found["average_precision"] == pytest.approx(average_precision_score(labels, logits))
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, logits))
    assert found["f1"] == pytest.approx(f1_score(labels, calibration.apply(logits) >= calibration.threshold))
    assert np.isnan(training_line_figures(0 * labels, logits)["f1"])
