"""How pairs are scored outside training, and what of a run's settings whoever scores them asks for."""

from __future__ import annotations

from typing import Protocol

from pydantic import Field

from data_pipeline.episodes import SupportSize
from data_pipeline.settings import Settings


class ScoringSettings(Settings):
    """How pairs are scored outside training: validation, evaluation, prediction."""

    support: int = Field(1024, ge=1, le=4096)
    """Most pairs in a support set: as many as the line gives, up to this. A line that cannot give the smallest
    `episodes.support` is refused; the labelled protocol keeps to the largest `episodes.support`: every label counts."""
    support_draws: int = Field(5, ge=1, le=100)
    """Support sets drawn per line; scores are means over them."""
    pairs_per_batch: int = Field(512, ge=1)
    """Pairs put through the trunk's joint attention at a time."""
    elements_per_batch: int = Field(256, ge=1)
    """Elements encoded at a time."""
    valid_pairs: int = Field(4000, ge=50)
    """Most validation pairs scored at an epoch's end; more are thinned, the same ones each time."""
    monitor_pairs: int = Field(1000, ge=0)
    """Training pairs, and validation pairs under a wrong support set, scored at an epoch's end to monitor; 0: none."""
    smooth_enhancer: int = Field(0, ge=0, le=1_000_000)
    """Scores are averaged over the line's own pairs whose enhancers lie within so many bp of each other, ..."""
    smooth_promoter: int = Field(0, ge=0, le=1_000_000)
    """... and whose promoters lie within so many; 0 for both: no averaging."""


class AsksForScores(Protocol):
    """A run's settings as far as scoring reads them; a run has many more, which this room knows nothing of."""

    @property
    def scoring(self) -> ScoringSettings:
        """How pairs are scored."""

    @property
    def support_in_use(self) -> SupportSize:
        """Size of supports outside training."""
