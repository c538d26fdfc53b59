"""Averages per cell line of what a step's episodes hold, with shapes that do not depend on which lines are present.

Every training line has its row, present or not; lines below 0 (not trained on) are in none. Cost: one (N, C) product.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def membership(line: Tensor, lines: int) -> Tensor:
    """(N, C) float32, 1 where line (N,) int64 is the column; all 0 for a line below 0."""
    return F.one_hot(line.clamp(min=0), lines).float() * (line >= 0).float().unsqueeze(1)


def line_means(values: Tensor, weight: Tensor, line: Tensor, lines: int) -> tuple[Tensor, Tensor]:
    """Weighted means (C, ...) of values (N, ...) by line (N,), and which lines (C,) bool have any weight.

    weight (N,) is at least 0; a line without weight has mean 0.
    """
    share = membership(line, lines).to(values.dtype) * weight.unsqueeze(1)
    total = share.sum(dim=0)
    sums = (share.T @ values.reshape(len(values), -1)).view(lines, *values.shape[1:])
    return sums / total.clamp(min=torch.finfo(total.dtype).tiny).view(-1, *[1] * (values.dim() - 1)), total > 0


def per_pair(line: Tensor, pairs: int) -> Tensor:
    """(E n,) line of every one of the n pairs of episodes of line (E,)."""
    return line.unsqueeze(1).expand(-1, pairs).flatten()
