"""Support sets outside training: as large as the line gives, and nothing in them of the pairs they serve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_training import tiny_fold, tiny_store

from data_pipeline.episodes.supports import Served, SupportSize, draw_supports
from data_pipeline.errors import UserError
from data_pipeline.store.store import Store

few = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
any_draw = given(seed=st.integers(0, 1000), size=st.integers(1, 12), share=st.integers(1, 3))
DRAWS = 3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("supports") / "store")


def rows_of_line(store: Store, line: str = "sim4") -> np.ndarray:
    return tiny_fold(store).rows(store, line)


def draw(store: Store, rows: np.ndarray, pool: np.ndarray, least: int, most: int, seed: int = 0) -> list[Served]:
    return draw_supports(store, rows, pool, SupportSize(least, most), DRAWS, seed)


def elements(store: Store, rows: np.ndarray) -> set[tuple[str, int]]:
    pairs = store.pairs
    named = (("enhancer", pairs.enhancer[rows]), ("promoter", pairs.promoter[rows]))
    return {(kind, element) for kind, found in named for element in found.tolist()}


@few
@any_draw
def test_every_pair_is_served_once_in_each_draw(store: Store, seed: int, size: int, share: int) -> None:
    pool = rows_of_line(store)
    rows = pool[::share]
    served = np.concatenate([part.positions for part in draw(store, rows, pool, size, size, seed)])
    assert sorted(served.tolist()) == list(range(len(rows)))


@few
@given(seed=st.integers(0, 1000), size=st.integers(1, 1000), share=st.integers(1, 3))
def test_no_pair_is_in_its_own_support_nor_shares_an_element_with_it(
    store: Store, seed: int, size: int, share: int
) -> None:
    pool = rows_of_line(store)
    rows = pool[::share]
    for part in draw(store, rows, pool, 1, size, seed):
        support = part.supports.reshape(-1)
        assert not set(support.tolist()) & set(rows[part.positions].tolist())
        assert not elements(store, support) & elements(store, rows[part.positions])


@few
@any_draw
def test_supports_have_the_asked_size_and_come_from_the_pool(store: Store, seed: int, size: int, share: int) -> None:
    pool = rows_of_line(store)
    for part in draw(store, pool[::share], pool, size, size, seed):
        assert part.supports.shape == (DRAWS, size)
        assert all(len(np.unique(support)) == size for support in part.supports)
        assert set(part.supports.reshape(-1).tolist()) <= set(pool.tolist())


def test_scoring_uses_as_many_pairs_as_the_line_gives_up_to_the_bound(store: Store) -> None:
    pool = rows_of_line(store)
    rows = tiny_fold(store).rows(store, "sim4", "test")
    apart = [row for row in pool.tolist() if not elements(store, np.array([row])) & elements(store, rows)]
    gives = len(apart) // 2
    assert gives > 20
    for bound, size in ((8, 8), (20, 20), (1024, gives)):
        (part,) = draw(store, rows, pool, 8, bound)
        assert part.supports.shape == (DRAWS, size)
    # Draws take halves of the same pairs, so that nearly all of them have a say.
    (part,) = draw(store, rows, pool, 8, 1024)
    assert set(part.supports.reshape(-1).tolist()) <= set(apart)
    assert len(np.unique(part.supports)) > 0.8 * len(apart)


def test_one_support_serves_a_whole_held_out_stretch_of_genome_and_few_serve_a_line(store: Store) -> None:
    pool, held_out = rows_of_line(store), tiny_fold(store).rows(store, "sim4", "test")
    assert len(draw(store, held_out, pool, 8, 1024)) == 1
    assert len(draw(store, pool, pool, 8, 1024)) <= 4


def test_no_label_decides_about_a_support(store: Store) -> None:
    pool, blind = rows_of_line(store), Store.open(store.path)
    blind.pairs.label = np.full(len(store.pairs), -1, dtype=np.int8)
    assert str(draw(store, pool, pool, 8, 64)) == str(draw(blind, pool, pool, 8, 64))


def test_a_line_of_few_pairs_is_scored_with_what_it_has_and_refused_below_the_least(store: Store) -> None:
    few_pairs = rows_of_line(store)[::6]
    parts = draw(store, few_pairs, few_pairs, 2, 1024)
    assert {part.supports.shape[1] for part in parts} < set(range(2, len(few_pairs) // 2 + 1))
    with pytest.raises(UserError, match=r"line 'sim4' has too few pairs: none of its 40 pairs leaves 39 that share no"):
        draw(store, few_pairs, few_pairs, 39, 1024)


def test_a_draw_is_a_function_of_its_seed(store: Store) -> None:
    pool = rows_of_line(store)
    first, again, other = (draw(store, pool, pool, 8, 8, seed) for seed in (3, 3, 4))
    assert str(first) == str(again)
    assert first[0].supports.tolist() != other[0].supports.tolist()
    assert len({tuple(support) for support in first[0].supports.tolist()}) == DRAWS


def test_the_spread_over_draws_is_what_is_unknown_of_the_line() -> None:
    """Means of half of a sample lie about the sample's as far as that lies from the truth."""
    rng = np.random.default_rng(0)
    halves, wholes = [], []
    for _ in range(400):
        sample = rng.normal(size=100)
        halves += [rng.choice(sample, 50, replace=False).mean() - sample.mean() for _ in range(5)]
        wholes.append(sample.mean())
    assert np.std(halves) == pytest.approx(np.std(wholes), rel=0.1)


def test_a_pool_smaller_than_the_support_is_refused(store: Store) -> None:
    pool = rows_of_line(store)
    with pytest.raises(UserError, match=r"^5 pairs cannot give a support set of 8; lower episodes\.support or add"):
        draw(store, pool, pool[:5], 8, 1024)


def test_a_line_whose_pairs_leave_no_support_apart_is_named(store: Store) -> None:
    pool = rows_of_line(store)
    crowded = pool[np.isin(store.pairs.promoter[pool], store.pairs.promoter[pool[:1]])]
    with pytest.raises(UserError, match=r"line 'sim4' has too few pairs: none of its \d+ pairs leaves \d+ that share"):
        draw(store, crowded, crowded, len(crowded), 1024)
