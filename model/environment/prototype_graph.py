"""The graph of cell lines, and each line's prototype smoothed over the lines like it (algorithms.md 7).

Nodes are the training lines, P_c the running mean of a line's pooled support codes. Weights fall with the distance of
the lines' features, e^(-d^2/2) with d in medians, or in the tree of tissues, 2^-d, or are all the same. Pi is
personalised PageRank, (1-a)(I - a P~)^-1, or two graph convolutions with self-loops; its rows sum to 1, and M = Pi P.
Lines not yet seen are nobody's neighbour. No parameters; weights and prototypes are buffers.
Cost: one (C, C) solve per call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from model.lines import Kind, LineMeans, RelatedLines, Relation, related

Propagation = Literal["ppr", "gcn"]


def adjacency(distance: Tensor, kind: Kind) -> Tensor:
    """(C, C) weights of at least 0 with a zero diagonal, from distances (C, C)."""
    weights = torch.exp2(-distance) if kind == "tree" else torch.exp(-distance.square() / 2)
    return weights - torch.diag(weights.diagonal())


def transition(weights: Tensor) -> Tensor:
    """(C, C) rows of weights (C, C) divided by their sums; a node without neighbours stays where it is."""
    degree = weights.sum(dim=1, keepdim=True)
    alone = torch.eye(len(weights), device=weights.device, dtype=weights.dtype)
    return torch.where(degree > 0, weights / degree.clamp(min=torch.finfo(weights.dtype).tiny), alone)


def page_rank(step: Tensor, spread: float) -> Tensor:
    """(1-a)(I - a P~)^-1 of a transition matrix (C, C), a = `spread` in [0, 1): where a walk that restarts ends up."""
    identity = torch.eye(len(step), device=step.device, dtype=step.dtype)
    return (1 - spread) * torch.linalg.inv(identity - spread * step)


def convolution(weights: Tensor) -> Tensor:
    """(C, C) two rounds of averaging over oneself and one's neighbours."""
    step = transition(weights + torch.eye(len(weights), device=weights.device, dtype=weights.dtype))
    return step @ step


class PrototypeGraph(RelatedLines):
    """Prototypes of C lines and their propagation."""

    weights: Tensor

    def __init__(
        self,
        relation: Relation,
        tissues: dict[str, str],
        lines: int,
        width: int,
        memory: float,
        propagation: Propagation,
        spread: float,
    ) -> None:
        """`width` of a prototype, `memory` of its running mean, `spread` = a of `ppr`."""
        super().__init__()
        self.relation, self.tissues = relation, tissues
        self.propagation, self.spread = propagation, spread
        self.register_buffer("weights", 1.0 - torch.eye(lines))
        self.prototypes = LineMeans(lines, width, memory)

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pi (C, C), M (C, width) and the lines seen (C,) bool; all without gradient."""
        prototypes, seen = self.prototypes()
        both = (seen.unsqueeze(0) & seen.unsqueeze(1)).to(prototypes.dtype)
        weights = self.weights * both
        if self.propagation == "ppr":
            # In float64, because a close to 1 makes the system nearly singular.
            reach = page_rank(transition(weights.double()), self.spread).to(prototypes.dtype)
        else:
            reach = convolution(weights)
        return reach, reach @ prototypes, seen

    def set_lines(self, names: Sequence[str], features: Tensor) -> None:
        """See `RelatedLines`."""
        kind, distance = related(self.relation, self.tissues, names, features)
        self.weights.copy_(adjacency(distance, kind))

    def observe(self, line: Tensor, pooled: Tensor) -> None:
        """Take in pooled codes (E, width) of episodes of lines (E,) int64, below 0 left out."""
        self.prototypes.observe(line, pooled)
