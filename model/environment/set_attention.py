"""Attention over a support set: pooling to one code, and a pair's own look at the set.

Everything is batched as (E, m, width), so no attention can cross an episode; there is no mask to get wrong. Without
positions and with softmax weights, neither the order of the set nor giving it twice changes anything (T6.1, T6.2).
Sources: Lee et al. 2019 (Set Transformer: MAB, ISAB, PMA; scores here are divided by the root of the head's width, not
of the whole), Kim et al. 2019 (attentive neural processes). Cost: O(m) per episode for pooling, O(n m) for the look.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.layers import mlp


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Multi-head attention without projections: (E, n, width), (E, m, width), (E, m, width) -> (E, n, width)."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class AttentionPooling(nn.Module):
    """Weighted mean of the codes, softmax(q^T k_i / sqrt d), one set of weights per head and slice of the width."""

    def __init__(self, width: int, heads: int) -> None:
        """`width` is a multiple of `heads`."""
        super().__init__()
        self.heads = heads
        self.key = nn.Linear(width, width)
        self.seed = nn.Parameter(torch.randn(1, 1, width))

    def forward(self, codes: Tensor) -> Tensor:
        """(E, m, width) -> (E, width), inside the codes' range in every dimension."""
        query = self.seed.expand(len(codes), -1, -1)
        return attend(query, self.key(codes), codes, self.heads).squeeze(1)


class AttentionBlock(nn.Module):
    """MAB: x attends to y, then a feed-forward layer, each with a residual and a norm over the width."""

    def __init__(self, width: int, heads: int) -> None:
        """`width` is a multiple of `heads`."""
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.feed = mlp([width, 2 * width, width])
        self.feed_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x (E, a, width), y (E, b, width) -> (E, a, width)."""
        key, value = self.key_value(y).chunk(2, dim=-1)
        x = self.norm(x + self.output(attend(self.query(x), key, value, self.heads)))
        return self.feed_norm(x + self.feed(x))


class InducedPooling(nn.Module):
    """ISAB and PMA: pairs see each other through a few inducing points, then one seed reads the set."""

    def __init__(self, width: int, heads: int, inducing: int) -> None:
        """`width` is a multiple of `heads`; `inducing` points."""
        super().__init__()
        self.inducing = nn.Parameter(torch.randn(1, inducing, width))
        self.seed = nn.Parameter(torch.randn(1, 1, width))
        self.gather = AttentionBlock(width, heads)
        self.spread = AttentionBlock(width, heads)
        self.pool = AttentionBlock(width, heads)
        self.output = nn.Linear(width, width)

    def forward(self, codes: Tensor) -> Tensor:
        """(E, m, width) -> (E, width)."""
        episodes = len(codes)
        points = self.gather(self.inducing.expand(episodes, -1, -1), codes)
        seen = self.spread(codes, points)
        return self.output(self.pool(self.seed.expand(episodes, -1, -1), seen)).squeeze(1)


class QueryAttention(nn.Module):
    """a(c, x): what the support pairs most like the query pair say, an environment of the pair's own."""

    def __init__(self, width: int, heads: int, outputs: int) -> None:
        """`width` of the codes is a multiple of `heads`; `outputs` numbers per query pair."""
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, outputs)

    def forward(self, query: Tensor, support: Tensor) -> Tensor:
        """Codes of the query pairs (E, n, width) and of the support pairs (E, m > 0, width) -> (E, n, outputs)."""
        key, value = self.key_value(support).chunk(2, dim=-1)
        return self.output(attend(self.query(query), key, value, self.heads))
