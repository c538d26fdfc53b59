"""The prototype graph: how much each line's prototype says about another's (algorithms.md 7)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from model.environment.prototype_graph import PrototypeGraph, adjacency, convolution, page_rank, transition

TRIANGLE_AND_TAIL = torch.tensor([[0.0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 1], [0, 0, 1, 0]], dtype=torch.double)


def test_T7_1_rows_sum_to_one_and_no_spread_is_the_identity() -> None:
    step = transition(torch.rand(5, 5, dtype=torch.double).fill_diagonal_(0))
    for spread in (0.0, 0.3, 0.9):
        assert torch.allclose(page_rank(step, spread).sum(dim=1), torch.ones(5, dtype=torch.double))
    assert torch.allclose(page_rank(step, 0.0), torch.eye(5, dtype=torch.double))
    assert torch.allclose(convolution(TRIANGLE_AND_TAIL).sum(dim=1), torch.ones(4, dtype=torch.double))


def test_T7_1_full_spread_is_the_stationary_distribution() -> None:
    expected = torch.tensor([0.25, 0.25, 0.375, 0.125], dtype=torch.double)
    assert torch.allclose(TRIANGLE_AND_TAIL.sum(dim=1) / TRIANGLE_AND_TAIL.sum(), expected)
    assert torch.allclose(page_rank(transition(TRIANGLE_AND_TAIL), 1 - 1e-9), expected.expand(4, 4), atol=1e-7)


def test_T7_1_a_line_without_neighbours_keeps_its_own_prototype() -> None:
    graph = PrototypeGraph("tree", {}, 3, 2, memory=0.9, propagation="ppr", spread=0.9)
    own = torch.randn(1, 2)
    graph.observe(torch.tensor([1]), own)
    reach, smoothed, seen = graph()
    assert seen.tolist() == [False, True, False]
    assert torch.allclose(reach, torch.eye(3))
    assert torch.allclose(smoothed[1:2], own, atol=1e-6)


@pytest.mark.parametrize("propagation", ["ppr", "gcn"])
def test_T7_5_either_propagation_mixes_neighbours(propagation: Any) -> None:
    graph = PrototypeGraph("features", {}, 4, 2, 0.9, propagation, 0.5)
    graph.set_lines(list("abcd"), torch.randn(4, 3))
    graph.observe(torch.arange(4), torch.randn(4, 2))
    reach, _, _ = graph()
    assert torch.allclose(reach.sum(dim=1), torch.ones(4), atol=1e-6)
    assert (reach - torch.diag(reach.diagonal()) > 0).sum() == 12


def test_T7_5_nearer_lines_weigh_more_and_nobody_is_its_own_neighbour() -> None:
    distance = torch.tensor([[0.0, 2, 4], [2, 0, 4], [4, 4, 0]])
    assert adjacency(distance, "tree")[0].tolist() == [0.0, 0.25, 0.0625]
    assert adjacency(distance, "features")[0].tolist() == pytest.approx([0.0, math.exp(-2), math.exp(-8)])
