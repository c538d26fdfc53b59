"""Profiles on the one road: read ahead, trained on, scored, left out, exported and matched with another store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from tiny_landscapes import landscape_store
from tiny_training import tiny_plan, tiny_settings, tiny_store

from data_pipeline.episodes.batch import EpisodeBatch
from data_pipeline.episodes.folds import Fold, FoldSettings, resolve_fold
from data_pipeline.episodes.plan import Plan
from data_pipeline.episodes.reader import StreamSettings, collate, gather, plan_steps, stream
from data_pipeline.episodes.supports import SupportSize
from data_pipeline.errors import UserError
from data_pipeline.store.store import Store
from distributed.assembly import build_module
from distributed.cluster import join_ray
from distributed.prediction.deployment import ModelDescription, Origin
from distributed.prediction.matched_store import MatchedStore
from distributed.settings import RunSettings
from evaluation.epoch_end import environment_can_rank
from evaluation.scoring import Scorer
from evaluation.settings import ScoringSettings
from model.objective import TrainingModule

# Ray Data warns of options of its own when it copies its settings to a worker.
pytestmark = pytest.mark.filterwarnings(r"ignore:`\w+` is deprecated")
SHAPE = (4, 12)
ON = [
    "model.trunk.size=none", "model.energy.channels=1", "objective.balance.mode=fixed_ramp",
    "model.environment.profile.on=true", "model.environment.profile.around=4", "model.environment.profile.bins=12",
    "model.environment.profile.dropout=0", "model.energy.dropout=0", "model.environment.dropout=0",
    "model.environment.local_dropout=0", "model.environment.context_dropout=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return landscape_store(tmp_path_factory.mktemp("road") / "store")


@pytest.fixture(scope="module")
def fold(store: Store) -> Fold:
    own = {"test_line": "sim4", "valid_line": "sim3", "block": 100_000}
    return resolve_fold(store, FoldSettings.model_validate(own))


@pytest.fixture(scope="module")
def plan(store: Store, fold: Fold) -> Plan:
    return tiny_plan(store, fold=fold, support=[4, 8])


def built(store: Store, fold: Fold, *changes: str) -> TrainingModule:
    torch.manual_seed(0)
    return build_module(store, fold, tiny_settings(*ON, *changes))


def batch_of(store: Store, plan: Plan, step: int) -> EpisodeBatch:
    columns = gather(store, plan_steps(plan, step, step + 1, 0, 1), plan.supports[-1], profile=SHAPE)
    return collate(columns, plan.support_of(step))


def test_batches_have_the_profiles_of_their_query(store: Store, plan: Plan) -> None:
    batch = batch_of(store, plan, 3)
    query = batch.rows[:, batch.support :].numpy()
    assert batch.profile is not None
    np.testing.assert_array_equal(batch.profile.numpy(), [store.profile(rows, SHAPE) for rows in query])


@pytest.fixture
def local_ray() -> Iterator[None]:
    join_ray(cpus=2)
    yield
    ray.shutdown()


def test_profiles_are_read_ahead_like_everything_else(store: Store, plan: Plan, local_ray: None) -> None:
    for tasks in (0, 1):
        own = StreamSettings(tasks=tasks, steps_per_block=2)
        for step, found in enumerate(stream(store.path, plan, 1, 4, 0, 1, own, profile=SHAPE), start=1):
            wanted = batch_of(store, plan, step)
            for name in (field.name for field in fields(EpisodeBatch)):
                mine, theirs = getattr(found, name), getattr(wanted, name)
                if isinstance(theirs, torch.Tensor):
                    torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True, msg=name)


def test_scoring_gives_the_logits_of_the_batch_and_training_moves_the_encoder(
    store: Store, fold: Fold, plan: Plan
) -> None:
    module, batch = built(store, fold), batch_of(store, plan, 0)
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-2)
    for step in range(3):
        total, _ = module.train()(batch, step, 10.0)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    assert module.model.profile is not None
    assert environment_can_rank(module.model)
    scorer = Scorer(module.model, store, SupportSize.exactly(batch.support), ScoringSettings())
    rows = batch.rows[0].numpy()
    none = np.empty((len(rows), 0), dtype=np.float32)
    found = scorer.heads(none[: batch.support], none[batch.support :], rows[: batch.support], rows[batch.support :])
    with torch.no_grad():
        expected = module.eval().model.logits(batch)[0].numpy()
    assert expected.std() > 1e-4
    np.testing.assert_allclose(found.logits, expected, rtol=1e-4, atol=1e-5)


def test_statistics_are_those_of_the_training_lines(store: Store, fold: Fold) -> None:
    encoder = built(store, fold).model.profile
    assert encoder is not None
    rows = np.concatenate([fold.rows(store, line, "train") for line in fold.train_lines])
    profile = store.profile(rows, SHAPE)
    means = profile[..., 2:4][profile[..., 4] > 0].mean(axis=0)
    np.testing.assert_allclose(encoder.scale.numpy(), means, rtol=1e-4)


def test_what_is_left_out_is_left_out_of_the_profile_as_well(store: Store, fold: Fold) -> None:
    def withheld(name: str) -> list[bool]:
        encoder = built(store, fold, f"model.signals.leave_out=[{name}]").model.profile
        assert encoder is not None
        return list(encoder.withheld.tolist())

    assert withheld("CTCF") == [True, False]
    assert withheld("landscape:TSS") == [False, True]
    assert withheld("landscape") == [True, True]
    assert withheld("pair") == [False, False]


def test_an_assay_that_is_dropped_is_dropped_from_signals_and_profile(store: Store, fold: Fold) -> None:
    measured = built(store, fold, "model.signals.dropout=0.5").model.measured
    assert measured.needs.tolist() == [[1.0, 1.0, 0.0]]


def test_a_profile_without_landscapes_is_refused_before_training(tmp_path: Path) -> None:
    bare = tiny_store(tmp_path / "store", "signals=element")
    with pytest.raises(UserError, match=r"ingest it with context\.profile=true"):
        build_module(bare, resolve_fold(bare, tiny_settings().fold), tiny_settings(*ON))


def description(store: Store, settings: RunSettings, tracks: list[str]) -> ModelDescription:
    origin = Origin(run="r", checkpoint="c", step=1, score=0.5, store=store.checksum, fold="f", versions={})
    return ModelDescription(
        format_version=1, model=settings.model, windows={"enhancer": 0, "promoter": 0}, support=8,
        signal_names=store.signal_names, landscape_names=tracks, line_features=0, train_lines=["sim1"],
        calibration=None, origin=origin,
    )  # fmt: skip


def test_prediction_matches_tracks_of_landscapes_by_name(store: Store) -> None:
    own, rows = store.profile(np.arange(9), SHAPE), np.arange(9)
    matched = MatchedStore.of(store.path, description(store, tiny_settings(*ON), ["TSS", "DNase", "CTCF"]))
    assert matched.missing_landscapes == ["DNase"]
    found = matched.profile(rows, SHAPE)
    assert found.shape[2] == 2 * 3 + 4
    np.testing.assert_array_equal(found[..., [0, 2, 3, 5]], own[..., [1, 0, 3, 2]])
    np.testing.assert_array_equal(found[..., 6:], own[..., 4:])
    there = own[..., 4] > 0
    assert np.isnan(found[there][:, [1, 4]]).all()
    assert not found[~there].any()


def test_a_store_without_landscapes_is_scored_with_empty_profiles(tmp_path: Path, store: Store, fold: Fold) -> None:
    bare = tiny_store(tmp_path / "bare", "signals=element")
    model = description(bare, tiny_settings(*ON), store.landscape_names)
    matched = MatchedStore.of(bare.path, model)
    assert matched.missing_landscapes == ["CTCF", "TSS"]
    profile = torch.from_numpy(matched.profile(np.arange(3), SHAPE))
    assert not profile.any()
    encoder = built(store, fold).model.profile
    assert encoder is not None
    assert not encoder(profile.unsqueeze(0)).any()
    shutil.rmtree(bare.path)
