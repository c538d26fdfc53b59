"""Profiles cut from a store's bins: what each column holds, whichever way the pair lies and however long it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_landscapes import BINS, landscape_store, values_of
from tiny_training import tiny_store

from data_pipeline.store.profiles import MASKS, columns_of
from data_pipeline.store.store import Store

ROWS = np.arange(0, 1600, 7)
WIDE = (5, 98)
"""As many columns between as there can be bins."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return landscape_store(tmp_path_factory.mktemp("profiles") / "store")


def places(store: Store, row: int) -> tuple[int, int, int, NDArray[np.float32]]:
    """Bins of E and P on their chromosome, the way from E to P, and the values of the bins of the pair's line there."""
    columns = store.pairs.columns
    e, p, way = (int(columns.full(name)[row]) for name in ("enhancer_bin", "promoter_bin", "outward"))
    line, chrom = int(store.pairs.line[row]), int(store.enhancers.chrom[store.pairs.enhancer[row]])
    return e % BINS, p % BINS, way, values_of(line, chrom)


def by_hand(store: Store, row: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """The profile of one pair, column by column."""
    around, between = shape
    e, p, way, values = places(store, row)
    inside = list(range(e, p, way))[1:]
    groups = [[e - way * step] for step in range(around, 0, -1)] + [[e]]
    parts = min(between, len(inside))
    groups += [inside[len(inside) * part // parts : len(inside) * (part + 1) // parts] for part in range(parts)]
    groups += [[p]] if p != e else []
    groups += [[p + way * step] for step in range(1, around + 1)]
    profile = np.zeros((columns_of(shape), 2 * values.shape[1] + len(MASKS)), dtype=np.float32)
    for column, group in enumerate(groups):
        if all(0 <= bin < BINS for bin in group):
            own = values[group]
            marks = [len(group), group == [e], group == [p], e not in group and p not in group and group[0] in inside]
            profile[column] = np.concatenate([own.max(axis=0), own.mean(axis=0), marks])
    return profile


@pytest.mark.parametrize("shape", [WIDE, (5, 8), (1, 1), (30, 20)])
def test_columns_lead_from_behind_the_enhancer_to_beyond_the_promoter(store: Store, shape: tuple[int, int]) -> None:
    found = store.profile(ROWS, shape)
    assert found.dtype == np.float32
    wanted = np.stack([by_hand(store, row, shape) for row in ROWS])
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert {places(store, row)[2] for row in ROWS} == {1, -1}


def test_on_a_mirrored_chromosome_profiles_are_the_same(store: Store, tmp_path: Path) -> None:
    mirrored = landscape_store(tmp_path / "store", mirrored=True)
    same = store.pairs.columns.full("outward") == -mirrored.pairs.columns.full("outward")
    assert same[store.pairs.distance > 0].all()
    rows = np.flatnonzero(same)
    np.testing.assert_array_equal(store.profile(rows, WIDE), mirrored.profile(rows, WIDE))


def test_every_bin_between_stands_in_one_column_however_few_there_are(store: Store) -> None:
    for between in (1, 3, 50):
        bins, _, _, inside = np.moveaxis(store.profile(ROWS, (2, between))[..., -4:], -1, 0)
        e, p = (store.pairs.columns.take(name, ROWS).astype(int) for name in ("enhancer_bin", "promoter_bin"))
        np.testing.assert_array_equal((bins * inside).sum(axis=1), np.maximum(np.abs(e - p) - 1, 0))
        assert inside.sum(axis=1).max() == between


def test_the_strongest_between_is_not_lost_in_a_column_of_many(store: Store) -> None:
    rows = ROWS[store.pairs.line[ROWS] != 2]
    wide, narrow = (store.profile(rows, (5, between)) for between in (98, 4))
    np.testing.assert_array_equal(*((own[..., 0] * own[..., -1]).max(axis=1) for own in (wide, narrow)))


def test_a_pair_without_a_landscape_has_an_empty_profile_and_a_missing_mark_is_unknown(store: Store) -> None:
    assert not store.profile(np.array([len(store.pairs) - 1]), WIDE).any()
    profile = store.profile(np.flatnonzero(store.pairs.line == 2), WIDE)
    there = profile[..., -4] > 0
    assert np.isnan(profile[there][:, [0, 2]]).all()
    assert np.isfinite(profile[there][:, [1, 3]]).all()
    assert not profile[~there].any()


def test_a_store_without_landscapes_has_profiles_of_nothing(tmp_path: Path) -> None:
    profile = tiny_store(tmp_path / "store").profile(np.arange(3), (2, 4))
    assert profile.shape == (3, 10, len(MASKS))
    assert not profile.any()
