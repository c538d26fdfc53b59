"""The multi-layer perceptron every head of the model is made of."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def mlp(sizes: list[int], dropout: float = 0.0) -> nn.Sequential:
    """Linear layers of `sizes` (input first), with GELU and dropout between them; the last one is linear."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.GELU(), nn.Dropout(dropout)] if layers else []
        layers.append(nn.Linear(inputs, outputs))
    return nn.Sequential(*layers)
