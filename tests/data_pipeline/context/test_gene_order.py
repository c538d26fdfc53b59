"""Where a pair stands among annotated genes."""

from __future__ import annotations

import pytest
from tiny_scenes import Stretch, scene

from data_pipeline.context.gene_order import COLUMNS, FARTHEST, gene_order

SIGNAL: list[Stretch] = [(0, 1000, 1.0)]
E, P = 1_100_000, 1_200_000
BESIDE_E, FIRST, SECOND, BEYOND, AS_FAR, FAR = E - 50_000, E + 20_000, E + 50_000, P + 30_000, P + 100_000, P + 700_000


def told(genes: list[int], mirror: bool, pair: tuple[int, int] = (E, P)) -> dict[str, float]:
    values = gene_order(scene([pair], genes, mirror, CTCF=SIGNAL))[0]
    return dict(zip([column.name for column in COLUMNS], values.tolist(), strict=True))


@pytest.mark.parametrize("mirror", [False, True])
def test_order_of_a_pair_worked_out_by_hand(mirror: bool) -> None:
    # What is exactly as far as the other element is not nearer.
    assert told([BESIDE_E, FIRST, SECOND, P, BEYOND, AS_FAR, FAR], mirror) == {
        "between": 2,
        "nearer_to_enhancer": 3,
        "nearer_to_promoter": 3,
        "gap_beyond_promoter": 30_000,
        "gap_before_promoter": 50_000,
    }


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("off", [0, 1, -1, 250, -250])
def test_the_pairs_own_gene_is_no_other_gene_though_the_annotation_has_it_some_bases_off(
    off: int, mirror: bool
) -> None:
    assert told([FIRST, P + off], mirror) == told([FIRST], mirror)


@pytest.mark.parametrize("mirror", [False, True])
def test_a_gene_further_than_that_is_another_one(mirror: bool) -> None:
    found = told([P - 251, P + 251], mirror)
    assert found["between"] == 1
    assert found["nearer_to_promoter"] == 2
    assert found["gap_beyond_promoter"] == found["gap_before_promoter"] == 251


@pytest.mark.parametrize("genes", [[], [P], [P + 2_000_000, P - 1_100_000]])
def test_no_gene_near_is_told_as_the_farthest_gap(genes: list[int]) -> None:
    found = told(genes, mirror=False)
    assert found["gap_beyond_promoter"] == found["gap_before_promoter"] == FARTHEST
    assert found["between"] == found["nearer_to_enhancer"] == found["nearer_to_promoter"] == 0


def test_an_enhancer_on_the_tss_has_nobody_nearer() -> None:
    found = told([P, FIRST], mirror=False, pair=(P, P))
    assert (found["between"], found["nearer_to_enhancer"], found["nearer_to_promoter"]) == (0, 0, 0)
