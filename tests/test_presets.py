"""Every training preset trains on a small simulated store: losses finite and within their bounds, nothing degenerate.

In one process and without an engine; the store's lines have feature vectors, so that graphs and hierarchies use them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_training import TINY_RUN, tiny_store

from data_pipeline.episodes.batch import EpisodeBatch
from data_pipeline.episodes.folds import resolve_fold
from data_pipeline.episodes.plan import Plan
from data_pipeline.episodes.reader import collate, gather, plan_steps
from data_pipeline.settings import load
from data_pipeline.store.store import Store
from distributed.assembly import build_module
from distributed.monitoring.watch import Watch, WatchState, numbers
from distributed.settings import RunSettings
from evaluation.alarms import Event
from model.environment.id_teacher import IdTeacher
from model.objective import TrainingModule

FOLDER = Path(__file__).resolve().parents[1] / "configs/train"
RECORDS = ("record_09", "record_11", "record_22", "record_24", "record_25")
PRESETS = (*RECORDS, "default")
STEPS = 12
SHORT = [
    *TINY_RUN,
    "episodes.steps_per_epoch=2",
    "objective.curriculum.warm_epochs=1",
    "objective.curriculum.ramp_epochs=1",
]
"""Six epochs of two steps, so that terms that start with the second epoch act in most of them."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("presets") / "store", "line_features=2")


def settings_of(preset: str, *overrides: str) -> RunSettings:
    return load(RunSettings, [FOLDER / f"{preset}.yaml"], [*SHORT, *overrides])


def assembled(store: Store, settings: RunSettings) -> tuple[TrainingModule, Iterator[EpisodeBatch]]:
    """The module of a run and the batches of its first steps, as one worker would see them."""
    fold = resolve_fold(store, settings.fold)
    plan = Plan(store, fold, settings.episodes, settings.train.seed)
    torch.manual_seed(0)
    module = build_module(store, fold, settings)
    widest = plan.supports[-1]
    batches = (
        collate(gather(store, plan_steps(plan, step, step + 1, 0, 1), widest), plan.support_of(step))
        for step in range(STEPS)
    )
    return module, batches


def trained(store: Store, settings: RunSettings) -> tuple[list[dict[str, float]], list[Event]]:
    """The reports of `STEPS` steps and the alarms that turned on in them."""
    module, batches = assembled(store, settings)
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3)
    watch = Watch(settings.model, settings.objective, settings.train.responses, 1e-3, 3, has_environment=True)
    state, reports, alarms = WatchState(), [], []
    for step, batch in enumerate(batches):
        optimiser.zero_grad()
        total, report = module(batch, step, step / settings.episodes.steps_per_epoch)
        total.backward()
        optimiser.step()
        reports.append(numbers(report))
        state, events = watch.step(state, reports[-1], step)
        alarms += [event for event in events if event.on]
    return reports, alarms


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_trains_without_a_degenerate_or_violated_loss(store: Store, preset: str) -> None:
    settings = settings_of(preset)
    reports, alarms = trained(store, settings)
    losses = [value for report in reports for name, value in report.items() if name.startswith("loss/")]
    assert all(map(math.isfinite, losses))
    assert [name for report in reports for name, value in report.items() if "bound_violated" in name and value] == []
    assert alarms == []
    # One line alone in a step would leave every loss between lines at exactly 0.
    assert settings.episodes.per_step == 0


@pytest.mark.parametrize("preset", PRESETS)
def test_every_loss_of_a_preset_acts_on_the_representation_it_shapes(store: Store, preset: str) -> None:
    settings = settings_of(preset, "objective.balance.every=1")
    reports = trained(store, settings)[0]
    acting = [name for name, own in settings.objective.policies().items() if own.on and own.weight > 0]
    assert [name for name in acting if not reports[-1][f"weight/{name}"]] == []
    # A mechanism present in name only would show here as no gradient (R04).
    strongest = {name: max(report.get(f"gradient_ratio/{name}", 0.0) for report in reports) for name in acting}
    assert [name for name, ratio in strongest.items() if ratio == 0.0] == []


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_small_isolated_and_protects_the_intrinsic_energy(store: Store, preset: str) -> None:
    settings = load(RunSettings, [FOLDER / f"{preset}.yaml"], TINY_RUN[:5])
    module, _ = assembled(store, settings)
    assert sum(parameter.numel() for parameter in module.parameters()) < 1.2e6  # R03
    assert not settings.model.environment.trunk_gradient  # R20
    assert not any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm | IdTeacher) for part in module.modules())


@pytest.mark.parametrize("preset", RECORDS)
def test_a_record_has_its_one_channel_and_sequences_alone(preset: str) -> None:
    model = settings_of(preset).model
    assert model.energy.channels == 1
    seen = {model.environment.local, model.environment.support_signals, model.energy.use_distance}
    assert seen == {False}


def test_records_differ_in_what_they_proposed() -> None:
    made = {preset: settings_of(preset) for preset in PRESETS}
    assert [made[preset].model.energy.form for preset in PRESETS] == [
        *("linear", "linear", "linear", "interaction", "gated", "gated")
    ]
    assert [preset for preset in PRESETS if made[preset].model.competition.on] == ["record_09", "record_11"]
    assert [preset for preset in PRESETS if made[preset].objective.terms.hcont.on] == ["record_22", "record_24"]
    assert [preset for preset in PRESETS if made[preset].objective.terms.rank.on] == ["record_25", "default"]
    assert [preset for preset in PRESETS if made[preset].objective.terms.sparse.on] == ["record_24"]


@pytest.mark.parametrize("preset", RECORDS)
def test_a_record_laid_over_the_default_keeps_none_of_its_mechanisms(preset: str) -> None:
    # As an ablation does it.
    over = load(RunSettings, [FOLDER / "default.yaml", FOLDER / f"{preset}.yaml"], SHORT)
    alone = settings_of(preset)
    assert over.model.energy.model_copy(update={"shift": alone.model.energy.shift}) == alone.model.energy
    assert over.model.model_copy(update={"energy": alone.model.energy}) == alone.model
    assert over.objective.balance.mode == alone.objective.balance.mode
    on, on_alone = ({name for name, own in of.objective.policies().items() if own.on} for of in (over, alone))
    assert on == on_alone


def test_presets_of_records_with_a_graph_or_hierarchy_know_the_records_lines() -> None:
    lines = {"GM12878", "K562", "HUVEC", "IMR90", "HeLa-S3", "NHEK"}
    known = [preset for preset in RECORDS if settings_of(preset).model.tissues]
    assert known == ["record_09", "record_11", "record_22", "record_24"]
    assert all(set(settings_of(preset).model.tissues) == lines for preset in known)
