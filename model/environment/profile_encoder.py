"""e(c, x) of a pair's profile: what lies along the way from behind its enhancer to beyond its promoter.

Whether anything between is stronger than the promoter is a comparison, which means over windows and networks on them
miss. So every column also knows the value at both elements and the highest that lies between it and each of them
(running maxima outward from both), a convolution looks at neighbouring columns, and the pool keeps maxima. Every
profile is read from enhancer to promoter, so no strand or side of the chromosome can be told.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from data_pipeline.settings import Settings, searched
from model.layers import mlp

MASKS = 4
"""Numbers of a column behind its values: bins, enhancer, promoter, between (`EpisodeBatch.profile`)."""
LIMIT = 10.0
"""Standardised values are clipped to this many standard deviations."""
POOLS = 6
"""Vectors that a profile is pooled to."""


class ProfileSettings(Settings):
    """The profile of the landscape around a pair, for stores with `context.profile`."""

    on: bool = False
    """Whether the profile of the query pair joins the environment, beside its signals."""
    around: int = Field(default=25, ge=1, le=500)
    """Bins of 10 kb looked at behind the enhancer and beyond the promoter."""
    bins: int = Field(default=48, ge=1, le=2000)
    """Most columns between the two; a window of more bins has several to a column, with their maximum and mean."""
    channels: int = Field(default=32, ge=1, le=1024, json_schema_extra=searched(8, 128, log=True, integer=True))
    """Channels of the convolution."""
    layers: int = Field(default=2, ge=0, le=16)
    """Residual convolutions; with 0 each column is looked at by itself."""
    kernel: int = Field(default=5, ge=1, le=51)
    """Columns that a convolution sees, odd."""
    dropout: float = Field(default=0.3, ge=0.0, le=0.9, json_schema_extra=searched(0.0, 0.6))
    """Dropout after each convolution and in the head."""

    @property
    def shape(self) -> tuple[int, int] | None:
        """What to ask a store's `profile` for; None where the profile is off."""
        return (self.around, self.bins) if self.on else None


