"""Cross-batch memory: the latest support codes of every training line, as constants (algorithms.md 8.5).

One ring per line, so a line's share of the memory never depends on how often other lines come up. An entry holds the
normalised code, the pair's row in the store and the step it was seen in; the row lets a user leave out a pair's own
older code. State in buffers, the same on every worker. Cost: 4 (dE + 4) bytes per entry.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.line_sums import membership

EMPTY = -1
"""Marks a slot that holds nothing yet."""


@dataclass(frozen=True)
class Remembered:
    """M entries; the invalid ones are to be ignored."""

    codes: Tensor
    """(M, d) normalised, without gradient."""
    line: Tensor
    """(M,) int64."""
    rows: Tensor
    """(M,) int64."""
    age: Tensor
    """(M,) int64, observed steps since."""
    valid: Tensor
    """(M,) bool."""


class LineMemory(nn.Module):
    """A ring of `size` entries for each of C lines."""

    codes: Tensor
    rows: Tensor
    born: Tensor
    head: Tensor
    clock: Tensor

    def __init__(self, lines: int, size: int, width: int, oldest: int) -> None:
        """An entry (width,) is valid for `oldest` observed steps after its own."""
        super().__init__()
        self.size, self.oldest = size, oldest
        self.register_buffer("codes", torch.zeros(lines, size, width))
        self.register_buffer("rows", torch.full((lines, size), EMPTY))
        self.register_buffer("born", torch.full((lines, size), EMPTY))
        self.register_buffer("head", torch.zeros(lines, dtype=torch.int64))
        self.register_buffer("clock", torch.zeros((), dtype=torch.int64))

    def recall(self) -> Remembered:
        """All entries, copies, line by line."""
        lines = torch.arange(len(self.head), device=self.head.device)
        age = self.clock - self.born.flatten()
        valid = (self.born.flatten() != EMPTY) & (age <= self.oldest)
        rows = self.rows.flatten().clone()
        return Remembered(self.codes.flatten(0, 1).clone(), lines.repeat_interleave(self.size), rows, age, valid)

    @torch.no_grad()
    def observe(self, line: Tensor, codes: Tensor, rows: Tensor) -> None:
        """Take in one step: line (N,) int64, below 0 left out, codes (N, d) normalised, rows (N,) int64.

        Within a line the order is that of the arguments; of more than `size` entries the last ones stay.
        """
        member = membership(line, len(self.head)).long()
        count, own = member.sum(dim=0), line.clamp(min=0)
        place = (member.cumsum(dim=0) - 1).gather(1, own.unsqueeze(1)).squeeze(1)
        kept = (line >= 0) & (place >= count[own] - self.size)
        own, slot = own[kept], ((self.head[own] + place) % self.size)[kept]
        self.codes[own, slot] = codes.detach()[kept].float()
        self.rows[own, slot] = rows[kept]
        self.born[own, slot] = self.clock.expand(len(own))
        self.head.copy_((self.head + count) % self.size)
        self.clock += 1
