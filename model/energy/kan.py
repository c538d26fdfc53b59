"""Fourier-KAN: heads made of learnt univariate functions (algorithms.md 8.1; GistNoesis/FourierKAN).

y_j = b_j + sum_i sum_{k=1..G} a_jik cos(k x_i) + b_jik sin(k x_i) is 2 pi-periodic, so inputs are first normalised and
squashed into (-pi, pi). The stored weight is k times the coefficient: plain weight decay is then the spectral penalty
sum k^2 (a^2 + b^2), and high harmonics cost more by construction. k starts at 1; the constant is the bias.
Cost: 2 G times the multiplications of a linear layer.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FourierSum(nn.Module):
    """The sum of univariate Fourier series; unit output variance at the start."""

    def __init__(self, inputs: int, outputs: int, harmonics: int) -> None:
        """`harmonics` = G per input; the frequencies are 1..G."""
        super().__init__()
        self.harmonics = harmonics
        frequency = torch.arange(1, harmonics + 1).repeat(2 * inputs)
        start = torch.randn(outputs, 2 * inputs * harmonics) / math.sqrt(inputs * harmonics)
        self.weight = nn.Parameter(start * frequency)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs), one period in [-pi, pi] -> (..., outputs)."""
        return F.linear(waves(x, self.harmonics), self.weight, self.bias)


def waves(x: Tensor, harmonics: int) -> Tensor:
    """cos(k x_i)/k and sin(k x_i)/k, x (..., inputs) -> (..., 2 G inputs); per input, cosines first, k = 1..G."""
    k = torch.arange(1, harmonics + 1, device=x.device, dtype=x.dtype)
    angles = x.unsqueeze(-1) * k
    return (torch.stack([angles.cos(), angles.sin()], dim=-2) / k).flatten(-3)


class Squash(nn.Module):
    """pi tanh(x): one period, never wrapped."""

    def forward(self, x: Tensor) -> Tensor:
        """(...) -> (...) within [-pi, pi]."""
        return math.pi * torch.tanh(x)


def squashed_series(inputs: int, outputs: int, harmonics: int) -> nn.Sequential:
    """FourierSum of pi tanh(LayerNorm(x)); needs at least two inputs, because the norm of one is constant."""
    return nn.Sequential(nn.LayerNorm(inputs), Squash(), FourierSum(inputs, outputs, harmonics))


def fourier_kan(inputs: int, hidden: int, outputs: int, harmonics: int) -> nn.Sequential:
    """A head: squashed Fourier sums, SiLU, linear."""
    return nn.Sequential(squashed_series(inputs, hidden, harmonics), nn.SiLU(), nn.Linear(hidden, outputs))
