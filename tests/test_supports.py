"""Support sets outside training: every pair is scored once per draw, with a support that has nothing of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_training import tiny_fold, tiny_store

from data_pipeline.errors import UserError
from data_pipeline.store import Store
from data_pipeline.supports import draw_supports

few = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
any_draw = given(seed=st.integers(0, 1000), size=st.integers(1, 12), share=st.integers(1, 3))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("supports") / "store")


def rows_of_line(store: Store, line: str = "sim4") -> np.ndarray:
    return tiny_fold(store).rows(store, line)


@few
@any_draw
def test_every_pair_is_served_once_in_each_draw(store: Store, seed: int, size: int, share: int) -> None:
    pool = rows_of_line(store)
    rows = pool[::share]
    served = np.concatenate([positions for _, positions in draw_supports(store, rows, pool, size, seed)])
    assert sorted(served.tolist()) == list(range(len(rows)))


@few
@any_draw
def test_no_pair_is_in_its_own_support_nor_shares_an_element_with_it(
    store: Store, seed: int, size: int, share: int
) -> None:
    pool = rows_of_line(store)
    rows = pool[::share]
    for support, positions in draw_supports(store, rows, pool, size, seed):
        query = rows[positions]
        assert not set(support.tolist()) & set(query.tolist())
        for column in (store.pairs.enhancer, store.pairs.promoter):
            assert not set(column[support].tolist()) & set(column[query].tolist())


@few
@any_draw
def test_supports_have_the_asked_size_and_come_from_the_pool(store: Store, seed: int, size: int, share: int) -> None:
    pool = rows_of_line(store)
    for support, _ in draw_supports(store, pool[::share], pool, size, seed):
        assert len(np.unique(support)) == len(support) == size
        assert set(support.tolist()) <= set(pool.tolist())


def test_a_draw_is_a_function_of_its_seed(store: Store) -> None:
    pool = rows_of_line(store)
    first, again, other = (draw_supports(store, pool, pool, 8, seed) for seed in (3, 3, 4))
    assert str(first) == str(again)
    assert first[0][0].tolist() != other[0][0].tolist()


def test_few_supports_serve_many_pairs(store: Store) -> None:
    pool = rows_of_line(store)
    assert len(draw_supports(store, pool, pool, 4, 0)) <= 4


def test_a_pool_smaller_than_the_support_is_refused(store: Store) -> None:
    pool = rows_of_line(store)
    with pytest.raises(UserError, match=r"^5 pairs cannot give a support set of 8; lower episodes\.support or add"):
        draw_supports(store, pool, pool[:5], 8, 0)


def test_a_line_whose_pairs_leave_no_support_apart_is_named(store: Store) -> None:
    pool = rows_of_line(store)
    crowded = pool[np.isin(store.pairs.promoter[pool], store.pairs.promoter[pool[:1]])]
    with pytest.raises(UserError, match=r"line 'sim4' has too few pairs: none of its \d+ pairs leaves \d+ that share"):
        draw_supports(store, crowded, crowded, len(crowded), 0)
