"""Cross-batch memory: the latest entries of every training line, as constants (algorithms.md 8.5).

One ring per line, so a line's share of the memory never depends on how often other lines come up. What an entry holds
is up to whoever remembers: support codes and their pairs here, logits and labels in `score_bank`. State in buffers,
which depend on nothing but what the global steps brought in: saved with a checkpoint and the same on every worker.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.lines.line_sums import membership

EMPTY = -1
"""Marks a slot that holds nothing yet."""


class LineRing(nn.Module):
    """A ring of `size` entries for each of C lines, with the step each was seen in."""

    born: Tensor
    head: Tensor
    clock: Tensor

    def __init__(self, lines: int, size: int, oldest: int, **blank: Tensor) -> None:
        """An entry counts for `oldest` observed steps after its own; `blank` is what an empty slot holds, by name.

        Each name becomes a buffer (C, size, ...) of the blank's shape and type.
        """
        super().__init__()
        self.size, self.oldest, self.names = size, oldest, tuple(blank)
        for name, value in blank.items():
            self.register_buffer(name, value.repeat(lines, size, *[1] * value.dim()))
        self.register_buffer("born", torch.full((lines, size), EMPTY))
        self.register_buffer("head", torch.zeros(lines, dtype=torch.int64))
        self.register_buffer("clock", torch.zeros((), dtype=torch.int64))

    def age(self) -> Tensor:
        """(C, size) int64, observed steps since each entry's own."""
        return self.clock - self.born

    def valid(self) -> Tensor:
        """(C, size) bool, slots that are filled and young enough."""
        return (self.born != EMPTY) & (self.age() <= self.oldest)

    @torch.no_grad()
    def keep(self, line: Tensor, **values: Tensor) -> None:
        """Take in one step: line (N,) int64, below 0 left out, and values (N, ...) of every name.

        Within a line the order is that of the arguments; of more than `size` entries the last ones stay.
        """
        member = membership(line, len(self.head)).long()
        count, own = member.sum(dim=0), line.clamp(min=0)
        place = (member.cumsum(dim=0) - 1).gather(1, own.unsqueeze(1)).squeeze(1)
        kept = (line >= 0) & (place >= count[own] - self.size)
        own, slot = own[kept], ((self.head[own] + place) % self.size)[kept]
        for name in self.names:
            buffer = self.get_buffer(name)
            buffer[own, slot] = values[name].detach()[kept].to(buffer.dtype)
        self.born[own, slot] = self.clock.expand(len(own))
        self.head.copy_((self.head + count) % self.size)
        self.clock += 1


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


class LineMemory(LineRing):
    """The latest support codes of each line.

    An entry holds the normalised code and the pair's row in the store, which lets a user leave out a pair's own older
    code. Cost: 4 (dE + 4) bytes per entry.
    """

    codes: Tensor
    rows: Tensor

    def __init__(self, lines: int, size: int, width: int, oldest: int) -> None:
        """`lines` = C rings of `size` codes (width,); a code is valid for `oldest` observed steps after its own."""
        super().__init__(lines, size, oldest, codes=torch.zeros(width), rows=torch.tensor(EMPTY))

    def recall(self) -> Remembered:
        """All entries, copies, line by line."""
        lines = torch.arange(len(self.head), device=self.head.device).repeat_interleave(self.size)
        codes, rows = self.codes.flatten(0, 1).clone(), self.rows.flatten().clone()
        return Remembered(codes, lines, rows, self.age().flatten(), self.valid().flatten())

    def observe(self, line: Tensor, codes: Tensor, rows: Tensor) -> None:
        """Take in one step: line (N,) int64, below 0 left out, codes (N, d) normalised, rows (N,) int64."""
        self.keep(line, codes=codes, rows=rows)