class ProfileEncoder(nn.Module):
    """Profiles in, e(c, x) out; zero where a pair has no profile."""

    scale: Tensor
    mean: Tensor
    deviation: Tensor
    withheld: Tensor

    def __init__(self, settings: ProfileSettings, tracks: int, width: int) -> None:
        """`tracks` W of the store's landscapes, `width` numbers out. Until `fit` values are taken as they are."""
        super().__init__()
        self.tracks = tracks
        self.register_buffer("scale", torch.ones(tracks))
        self.register_buffer("mean", torch.zeros(tracks))
        self.register_buffer("deviation", torch.ones(tracks))
        self.register_buffer("withheld", torch.zeros(tracks, dtype=torch.bool))
        channels = settings.channels
        self.enter = nn.Linear(7 * tracks + MASKS, channels)
        self.blocks = nn.ModuleList(_Block(channels, settings.kernel, settings.dropout) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(channels)
        self.leave = mlp([POOLS * channels, 2 * channels, width], settings.dropout)

    def fit(self, profiles: Tensor) -> None:
        """Keep the statistics of raw `profiles` (N, L, 2 W + 4) of the training lines.

        A value counts relative to its track's mean, because densities of peaks, reads and fold changes differ by
        orders of magnitude.
        """
        there = profiles[..., 2 * self.tracks] > 0
        values = profiles[..., self.tracks : 2 * self.tracks][there].double()
        mean = values.nanmean(dim=0).nan_to_num(0.0)
        self.scale.copy_(torch.where(mean > 0, mean, torch.ones_like(mean)))
        values = (values / self.scale).log1p()
        self.mean.copy_(values.nanmean(dim=0).nan_to_num(0.0))
        deviation = (values - self.mean).square().nanmean(dim=0).sqrt().nan_to_num(0.0)
        self.deviation.copy_(torch.where(deviation > 0, deviation, torch.ones_like(deviation)))

    def withhold(self, tracks: Tensor) -> None:
        """Never look at `tracks` (W,) bool."""
        self.withheld.copy_(tracks)

    def known(self, profiles: Tensor) -> Tensor:
        """(E, W) bool, the tracks that any of the episode's raw profiles (E, n, L, 2 W + 4) tells of."""
        there = profiles[..., 2 * self.tracks :][..., :1] > 0
        told = there & profiles[..., : self.tracks].isfinite()
        return told.flatten(1, 2).any(dim=1) & ~self.withheld

    def forward(self, profiles: Tensor, gone: Tensor | None = None) -> Tensor:
        """profiles (E, n, L, 2 W + 4) raw -> (E, n, width).

        Without the tracks `gone` (E, W) bool, which are taken as not measured.
        """
        bins, enhancer, promoter, between = profiles[..., 2 * self.tracks :].unbind(dim=-1)
        # Masks are numbers: products with booleans take twice as long.
        there = (bins > 0).to(bins.dtype)
        x = self._encoded(profiles, there > 0, gone).flatten(0, 1)
        masks = [own.flatten(0, 1).unsqueeze(-1) for own in (there, enhancer, promoter, between)]
        x = self.enter(x) * masks[0]
        for block in self.blocks:
            x = block(x, masks[0])
        x = self.norm(x) * masks[0]
        code: Tensor = self.leave(_pooled(x, *masks))
        return (code * masks[0].amax(dim=1)).unflatten(0, profiles.shape[:2])

    def _encoded(self, profiles: Tensor, there: Tensor, gone: Tensor | None) -> Tensor:
        """(E, n, L, 7 W + 4) inputs of the network; 0 where nothing is `there` (E, n, L) bool.

        Per track: the largest and the mean value, the highest between the column and E, and P, how far the column is
        above E, and P, and whether the track is missing.
        """
        values = profiles[..., : 2 * self.tracks].unflatten(-1, (2, self.tracks))
        missing = values[..., 0, :].isnan().any(dim=-2) | self.withheld
        missing = missing if gone is None else missing | gone.unsqueeze(1)
        missing, there = missing.unsqueeze(-2), there.unsqueeze(-1)
        scaled = ((values.nan_to_num(0.0) / self.scale).log1p() - self.mean) / self.deviation
        largest, mean = scaled.clamp(-LIMIT, LIMIT).unbind(dim=-2)
        floor = -self.mean / self.deviation
        bins, enhancer, promoter, _ = profiles[..., 2 * self.tracks :].unbind(dim=-1)
        standing = torch.where(there, largest, floor)
        parts = [largest, mean]
        for place in (enhancer, promoter):
            parts.append(passed(standing, place, floor))
        for place in (enhancer, promoter):
            parts.append(largest - (largest * place.unsqueeze(-1)).sum(dim=-2, keepdim=True))
        known = (there & ~missing).to(mean.dtype)
        told = (torch.stack(parts, dim=-2) * known.unsqueeze(-2)).flatten(-2)
        size = bins.clamp(min=1.0).log2().unsqueeze(-1)
        flags = (there & missing).to(mean.dtype)
        return torch.cat([told, flags, profiles[..., 2 * self.tracks + 1 :], size], dim=-1)


class _Block(nn.Module):
    """A convolution along the columns, added to what came in."""

    def __init__(self, channels: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.convolution = nn.Conv1d(channels, channels, kernel, padding="same")
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """x (B, L, channels), there (B, L, 1) 1 or 0 -> the same shape, 0 where nothing is there."""
        seen = nn.functional.gelu(self.norm(x)) * there
        change: Tensor = self.dropout(self.convolution(seen.transpose(1, 2)).transpose(1, 2))
        return (x + change) * there


def passed(values: Tensor, place: Tensor, floor: Tensor) -> Tensor:
    """(..., L, W) the highest of `values` (..., L, W) strictly between each column and the one where `place` (..., L)
    is 1; `floor` (W,), the least value, where nothing is between."""
    reached = place.cumsum(dim=-1).unsqueeze(-1) > 0
    after = reached & (place.unsqueeze(-1) == 0)
    beyond = _highest_before(torch.where(after, values, floor), floor)
    flipped = torch.where(reached, floor, values).flip(-2)
    return torch.where(after, beyond, _highest_before(flipped, floor).flip(-2))


def _highest_before(values: Tensor, floor: Tensor) -> Tensor:
    """(..., L, W) the highest of the columns before each; `floor` (W,) before the first."""
    highest = values.cummax(dim=-2).values[..., :-1, :]
    return torch.cat([floor.expand_as(values[..., :1, :]), highest], dim=-2)


def _pooled(x: Tensor, there: Tensor, enhancer: Tensor, promoter: Tensor, between: Tensor) -> Tensor:
    """(B, POOLS * channels) of x (B, L, channels); the others are (B, L, 1): what of all columns and of those between
    is highest and what typical, and what is at the two elements. 0 of what is nowhere."""
    parts = []
    for own in (there, between):
        highest = x.masked_fill(own == 0, -torch.inf).amax(dim=1)
        parts += [highest.masked_fill(own.amax(dim=1) == 0, 0.0), (x * own).sum(dim=1) / own.sum(dim=1).clamp(min=1)]
    parts += [(x * place).sum(dim=1) for place in (enhancer, promoter)]
    return torch.cat(parts, dim=-1)
