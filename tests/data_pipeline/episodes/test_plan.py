"""The plan: every episode of a run, computed from (store, fold, seed, step) alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_training import tiny_fold, tiny_plan, tiny_store

from data_pipeline.episodes.plan import EpisodeSettings, Plan, draw_apart
from data_pipeline.errors import UserError
from data_pipeline.settings import SHOWN, validate
from data_pipeline.store.store import Store

any_step = given(step=st.integers(0, 2000), slot=st.integers(0, 3), seed=st.integers(0, 50))
few = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("plan") / "store")


def episodes_of(plan: Plan, start: int, stop: int) -> list[tuple[int, list[int]]]:
    episodes = [plan.episode(step, slot) for step in range(start, stop) for slot in range(plan.episodes_per_step)]
    return [(episode.line, episode.rows.tolist()) for episode in episodes]


@few
@any_step
def test_T6_5_a_query_pair_is_never_in_its_own_support(store: Store, step: int, slot: int, seed: int) -> None:
    rows = tiny_plan(store, seed, per_step=4).episode(step, slot).rows
    assert len(rows) == 8 + 16
    assert len(np.unique(rows)) == len(rows)


@few
@any_step
def test_support_and_query_share_no_element(store: Store, step: int, slot: int, seed: int) -> None:
    rows = tiny_plan(store, seed, per_step=4).episode(step, slot).rows
    for column in (store.pairs.enhancer, store.pairs.promoter):
        assert not set(column[rows[:8]].tolist()) & set(column[rows[8:]].tolist())


@few
@any_step
def test_an_episode_is_of_one_training_line_and_of_the_training_zone(
    store: Store, step: int, slot: int, seed: int
) -> None:
    fold = tiny_fold(store)
    episode = tiny_plan(store, seed, fold, per_step=4).episode(step, slot)
    allowed = fold.rows(store, fold.train_lines[episode.line], "train")
    assert set(episode.rows.tolist()) <= set(allowed.tolist())


@few
@given(step=st.integers(0, 2000), seed=st.integers(0, 50))
def test_any_step_is_the_same_whatever_was_asked_before(store: Store, step: int, seed: int) -> None:
    fresh, used = tiny_plan(store, seed), tiny_plan(store, seed)
    for earlier in range(0, step, 97):
        used.episode(earlier, 0)
    assert episodes_of(fresh, step, step + 1) == episodes_of(used, step, step + 1)
    assert fresh.identity == used.identity


def test_seed_fold_store_and_sizes_each_change_the_plan(store: Store, tmp_path: Path) -> None:
    plans = [
        tiny_plan(store),
        tiny_plan(store, seed=1),
        tiny_plan(store, fold=tiny_fold(store, seed=5)),
        tiny_plan(tiny_store(tmp_path / "other", "seed=2")),
        tiny_plan(store, support=9),
        tiny_plan(store, support=[8, 9]),
        tiny_plan(store, per_step=4),
    ]
    assert len({plan.identity for plan in plans}) == len(plans)
    first = [str(episodes_of(plan, 0, 2)) for plan in plans]
    assert len(set(first)) == len(plans)


VARYING = [4, 8, 16]


@few
@given(step=st.integers(0, 2000), seed=st.integers(0, 50))
def test_support_size_of_a_step_is_the_same_for_every_worker(store: Store, step: int, seed: int) -> None:
    plan = tiny_plan(store, seed, per_step=4, support=VARYING)
    for world in (1, 2, 4):
        fresh = tiny_plan(store, seed, per_step=4, support=VARYING)
        slots = [slot for rank in range(world) for slot in fresh.slots(rank, world)]
        sizes = {len(fresh.episode(step, slot).rows) - 16 for slot in slots}
        assert sizes == {plan.support_of(step)}


def test_every_support_size_of_the_list_comes_about_as_often(store: Store) -> None:
    plan = tiny_plan(store, support=VARYING)
    sizes = [plan.support_of(step) for step in range(3000)]
    assert all(0.3 < sizes.count(size) / len(sizes) < 0.37 for size in VARYING)
    assert sizes[: plan.steps_per_epoch] != sizes[plan.steps_per_epoch : 2 * plan.steps_per_epoch]


def test_the_steps_of_an_epoch_and_their_queries_do_not_depend_on_the_support_sizes(store: Store) -> None:
    assert tiny_plan(store, support=VARYING).steps_per_epoch == tiny_plan(store, support=8).steps_per_epoch


def test_sizes_that_a_line_cannot_give_are_left_out_and_the_smallest_must_be_given(store: Store) -> None:
    plan = tiny_plan(store, support=[4, 8, 100, 2000])
    assert plan.supports == (4, 8)
    assert {plan.support_of(step) for step in range(100)} == {4, 8}
    with pytest.raises(UserError, match=r"do not hold a support of 300 and a query of 16 that share no element; lower"):
        tiny_plan(store, support=[400, 300])


def test_a_single_support_size_is_the_plan_it_always_was(store: Store) -> None:
    number, alone = tiny_plan(store, support=8), tiny_plan(store, support=[8])
    assert number.supports == alone.supports == (8,)
    assert {len(number.episode(step, 0).rows) for step in range(20)} == {24}


@pytest.mark.parametrize("wrong", [0, 4097, [], [8, 0], [1.5], "many", True, list(range(1, 10))])
def test_a_support_that_is_no_size_is_named_in_one_sentence(wrong: object) -> None:
    with pytest.raises(UserError) as error:
        validate(EpisodeSettings, {"support": wrong}, "settings")
    assert str(error.value).startswith(f"settings: key 'support' has value {SHOWN.repr(wrong)}: ")
    assert str(error.value).endswith("give a whole number from 1 to 4096, or a list of at most 8 of them")


def test_epochs_differ(store: Store) -> None:
    plan = tiny_plan(store)
    epoch = plan.steps_per_epoch
    assert episodes_of(plan, 0, 1) != episodes_of(plan, epoch, epoch + 1)
    assert [plan.epoch_of(step) for step in (0, epoch - 1, epoch, 2 * epoch)] == [0, 0, 1, 2]


def training_rows(store: Store) -> NDArray[np.int64]:
    """Rows of both training lines of the tiny fold that training may use."""
    fold = tiny_fold(store)
    rows = np.concatenate([fold.rows(store, line, "train") for line in fold.train_lines])
    return rows[store.pairs.label[rows] >= 0]


def test_every_training_pair_is_a_query_about_once_per_epoch(store: Store) -> None:
    plan = tiny_plan(store)
    for epoch in range(3):
        steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
        asked = np.concatenate([plan.episode(step, slot).rows[8:] for step in steps for slot in range(2)])
        counts = np.bincount(asked, minlength=len(store.pairs))
        trained = training_rows(store)
        assert counts.sum() == counts[trained].sum()
        assert counts.max() <= 2
        assert (counts[trained] == 0).mean() < 0.15
        assert 0.9 < counts[trained].mean() < 1.15


def test_pairs_left_out_of_one_epoch_come_in_another(store: Store) -> None:
    plan = tiny_plan(store)
    asked: set[int] = set()
    for step in range(4 * plan.steps_per_epoch):
        for slot in range(2):
            asked |= set(plan.episode(step, slot).rows[8:].tolist())
    assert asked == set(training_rows(store).tolist())


def test_every_line_is_in_every_step_and_two_workers_can_share_it(store: Store) -> None:
    for lines in (["sim1"], ["sim1", "sim2"]):
        plan = tiny_plan(store, fold=tiny_fold(store, train_lines=lines))
        assert len(plan.slots(0, 2)) == 1
        assert {plan.episode(3, slot).line for slot in range(plan.episodes_per_step)} == set(range(len(lines)))


@pytest.mark.parametrize("per_step", [1, 2, 3, 4, 6])
def test_lines_take_turns_evenly(store: Store, per_step: int) -> None:
    fold = tiny_fold(store, valid_line="sim2")
    plan = tiny_plan(store, fold=fold, per_step=per_step, steps_per_epoch=12)
    for step in range(24):
        lines = np.bincount([plan.episode(step, slot).line for slot in range(per_step)], minlength=2)
        assert lines.max() - lines.min() <= 1


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6, 12])
def test_workers_partition_each_step(store: Store, world: int) -> None:
    plan = tiny_plan(store, per_step=12)
    slots = [plan.slots(rank, world) for rank in range(world)]
    assert sorted(slot for mine in slots for slot in mine) == list(range(12))
    assert {len(mine) for mine in slots} == {12 // world}
    # Episode e of worker r is number e*W + r, the order in which the exchange puts them together.
    assert all(mine[e] == e * world + rank for rank, mine in enumerate(slots) for e in range(12 // world))


def test_workers_that_do_not_divide_the_step_are_refused(store: Store) -> None:
    with pytest.raises(UserError, match=r"4 episodes per step cannot be shared equally by 3 workers; set episodes"):
        tiny_plan(store, per_step=4).slots(0, 3)


def test_a_line_with_too_few_pairs_is_named(store: Store) -> None:
    with pytest.raises(UserError, match=r"line 'sim1' has too few pairs for an episode: its \d+ training pairs do not"):
        tiny_plan(store, support=200, query=100)


def test_a_line_whose_pairs_all_share_elements_is_named_before_training(store: Store) -> None:
    # Enough pairs, but no query of 100 leaves 30 pairs that share no element with it.
    with pytest.raises(UserError, match=r"share no element; lower episodes\.support or episodes\.query"):
        tiny_plan(store, support=30, query=100)


@few
@given(data=st.data(), count=st.integers(1, 10))
def test_draw_apart_shares_nothing_or_says_that_it_cannot(data: st.DataObject, count: int) -> None:
    column = st.lists(st.integers(0, 12), min_size=40, max_size=40)
    enhancer = np.array(data.draw(column), dtype=np.int32)
    promoter = np.array(data.draw(column), dtype=np.int32)
    others = np.array(data.draw(st.lists(st.integers(0, 39), min_size=1, max_size=6, unique=True)))
    pool = np.arange(40)
    drawn = draw_apart(np.random.default_rng(0), pool, others, count, enhancer, promoter)
    clashes = np.isin(enhancer, enhancer[others]) | np.isin(promoter, promoter[others])
    if drawn is None:
        assert (~clashes).sum() < count
    else:
        assert len(np.unique(drawn)) == count
        assert not clashes[drawn].any()
