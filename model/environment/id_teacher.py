"""The id-teacher: in training, a learnt vector of the line itself takes part in z_E; never outside training.

The training module owns it, not the model: what is exported, evaluated or asked for a prediction has no such vector.
Its share falls to zero over the epochs, and it is withheld at random, so that an unknown line is nothing new (simulated
novelty; algorithms.md 6, 7).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from model.environment.teaching import TeachingSettings


class TeacherSettings(TeachingSettings):
    """How much of z_E comes from the line's own learnt vector."""

    epochs: float = Field(default=10.0, gt=0.0, le=10000.0)
    """Epochs over which eta falls to 0."""

    @property
    def fading_epochs(self) -> float:
        """Epochs over which eta falls to 0."""
        return self.epochs


class IdTeacher(nn.Module):
    """One vector per training line."""

    def __init__(self, settings: TeacherSettings, lines: int, width: int) -> None:
        """`lines` = C training lines, `width` = dE; the vectors start at zero."""
        super().__init__()
        self.settings = settings
        self.vectors = nn.Parameter(torch.zeros(lines, width))

    def forward(self, line: Tensor, epoch: float, seed: int) -> tuple[Tensor, Tensor]:
        """Vectors (G, width) of the lines `line` (G,) int64 and their shares (G, 1).

        The share is 0 for a line not trained on (-1) and for the episodes that `seed` draws as novel.
        """
        generator = torch.Generator().manual_seed(seed)
        familiar = ~self.settings.novel(torch.rand(len(line), generator=generator).to(line.device))
        share = self.settings.share_at(epoch) * (familiar & (line >= 0)).to(self.vectors.dtype)
        return F.embedding(line.clamp(min=0), self.vectors), share.unsqueeze(1)
