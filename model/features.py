"""Numbers a pair brings besides its sequence: distance features and standardised signals."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from data_pipeline.settings import Settings

DISTANCE_WIDTH = 10
"""Features per distance: linear, eight bumps, one flag for a missing distance."""


class SignalSettings(Settings):
    """How raw signals and line features become inputs."""

    transform: Literal["none", "log1p"] = "none"
    """Applied before standardising; `log1p` is sign(x) log(1 + |x|)."""
    limit: float = Field(default=10.0, gt=0.0, le=1000.0)
    """Standardised values are clipped to this many standard deviations."""


def distance_features(distance: Tensor) -> Tensor:
    """distance (...,) bp, NaN where unknown -> (..., 10); an unknown distance is all zero but for its flag.

    log10(bp+1), scaled to about [-1, 1] between 1 kb and 10 Mb, and Gaussian bumps over it half a decade wide.
    """
    missing = distance.isnan()
    decades = torch.log10(distance.nan_to_num(0.0).clamp(min=0.0) + 1.0).unsqueeze(-1)
    centres = torch.linspace(3.0, 6.5, DISTANCE_WIDTH - 2, device=distance.device, dtype=distance.dtype)
    bumps = torch.exp(-0.5 * ((decades - centres) / 0.5) ** 2)
    known = torch.cat([(decades - 5.0) / 2.0, bumps], dim=-1).masked_fill(missing.unsqueeze(-1), 0.0)
    return torch.cat([known, missing.unsqueeze(-1).to(distance.dtype)], dim=-1)


def transformed(values: Tensor, transform: Literal["none", "log1p"]) -> Tensor:
    """`values` after the configured transform; NaN, and whatever is not finite, is NaN: a missing value."""
    values = values.where(values.isfinite(), torch.nan)
    return values if transform == "none" else values.sign() * values.abs().log1p()


def statistics(values: Tensor, transform: Literal["none", "log1p"]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (S,) of what is finite of `values` (N, S) after `transform`; (0, 1) where none is."""
    values = transformed(values.double(), transform)
    mean = values.nanmean(dim=0)
    deviation = (values - mean).square().nanmean(dim=0).sqrt()
    return mean.nan_to_num(0.0).float(), deviation.nan_to_num(1.0).float()


class Standardiser(nn.Module):
    """Transform, standardise by stored statistics, clip, and put zero where a value is missing."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int, settings: SignalSettings) -> None:
        """Until `set_statistics` is called, mean 0 and deviation 1."""
        super().__init__()
        self.settings = settings
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Store (width,) statistics of the transformed values over the training lines; a constant track becomes 0."""
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 0, deviation, torch.ones_like(deviation)))

    def forward(self, values: Tensor) -> Tensor:
        """(..., width), not finite where missing -> (..., width) finite."""
        scaled = (transformed(values, self.settings.transform) - self.mean) / self.deviation
        return scaled.nan_to_num(0.0).clamp(-self.settings.limit, self.settings.limit)
