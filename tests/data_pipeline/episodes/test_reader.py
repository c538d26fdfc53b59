"""The stream: what Ray Data delivers is the plan's slice of this worker, in the plan's order, from any step on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from tiny_training import tiny_plan, tiny_store

from data_pipeline.episodes.batch import EpisodeBatch
from data_pipeline.episodes.reader import StreamSettings, collate, gather, plan_steps, started, stream
from data_pipeline.store.store import Store
from distributed.cluster import join_ray

# Ray Data warns of options of its own when it copies its settings to a worker.
pytestmark = pytest.mark.filterwarnings(r"ignore:`\w+` is deprecated")
SUPPORT = 8


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("stream") / "store", "signals=element")


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    join_ray(cpus=2)
    yield
    ray.shutdown()


def without_ray(
    store: Store, start: int, stop: int, rank: int, world: int, support: int | list[int] = SUPPORT
) -> list[EpisodeBatch]:
    plan = tiny_plan(store, per_step=4, support=support)
    steps = ((plan.support_of(step), plan_steps(plan, step, step + 1, rank, world)) for step in range(start, stop))
    return [collate(gather(store, episodes, plan.supports[-1]), size) for size, episodes in steps]


def assert_equal(found: list[EpisodeBatch], wanted: list[EpisodeBatch]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        for field in fields(EpisodeBatch):
            mine, theirs = getattr(one, field.name), getattr(other, field.name)
            if isinstance(theirs, torch.Tensor):
                torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True, msg=field.name)
            else:
                assert mine == theirs


@pytest.mark.parametrize(
    ("start", "stop", "rank", "world", "settings"),
    [
        (0, 7, 0, 1, {}),
        (5, 12, 1, 2, {"steps_per_block": 1, "prefetch": 1}),
        (3, 10, 0, 2, {"steps_per_block": 3, "prefetch": 2, "tasks": 2}),
        (3, 4, 3, 4, {"steps_per_block": 64}),
        (5, 12, 1, 2, {"tasks": 0}),
    ],
)
def test_batches_are_the_plans_steps_in_order_whatever_is_read_ahead(
    store: Store, local_ray: None, start: int, stop: int, rank: int, world: int, settings: dict[str, int]
) -> None:
    plan, own = tiny_plan(store, per_step=4), StreamSettings.model_validate(settings)
    assert_equal(
        list(stream(store.path, plan, start, stop, rank, world, own)), without_ray(store, start, stop, rank, world)
    )


@pytest.mark.parametrize("settings", [{}, {"steps_per_block": 3, "tasks": 2}, {"tasks": 0}])
def test_support_sizes_may_change_inside_a_block_of_steps(
    store: Store, local_ray: None, settings: dict[str, int]
) -> None:
    plan, own = tiny_plan(store, per_step=4, support=[4, 8, 16]), StreamSettings.model_validate(settings)
    found = list(stream(store.path, plan, 2, 14, 1, 2, own, labelled=True))
    assert {batch.support for batch in found[:8]} == {4, 8, 16}
    for step, batch in enumerate(found, start=2):
        rows = np.stack([plan.episode(step, slot).rows for slot in plan.slots(1, 2)])
        assert batch.rows.numpy().tolist() == rows.tolist()
        assert batch.support == plan.support_of(step)
        assert batch.support_labels is not None
        assert batch.support_labels.shape == (2, batch.support)
        assert (batch.labels.numpy() == store.pairs.label[rows[:, batch.support :]]).all()
        # Nothing of what the steps were filled up with on the way is left.
        assert len(batch.enhancer_packed) == len(np.unique(store.pairs.enhancer[rows]))
    assert_equal(list(stream(store.path, plan, 2, 14, 1, 2, own)), without_ray(store, 2, 14, 1, 2, [4, 8, 16]))


def test_started_early_nothing_is_lost_or_repeated(store: Store, local_ray: None) -> None:
    batches = started(stream(store.path, tiny_plan(store, per_step=4), 0, 3, 0, 1, StreamSettings()))
    assert_equal(list(batches), without_ray(store, 0, 3, 0, 1))


def test_columns_of_no_width_arrive_with_no_width(tmp_path: Path, local_ray: None) -> None:
    bare = tiny_store(tmp_path / "store")
    batch = next(iter(stream(bare.path, tiny_plan(bare), 0, 1, 0, 1, StreamSettings())))
    assert batch.signals.shape == (2, 24, 0)
    assert batch.line_features.shape == (2, 0)
    assert batch.signals.dtype == batch.line_features.dtype == torch.float32


@pytest.mark.parametrize("world", [1, 2, 4])
def test_workers_together_read_each_episode_of_a_step_once(store: Store, world: int) -> None:
    plan = tiny_plan(store, per_step=4)
    parts = [plan_steps(plan, 2, 5, rank, world) for rank in range(world)]
    for step in range(2, 5):
        read = [tuple(rows) for part in parts for rows in part["rows"][part["step"] == step].tolist()]
        assert sorted(read) == sorted(tuple(plan.episode(step, slot).rows.tolist()) for slot in range(4))


def test_a_batch_holds_each_element_once_and_every_pair_finds_its_own(store: Store) -> None:
    (batch,) = without_ray(store, 0, 1, 0, 1)
    rows = batch.rows.numpy()
    for packed, index, column, table in (
        (batch.enhancer_packed, batch.enhancer, store.pairs.enhancer, store.enhancers),
        (batch.promoter_packed, batch.promoter, store.pairs.promoter, store.promoters),
    ):
        assert len(packed) == len(np.unique(column[rows]))
        assert (packed[index].numpy() == table.packed(column[rows].reshape(-1)).reshape(*rows.shape, -1)).all()


def test_a_batch_has_labels_of_the_query_only(store: Store) -> None:
    (batch,) = without_ray(store, 0, 1, 0, 1)
    assert batch.labels.shape == (4, 16)
    assert (batch.labels.numpy() == store.pairs.label[batch.rows.numpy()[:, SUPPORT:]]).all()
    assert batch.support_labels is None
