"""From the tokens of an enhancer and of a promoter to the features of the pair.

Tokens of the two elements attend to each other; there is no positional encoding, so a flip of either element changes
only the order of its tokens, and attention pooling removes that order. Masked tokens are never attended to; an element
without any known base contributes zero vectors. Cost: a few copies of (B, T, width) activations per layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.layers import mlp


def attendable(mask: Tensor) -> Tensor:
    """(B, T) bool -> (B, T) bool: the mask, or all true where it is empty, so that no softmax runs over nothing."""
    return mask | ~mask.any(dim=-1, keepdim=True)


class CrossAttention(nn.Module):
    """One layer in which each element's tokens attend to the other element's, followed by a feed-forward layer."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        """Both directions share the weights; `width` is a multiple of `heads`."""
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.feed = nn.Sequential(nn.LayerNorm(width), mlp([width, 2 * width, width]))
        self.dropout = nn.Dropout(dropout)

    def forward(self, enhancer: Tensor, promoter: Tensor, keep: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """enhancer (B, Te, width), promoter (B, Tp, width), keep: their masks (B, T) bool -> both, updated."""
        q_e, k_e, v_e = self._split(enhancer)
        q_p, k_p, v_p = self._split(promoter)
        return (
            self._update(enhancer, q_e, k_p, v_p, keep[0], keep[1]),
            self._update(promoter, q_p, k_e, v_e, keep[1], keep[0]),
        )

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, tokens, _ = x.shape
        q, k, v = self.project(self.norm(x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return q, k, v

    def _update(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, own: Tensor, other: Tensor) -> Tensor:
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=attendable(other)[:, None, None])
        x = x + self.dropout(self.output(seen.transpose(1, 2).flatten(2)))
        return (x + self.dropout(self.feed(x))) * own.unsqueeze(-1)


class AttentionPool(nn.Module):
    """Weighted mean over tokens, with one set of weights per head and slice of the width."""

    def __init__(self, width: int, heads: int) -> None:
        """`width` is a multiple of `heads`."""
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.relevance = nn.Linear(width, heads)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, T, width), mask (B, T) bool -> (B, width); zero where the mask is empty."""
        x = self.norm(x) * mask.unsqueeze(-1)
        weight = self.relevance(x).masked_fill(~attendable(mask).unsqueeze(-1), float("-inf")).softmax(dim=1)
        slices = x.unflatten(-1, (self.heads, -1))
        return (weight.unsqueeze(-1) * slices).sum(dim=1).flatten(1)


class PairEncoder(nn.Module):
    """Joint attention, pooling and the combination [e, p, e p, |e - p|] of a pair, followed by e and p themselves.

    The combination learns what makes a pair interact and may forget the rest; which elements a line uses, and so its
    environment, is read off e and p.
    """

    def __init__(self, width: int, layers: int, heads: int, dropout: float) -> None:
        """`layers` rounds of attention."""
        super().__init__()
        self.layers = nn.ModuleList(CrossAttention(width, heads, dropout) for _ in range(layers))
        self.pool = AttentionPool(width, heads)
        self.combine = mlp([4 * width, width, width], dropout)

    def forward(self, enhancer: Tensor, enhancer_mask: Tensor, promoter: Tensor, promoter_mask: Tensor) -> Tensor:
        """Tokens (B, Te, width) and (B, Tp, width) with masks (B, T) bool -> pair features (B, 3 width)."""
        for layer in self.layers:
            enhancer, promoter = layer(enhancer, promoter, (enhancer_mask, promoter_mask))
        e, p = self.pool(enhancer, enhancer_mask), self.pool(promoter, promoter_mask)
        combined = self.combine(torch.cat([e, p, e * p, (e - p).abs()], dim=-1))
        return torch.cat([combined, e, p], dim=-1)
