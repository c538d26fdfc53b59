"""How a teacher that knows the line leaves: its share falls over the epochs, and some episodes do without it.

Both teachers are set by it, the vector of the line itself (`id_teacher`) and the prototype graph (`student`): what is
learnt for lines that training knows must not be needed for one it does not (simulated novelty; algorithms.md 6, 7).
"""

from __future__ import annotations

from abc import abstractmethod

from pydantic import Field
from torch import Tensor

from data_pipeline.settings import Settings


class TeachingSettings(Settings):
    """How much of z_E comes from what only training knows of a line."""

    on: bool = False
    """Whether any of it exists; off leaves the model as it is without."""
    share: float = Field(default=0.5, ge=0.0, lt=1.0)
    """eta at epoch 0, the teacher's part in z_E of a training line: z_E = eta teacher + (1 - eta) support."""
    novelty: float = Field(default=0.3, ge=0.0, le=1.0)
    """Probability per training episode that the line is treated as unknown (eta = 0)."""

    @property
    @abstractmethod
    def fading_epochs(self) -> float:
        """Epochs over which eta falls to 0."""

    def share_at(self, epoch: float) -> float:
        """eta at a (fractional) epoch."""
        return self.share * max(0.0, 1.0 - epoch / self.fading_epochs)

    def novel(self, draw: Tensor) -> Tensor:
        """(E,) bool, the episodes whose line counts as unknown, from a uniform `draw` (E,) of [0, 1)."""
        return draw < self.novelty
