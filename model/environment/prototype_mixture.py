"""z_E as a mixture of prototypes: z_E = q^T M, inside their convex hull by construction (algorithms.md 7, 10)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PrototypeMixture(nn.Module):
    """Softmax over the cosine of the support mean with free prototypes that the task loss trains."""

    def __init__(self, width: int, prototypes: int, temperature: float) -> None:
        """`prototypes` rows of M; `temperature` of the softmax."""
        super().__init__()
        self.temperature = temperature
        self.address = nn.Linear(width, width)
        self.prototypes = nn.Parameter(torch.randn(prototypes, width))

    def forward(self, codes: Tensor) -> Tensor:
        """(E, m, width) -> (E, width), a convex combination of the prototypes."""
        address = F.normalize(self.address(codes.mean(dim=1)), dim=-1)
        share = (address @ F.normalize(self.prototypes, dim=-1).T / self.temperature).softmax(dim=-1)
        return share @ self.prototypes
