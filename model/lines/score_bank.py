"""Memories of ranking losses: recent logits per line, and running means keyed by a pair's row number.

Both live in buffers of fixed size, hold no gradient, and depend on nothing but what the global steps brought in, so
they are saved with a checkpoint and equal on every worker. Cost: 8 kB per line for the bank, 0.5 MB for the means.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.lines.line_ring import EMPTY, LineRing


class ScoreBank(LineRing):
    """The latest labelled query logits of each training line."""

    logits: Tensor
    positive: Tensor

    def __init__(self, lines: int, size: int, oldest: int) -> None:
        """`lines` = C rings of `size` logits; a logit counts for `oldest` observed steps after its own."""
        super().__init__(lines, size, oldest, logits=torch.zeros(()), positive=torch.zeros(()))

    def forward(self, line: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For line (N,) int64: logits (N, size), positive (N, size) bool, valid (N, size) bool, all copies.

        A line below 0 has none.
        """
        own = line.clamp(min=0)
        return self.logits[own], self.positive[own] > 0.5, self.valid()[own] & (line >= 0).unsqueeze(1)

    def observe(self, line: Tensor, logits: Tensor, positive: Tensor, known: Tensor) -> None:
        """Take in one step: line (N,) int64, logits (N,), positive (N,) bool; where `known` (N,) is false, nothing."""
        self.keep(torch.where(known, line, EMPTY), logits=logits, positive=positive)


class KeyedMeans(nn.Module):
    """Exponential means of small vectors, one per key, in a table that forgets a key when another needs its slot.

    A key's slot is its remainder by the table's size: keys below `size` never collide. A key that is new, or was
    forgotten, starts at its first value.
    """

    keys: Tensor
    means: Tensor

    def __init__(self, size: int, width: int) -> None:
        """`size` slots of (width,) means."""
        super().__init__()
        self.register_buffer("keys", torch.full((size,), EMPTY))
        self.register_buffer("means", torch.zeros(size, width))

    @torch.no_grad()
    def forward(self, keys: Tensor, values: Tensor, rate: float) -> tuple[Tensor, Tensor]:
        """Means (N, width) of keys (N,) int64 after `rate` of values (N, width) is taken in, and which were known (N,).

        Nothing is kept before `observe`.
        """
        slot = keys % len(self.keys)
        known = self.keys[slot] == keys
        mixed = (1 - rate) * self.means[slot] + rate * values.detach()
        return torch.where(known.unsqueeze(1), mixed, values.detach()), known

    @torch.no_grad()
    def observe(self, keys: Tensor, means: Tensor, kept: Tensor) -> None:
        """Keep means (N, width) of keys (N,) where `kept` (N,) bool; of several for one slot, the last."""
        size, order = len(self.keys), torch.arange(1, len(keys) + 1, device=keys.device)
        slot = keys % size
        last = torch.zeros(size, dtype=order.dtype, device=keys.device)
        last.scatter_reduce_(0, slot, order * kept, reduce="amax")
        written = last > 0
        winner = (last - 1).clamp(min=0)
        self.keys.copy_(torch.where(written, keys[winner], self.keys))
        self.means.copy_(torch.where(written.unsqueeze(1), means[winner], self.means))
