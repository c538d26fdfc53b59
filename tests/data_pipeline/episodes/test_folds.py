"""Folds: lines and stretches of genome that are left out really are left out."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_training import tiny_fold, tiny_store

from data_pipeline.episodes.folds import STRADDLES, ZONES, Fold
from data_pipeline.errors import UserError
from data_pipeline.store.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("folds") / "store")


@pytest.fixture(scope="module")
def many_chromosomes(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("folds") / "store", "chromosomes=8")


def zone_by_hand(fold: Fold, chrom: str, middle: float) -> int:
    for code, zone in enumerate(ZONES):
        for region in fold.regions[zone]:
            name, _, stretch = region.partition(":")
            start, end = (int(edge) for edge in stretch.split("-")) if stretch else (0, 1 << 60)
            if name == chrom and start <= middle < end:
                return code
    return ZONES.index("train")


def zones_by_hand(store: Store, fold: Fold) -> list[int]:
    zones: dict[str, list[int]] = {}
    for kind, table in (("enhancer", store.enhancers), ("promoter", store.promoters)):
        places = zip(table.chrom.tolist(), table.start.tolist(), table.end.tolist(), strict=True)
        zones[kind] = [zone_by_hand(fold, table.chrom_names[c], (start + end) // 2) for c, start, end in places]
    sides = zip(store.pairs.enhancer.tolist(), store.pairs.promoter.tolist(), strict=True)
    both = [(zones["enhancer"][enhancer], zones["promoter"][promoter]) for enhancer, promoter in sides]
    return [one if one == other else STRADDLES for one, other in both]


def elements(store: Store, rows: Iterable[int]) -> tuple[set[int], set[int]]:
    rows = np.array(list(rows), dtype=np.int64)
    return set(store.pairs.enhancer[rows].tolist()), set(store.pairs.promoter[rows].tolist())


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 999), block=st.sampled_from([250_000, 1_000_000, 5_000_000]), share=st.floats(0, 0.4))
def test_a_pair_is_in_the_zone_both_of_its_elements_are_in_or_nowhere(
    store: Store, seed: int, block: int, share: float
) -> None:
    fold = tiny_fold(store, seed=seed, block=block, test_fraction=share, valid_fraction=share / 2)
    assert fold.zone.tolist() == zones_by_hand(store, fold)


def test_zones_share_no_element(store: Store) -> None:
    fold = tiny_fold(store)
    parts = [
        elements(store, np.concatenate([fold.rows(store, line, zone) for line in store.lines]).tolist())
        for zone in ZONES
    ]
    for one in range(3):
        for other in range(one):
            assert not parts[one][0] & parts[other][0]
            assert not parts[one][1] & parts[other][1]


def test_pairs_between_two_zones_are_in_no_zone(store: Store) -> None:
    fold = tiny_fold(store, block=250_000)
    straddling = np.flatnonzero(fold.zone == STRADDLES)
    used = np.concatenate([fold.rows(store, line, zone) for line in store.lines for zone in ZONES])
    assert len(straddling) > 0
    assert not set(straddling.tolist()) & set(used.tolist())
    assert len(straddling) + len(used) == len(store.pairs)
    assert len(np.unique(used)) == len(used)


def test_rows_of_a_line_are_that_line_only(store: Store) -> None:
    fold = tiny_fold(store)
    for index, line in enumerate(store.lines):
        assert (store.pairs.line[fold.rows(store, line)] == index).all()


def test_training_lines_are_all_lines_but_test_and_validation_in_the_stores_order(store: Store) -> None:
    assert tiny_fold(store, test_line="sim1", valid_line="sim3").train_lines == ("sim2", "sim4")
    assert tiny_fold(store, train_lines=["sim2", "sim1"]).train_lines == ("sim1", "sim2")


def test_a_store_of_few_chromosomes_is_held_out_in_blocks(store: Store) -> None:
    fold = tiny_fold(store, block=500_000)
    for zone in ("valid", "test"):
        assert fold.regions[zone]  # type: ignore[index]
        for region in fold.regions[zone]:  # type: ignore[index]
            start, end = (int(edge) for edge in region.partition(":")[2].split("-"))
            assert end - start == 500_000
            assert start % 500_000 == 0


def test_a_store_of_many_chromosomes_is_held_out_in_whole_chromosomes(many_chromosomes: Store) -> None:
    fold = tiny_fold(many_chromosomes)
    held_out = [*fold.regions["valid"], *fold.regions["test"]]
    assert fold.regions["valid"]
    assert fold.regions["test"]
    assert set(held_out) <= set(many_chromosomes.manifest.chroms)
    assert len(set(held_out)) == len(held_out)
    assert not (fold.zone == STRADDLES).any()


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.4])
def test_the_test_zone_holds_the_asked_share_of_pairs_and_not_much_more(
    many_chromosomes: Store, fraction: float
) -> None:
    for seed in range(10):
        fold = tiny_fold(many_chromosomes, test_fraction=fraction, valid_fraction=0, seed=seed)
        assert fraction <= (fold.zone == ZONES.index("test")).mean() <= 2.5 * fraction


def test_without_fractions_nothing_is_held_out(store: Store) -> None:
    fold = tiny_fold(store, test_fraction=0, valid_fraction=0)
    assert (fold.zone == ZONES.index("train")).all()
    assert fold.choosing_zone == "train"


def test_named_regions_are_taken_as_named(store: Store) -> None:
    fold = tiny_fold(store, test_regions=["chr2"], valid_regions=["chr1:0-3000000"])
    assert fold.regions == {"train": (), "valid": ("chr1:0-3000000",), "test": ("chr2",)}
    assert fold.choosing_zone == "valid"
    assert fold.zone.tolist() == zones_by_hand(store, fold)
    assert (fold.zone == ZONES.index("test")).any()


def test_chosen_stretches_keep_clear_of_named_ones(store: Store) -> None:
    for seed in range(5):
        fold = tiny_fold(store, valid_regions=["chr1:1500000-2200000"], seed=seed)
        assert not any(region.startswith(("chr1:1000000-", "chr1:2000000-")) for region in fold.regions["test"])


def test_equal_settings_give_equal_folds_and_other_seeds_other_ones(store: Store) -> None:
    first, again, other = tiny_fold(store), tiny_fold(store), tiny_fold(store, seed=3)
    assert first.identity == again.identity
    assert (first.zone == again.zone).all()
    assert first.identity != other.identity


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_line": "K562"}, r"has no cell line 'K562'; it has sim1, sim2, sim3, sim4"),
        ({"train_lines": ["sim1", "HeLa"]}, r"has no cell line 'HeLa'"),
        ({"test_line": ""}, r"fold\.test_line is not set; choose one of sim1, sim2, sim3, sim4"),
        ({"valid_line": ""}, r"fold\.valid_line is not set"),
        ({"valid_line": "sim4"}, r"'sim4' cannot be both the test and the validation line; choose another"),
        ({"train_lines": ["sim1", "sim3"]}, r"'sim3' is left out by this fold and cannot also be in fold\.train_lines"),
        ({"test_regions": ["chr9"]}, r"region 'chr9' is not on a chromosome of the store \(chr1, chr2, chr3, chr4\)"),
        ({"test_regions": ["chr1:5-"]}, r"region 'chr1:5-' is not on a chromosome .* write chr1 or chr1:0-5000000"),
        ({"test_regions": ["chr1:9000-8000"]}, r"region 'chr1:9000-8000' ends before it starts"),
        ({"test_regions": ["chr1:0-10"]}, r"region 'chr1:0-10' holds no element of the store"),
        ({"test_regions": ["chr1"], "valid_regions": ["chr1:0-4000000"]}, r"fold\.test_regions and .* overlap"),
    ],
)
def test_what_cannot_be_a_fold_is_one_sentence(store: Store, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny_fold(store, **changes)


def test_a_store_of_two_lines_has_nothing_to_train_on(store: Store) -> None:
    with pytest.raises(UserError, match=r"'sim1' is left out by this fold"):
        tiny_fold(store, test_line="sim1", train_lines=["sim1"])


WITHIN = {"within_line": True, "test_line": "sim1", "valid_line": "sim1", "train_lines": ["sim1"]}


def test_one_line_may_be_trained_on_chosen_with_and_judged_where_stretches_lie_between(many_chromosomes: Store) -> None:
    fold = tiny_fold(many_chromosomes, **WITHIN)
    assert (fold.train_lines, fold.valid_line, fold.test_line) == (("sim1",), "sim1", "sim1")
    rows = [fold.rows(many_chromosomes, "sim1", zone) for zone in ZONES]
    assert all(len(part) for part in rows)
    assert len(np.unique(np.concatenate(rows))) == sum(map(len, rows))
    assert [fold.quadrant("sim1", zone) for zone in ZONES] == ["seen_line/seen_chrom", *["seen_line/unseen_chrom"] * 2]
    assert fold.quadrant("sim2", "test") == "unseen_line/unseen_chrom"


def test_a_fold_within_lines_trains_on_all_lines_unless_some_are_named(many_chromosomes: Store) -> None:
    fold = tiny_fold(many_chromosomes, **WITHIN | {"train_lines": []})
    assert fold.train_lines == tuple(many_chromosomes.lines)


@pytest.mark.parametrize("zone", ["test", "valid"])
def test_a_line_is_not_judged_where_it_was_trained(many_chromosomes: Store, zone: str) -> None:
    with pytest.raises(UserError, match=rf"'sim1' is trained on and is the {zone} line too.*fold\.{zone}_regions"):
        tiny_fold(many_chromosomes, **WITHIN | {f"{zone}_fraction": 0})


def test_a_fold_keeps_its_identity_when_lines_are_left_out(store: Store) -> None:
    # Checkpoints and plans carry it: a changed identity would make every run of before unresumable.
    named = {"test_regions": ["chr2"], "valid_regions": ["chr1:0-3000000"]}
    assert (
        tiny_fold(store, **named).identity
        == tiny_fold(store, **named, within_line=True, train_lines=["sim1", "sim2"]).identity
    )
