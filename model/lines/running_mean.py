"""Means that training keeps: state in buffers, so saved, equal on all workers, and changed in no other way."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SMALLEST = 1e-3
"""Deviation below which a dimension counts as constant."""


class RunningMean(nn.Module):
    """Exact mean of the first observations, exponential mean later; state in buffers, so saved and equal everywhere."""

    mean: Tensor
    count: Tensor

    def __init__(self, width: int, memory: float) -> None:
        """Mean of (width,) vectors; zero before the first observation."""
        super().__init__()
        self.memory = memory
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("count", torch.zeros(()))

    def forward(self) -> Tensor:
        """The current mean (width,), a copy that a later `observe` cannot change."""
        return self.mean.clone()

    @torch.no_grad()
    def observe(self, values: Tensor) -> None:
        """Take in the mean of `values` (..., width)."""
        self.count += 1
        rate = torch.clamp(1 / self.count, min=1 - self.memory)
        self.mean += rate * (values.detach().flatten(0, -2).mean(dim=0) - self.mean)


class RunningScale(nn.Module):
    """Brings vectors to mean 0 and deviation 1 over what was observed; a fixed affine map to any one step."""

    def __init__(self, width: int, memory: float, limit: float = 5.0) -> None:
        """For (width,) vectors; results are clipped to `limit` deviations. The identity before any observation."""
        super().__init__()
        self.limit = limit
        self.first, self.second = RunningMean(width, memory), RunningMean(width, memory)

    def forward(self, values: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        mean = self.first()
        deviation = (self.second() - mean.square()).clamp(min=SMALLEST**2).sqrt()
        scaled = ((values - mean) / deviation).clamp(-self.limit, self.limit)
        return torch.where(self.first.count > 0, scaled, values)

    def observe(self, values: Tensor) -> None:
        """Take in `values` (..., width)."""
        self.first.observe(values)
        self.second.observe(values.square())


class LineMeans(nn.Module):
    """One running mean per training line."""

    mean: Tensor
    count: Tensor

    def __init__(self, lines: int, width: int, memory: float) -> None:
        """`lines` (C) means of (width,) vectors; zero, with count 0, for a line never observed."""
        super().__init__()
        self.memory = memory
        self.register_buffer("mean", torch.zeros(lines, width))
        self.register_buffer("count", torch.zeros(lines))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Copies of the means (C, width) and of which lines have one (C,) bool."""
        return self.mean.clone(), self.count > 0

    @torch.no_grad()
    def observe(self, line: Tensor, values: Tensor) -> None:
        """Take in `values` (E, width) of the lines `line` (E,) int64; an episode of no training line (-1) is left out.

        Several episodes of one line count once, by their mean.
        """
        # A product with the membership matrix, because scattered sums have no fixed order on a GPU.
        member = (line.unsqueeze(0) == torch.arange(len(self.count), device=line.device).unsqueeze(1)).to(values.dtype)
        episodes = member.sum(dim=1)
        seen = episodes > 0
        self.count += seen
        rate = torch.where(seen, torch.clamp(1 / self.count.clamp(min=1), min=1 - self.memory), 0.0)
        means = member @ values.detach() / episodes.clamp(min=1).unsqueeze(1)
        self.mean += rate.unsqueeze(1) * (means - self.mean)
