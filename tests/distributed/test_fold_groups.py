"""The groups a fold is judged on: each pair of a line in one role, called what training saw of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_training import tiny_fold, tiny_store

from data_pipeline.store.store import Store
from distributed.fold_evaluation import groups_of


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(Path(tmp_path_factory.mktemp("groups")) / "store", "chromosomes=8")


def test_lines_left_out_are_unseen_and_training_lines_seen(store: Store) -> None:
    groups = groups_of(store, tiny_fold(store, train_lines=["sim1"]), 100_000)
    assert [(group.line, group.role, group.quadrant) for group in groups] == [
        ("sim4", "test", "unseen_line/unseen_chrom"),
        ("sim4", "test", "unseen_line/seen_chrom"),
        ("sim3", "valid", "unseen_line/unseen_chrom"),
        ("sim1", "test", "seen_line/unseen_chrom"),
        ("sim1", "train", "seen_line/seen_chrom"),
    ]


def test_without_validation_stretches_the_validation_line_is_judged_on_seen_chromosomes(store: Store) -> None:
    groups = groups_of(store, tiny_fold(store, valid_fraction=0), 100_000)
    assert [group.quadrant for group in groups if group.role == "valid"] == ["unseen_line/seen_chrom"]


def test_a_fold_within_one_line_calls_it_seen_in_every_role_and_tests_no_training_pair(store: Store) -> None:
    fold = tiny_fold(store, within_line=True, test_line="sim1", valid_line="sim1", train_lines=["sim1"])
    groups = groups_of(store, fold, 100_000)
    assert [(group.role, group.quadrant) for group in groups] == [
        ("test", "seen_line/unseen_chrom"),
        ("valid", "seen_line/unseen_chrom"),
        ("train", "seen_line/seen_chrom"),
    ]
    assert len({int(row) for group in groups for row in group.rows}) == sum(len(group.rows) for group in groups)
