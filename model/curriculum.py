"""Two-phase curriculum: the intrinsic energy alone first, then the environment is let in (R62)."""

from __future__ import annotations

from pydantic import Field

from data_pipeline.settings import Settings


class CurriculumSettings(Settings):
    """When the environment begins to act."""

    warm_epochs: float = Field(default=2.0, ge=0.0, le=1000.0)
    """Epochs with gates 1 and shift 0: only sequence and distance are learnt."""
    ramp_epochs: float = Field(default=5.0, ge=0.0, le=1000.0)
    """Epochs over which the environment then grows to full strength."""


def environment_scale(settings: CurriculumSettings, epoch: float) -> float:
    """Strength of the environment in [0, 1] at a (fractional) epoch."""
    if epoch < settings.warm_epochs:
        return 0.0
    since = epoch - settings.warm_epochs
    return 1.0 if settings.ramp_epochs == 0 else min(1.0, since / settings.ramp_epochs)
