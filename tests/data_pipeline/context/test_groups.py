"""All groups of context columns at once: what none of them may depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_scenes import random_scene

from data_pipeline.context.groups import GROUPS, column_names, context_columns
from data_pipeline.context.names import GROUP_NAMES, MARKS, NEED_GENES
from data_pipeline.store.track_names import assays_of, group_of

NAMES = column_names(GROUP_NAMES)


def test_groups_stand_in_the_order_of_their_names_and_columns_have_names_of_their_own() -> None:
    assert tuple(GROUPS) == GROUP_NAMES
    assert len(set(NAMES)) == len(NAMES) == 18 + 5 + 16 + 85 + 4
    assert column_names(["order", "activity"])[:2] == ["order/between", "order/nearer_to_enhancer"]


def test_names_say_the_group_and_the_assays_they_need() -> None:
    columns = [(group, column) for group in GROUPS for column in GROUPS[group].columns]
    for (group, column), name in zip(columns, NAMES, strict=True):
        assert group_of(f"context:{name}") == group
        assert assays_of(f"context:{name}") == column.assays
        assert set(column.assays) <= set(MARKS)


@pytest.mark.parametrize("seed", range(3))
def test_a_pair_read_from_the_other_end_of_the_chromosome_is_the_same_pair(seed: int) -> None:
    found, mirrored = (
        context_columns(random_scene(seed, mirror=mirror), GROUP_NAMES, MARKS) for mirror in (False, True)
    )
    assert len(found) > 10
    np.testing.assert_allclose(mirrored, found, rtol=1e-5, atol=1e-5)
    # And not because nothing is told.
    assert [NAMES[column] for column in np.flatnonzero(np.ptp(found, axis=0) == 0)] == []


def test_a_pair_does_not_depend_on_which_other_pairs_there_are_nor_on_their_order() -> None:
    whole = random_scene(5)
    expected = context_columns(whole, GROUP_NAMES, MARKS)
    rows = np.random.default_rng(0).permutation(len(expected))[:9]
    np.testing.assert_array_equal(context_columns(whole.take(rows), GROUP_NAMES, MARKS), expected[rows])
    for size in ({"chunk": 4}, {"cells": 150}, {"cells": 1}):
        np.testing.assert_array_equal(context_columns(whole, GROUP_NAMES, MARKS, **size), expected)


@pytest.mark.parametrize("missing", MARKS)
def test_a_missing_assay_is_missing_in_the_columns_that_need_it_and_changes_no_other(missing: str) -> None:
    whole = random_scene(7)
    expected = context_columns(whole, GROUP_NAMES, MARKS)
    integral = whole.landscape.integral.copy()
    integral[:, MARKS.index(missing)] = 0.0
    less = replace(whole, landscape=replace(whole.landscape, integral=integral))
    found = context_columns(less, GROUP_NAMES, set(MARKS) - {missing})
    needs = np.array([missing in assays_of(f"context:{name}") for name in NAMES])
    assert needs.any() or missing == "H3K4me1"
    assert np.isnan(found[:, needs]).all()
    np.testing.assert_array_equal(found[:, ~needs], expected[:, ~needs])


def test_the_groups_that_need_genes_are_those_that_change_with_them() -> None:
    whole = random_scene(9)
    other = replace(whole, genes=whole.genes[::3])
    changed = {
        group
        for group in GROUP_NAMES
        if (context_columns(whole, [group], MARKS) != context_columns(other, [group], MARKS)).any()
    }
    assert changed == set(NEED_GENES)


def test_a_chromosome_without_genes_or_pairs_has_its_columns() -> None:
    whole = random_scene(11)
    bare = replace(whole, genes=np.empty(0, np.int64))
    assert np.isfinite(context_columns(bare, GROUP_NAMES, MARKS)).all()
    assert context_columns(whole.take(np.empty(0, np.int64)), GROUP_NAMES, MARKS).shape == (0, len(NAMES))
