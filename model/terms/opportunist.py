"""The opportunist: a resistance guessed from shortcuts of the query pair alone (algorithms.md 7).

It sees base composition, distance and the trunk's features as constants, no support set and no line. It learns from its
own cross-entropy with U_I as a constant, and nothing else learns from that. Where it predicts a line's query better
than the student, the student has not used its support set.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_pipeline.dna import one_hot_table
from data_pipeline.episodes import EpisodeBatch
from model.features import DISTANCE_WIDTH, distance_features
from model.layers import mlp

COMPOSITION_WIDTH = 32
"""Numbers of a pair's composition: sixteen dinucleotides of each element."""


class Opportunist(nn.Module):
    """R_O(x) of query pairs."""

    table: Tensor

    def __init__(self, features: int, hidden: int) -> None:
        """`features`: how many of a pair's features it may see, the ones U_I reads; `hidden` units."""
        super().__init__()
        self.features = features
        self.guess = mlp([COMPOSITION_WIDTH + DISTANCE_WIDTH + features, hidden, 1])
        self.register_buffer("table", torch.from_numpy(one_hot_table()).reshape(256, 8), persistent=False)

    def forward(self, composition: Tensor, distance: Tensor, h: Tensor) -> Tensor:
        """(E, n) from composition (E, n, 32), distance (E, n) bp and h (E, n, d), which gets no gradient."""
        seen = h.detach()[..., : self.features]
        inputs = torch.cat([composition, distance_features(distance), seen], dim=-1)
        return self.guess(inputs).squeeze(-1)

    @torch.no_grad()
    def composition(self, batch: EpisodeBatch) -> Tensor:
        """(E, n, 32) dinucleotides of the query pairs' elements; zero where the store has no sequences."""
        query = slice(batch.support, None)
        enhancers, promoters = self._dinucleotides(batch.enhancer_packed), self._dinucleotides(batch.promoter_packed)
        return torch.cat([enhancers[batch.enhancer[:, query]], promoters[batch.promoter[:, query]]], dim=-1)

    def _dinucleotides(self, packed: Tensor) -> Tensor:
        """(U, 16) frequencies over both strands, relative to equal ones; 0 without a known base."""
        bases = F.embedding(packed.int(), self.table).view(len(packed), -1, 4)
        counts = bases[:, :-1].transpose(1, 2) @ bases[:, 1:]
        # A and T, C and G are mirror images in the channel order.
        counts = counts + counts.transpose(1, 2).flip(1, 2)
        total = counts.sum(dim=(1, 2), keepdim=True)
        return torch.where(total > 0, 16 * counts / total.clamp(min=1.0) - 1, torch.zeros_like(counts)).flatten(1)
