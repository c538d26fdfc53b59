"""Numbers a pair brings besides its sequence: distance features and encoded signals."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from data_pipeline.settings import Settings, searched

DISTANCE_WIDTH = 10
"""Features per distance: linear, eight bumps, one flag for a missing distance."""
TINY = 1e-12
"""Least width of a bin."""


class SignalSettings(Settings):
    """How raw signals and line features become inputs."""

    transform: Literal["none", "log1p"] = "none"
    """Applied before standardising; `log1p` is sign(x) log(1 + |x|)."""
    limit: float = Field(default=10.0, gt=0.0, le=1000.0)
    """Standardised values are clipped to this many standard deviations."""
    encoding: Literal["standard", "piecewise", "thermometer"] = "standard"
    """How a signal becomes inputs: one standardised number; or, over `bins` of like many training pairs, how far each
    bin is filled (piecewise linear), or whether it is passed. With bins a network separates what trees separate."""
    bins: int = Field(default=12, ge=2, le=128, json_schema_extra=searched(4, 48, log=True, integer=True))
    """Bins of `piecewise` and `thermometer`."""
    leave_out: list[str] = Field(default=[])
    """What the model never sees, as if it were missing: assays (`CTCF`), groups of context (`barriers`), owners of
    tracks (`enhancer`, `pair`) or whole names of tracks."""
    dropout: float = Field(default=0.0, ge=0.0, le=0.9, json_schema_extra=searched(0.0, 0.5))
    """Probability per episode, in training, that an assay is taken as not measured in the line, in all signals that
    come from it, so that lines with fewer assays are nothing new."""


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
        """Until `fit` is called, mean 0 and deviation 1."""
        super().__init__()
        self.settings = settings
        self.outputs = width
        """Inputs of the network that `width` values become."""
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def fit(self, values: Tensor) -> None:
        """Keep the statistics of raw `values` (N, width) of the training lines; a constant track becomes 0."""
        mean, deviation = statistics(values, self.settings.transform)
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 0, deviation, torch.ones_like(deviation)))

    def forward(self, values: Tensor) -> Tensor:
        """(..., width), not finite where missing -> (..., width) finite."""
        scaled = (transformed(values, self.settings.transform) - self.mean) / self.deviation
        return scaled.nan_to_num(0.0).clamp(-self.settings.limit, self.settings.limit)


class BinEncoder(nn.Module):
    """Each value as its place among quantiles of the training lines (Gorishniy et al. 2022), and a flag if missing.

    A bin is 0 below its lower edge and 1 above its upper; in between it is the share passed (`piecewise`) or still 0
    (`thermometer`). Values beyond the outermost quantiles are like these, so no line can leave the trained range.
    """

    edges: Tensor

    def __init__(self, width: int, settings: SignalSettings) -> None:
        """Until `fit` is called, all edges are 0."""
        super().__init__()
        self.settings = settings
        self.outputs = width * (settings.bins + 1)
        """Inputs of the network that `width` values become: bins and flag of the first, then of the second."""
        self.register_buffer("edges", torch.zeros(width, settings.bins + 1))

    def fit(self, values: Tensor) -> None:
        """Take the edges (width, bins + 1) from raw `values` (N, width) of the training lines."""
        known = transformed(values.double(), self.settings.transform).numpy()
        share = np.linspace(0, 1, self.settings.bins + 1)
        self.edges.zero_()
        for column in np.flatnonzero(np.isfinite(known).any(axis=0)):
            own = known[:, column]
            # NumPy's, because torch refuses more than 16 million values.
            self.edges[column] = torch.from_numpy(np.quantile(own[np.isfinite(own)], share))

    def forward(self, values: Tensor) -> Tensor:
        """(..., width), not finite where missing -> (..., outputs) in [0, 1]; a missing value is 0 but for its flag."""
        known = transformed(values, self.settings.transform).unsqueeze(-1)
        low, high = self.edges[:, :-1], self.edges[:, 1:]
        if self.settings.encoding == "thermometer":
            filled = (known >= high).to(known.dtype)
        else:
            # Equal edges (a value that many pairs share, most often 0) make a step just above it.
            filled = ((known - low) / (high - low).clamp(min=TINY)).clamp(0.0, 1.0)
        missing = known.isnan()
        encoded = torch.cat([filled.masked_fill(missing, 0.0), missing.to(filled.dtype)], dim=-1)
        return encoded.flatten(-2)


def signal_encoder(width: int, settings: SignalSettings) -> Standardiser | BinEncoder:
    """What turns `width` signals into inputs, as `settings.encoding` says."""
    return Standardiser(width, settings) if settings.encoding == "standard" else BinEncoder(width, settings)


class AssayDropout(nn.Module):
    """In training, takes assays as not measured: all signals that need one are missing in the whole episode.

    Of the assays that an episode has, at least one stays. `width` may count further numbers behind the signals, as the
    tracks of a profile are.
    """

    needs: Tensor

    def __init__(self, width: int, probability: float) -> None:
        """Until `set_assays` is called nothing is dropped."""
        super().__init__()
        self.probability = probability
        self.register_buffer("needs", torch.zeros(0, width), persistent=False)

    def set_assays(self, needs: Tensor) -> None:
        """Which of A assays (A, width) bool each number needs."""
        self.needs = needs.to(self.needs)

    def draw(self, there: Tensor) -> Tensor | None:
        """(E, width) bool, what is dropped of the numbers that are `there` (E, width) bool; None: nothing ever is."""
        shape = (len(there), len(self.needs))
        if not self.training or self.probability == 0 or 0 in shape:
            return None
        dropped = torch.rand(shape, device=there.device) < self.probability
        present = (there.to(self.needs) @ self.needs.T) > 0
        spared = torch.rand(shape, device=there.device).masked_fill(~present, -1.0).argmax(dim=1, keepdim=True)
        dropped = dropped.scatter(1, spared, value=False)
        gone: Tensor = (dropped.to(self.needs.dtype) @ self.needs) > 0
        return gone

    def forward(self, signals: Tensor) -> Tensor:
        """(E, n, width) raw signals, not finite where missing -> the same with NaN for what is dropped."""
        gone = self.draw(signals.isfinite().any(dim=1))
        return signals if gone is None else signals.masked_fill(gone.unsqueeze(1), torch.nan)
