"""The environment: what the support set, the line's features and the pair's own signals say about the cell line.

z_E is an average over the support set of one line, e(c, x) a function of the pair's signals in that line
(algorithms.md 0.6, 6). Episodes are separated by tensor shape: everything here works along axis 1 or the last axis.
The prior mean of z_E over training steps stands in where there is no support (and, with context dropout, sometimes
in training, so that its absence is nothing new).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from data_pipeline.errors import UserError
from data_pipeline.settings import Settings
from model.layers import mlp


class EnvironmentSettings(Settings):
    """What the environment is inferred from, and how large it is."""

    encoder: Literal["none", "mean"] = "mean"
    """How the support set becomes z_E: `mean` averages per-pair codes, `none` leaves z_E zero."""
    width: int = Field(default=16, ge=1, le=1024)
    """Dimensions of z_E."""
    hidden: int = Field(default=64, ge=1, le=4096)
    """Hidden units of the per-pair code."""
    depth: int = Field(default=1, ge=0, le=6)
    """Hidden layers of the per-pair code."""
    dropout: float = Field(default=0.1, ge=0.0, le=0.9)
    """Dropout in the per-pair code."""
    trunk_gradient: bool = False
    """Whether the support set's gradient reaches the trunk; false protects U_I and costs less."""
    support_signals: bool = True
    """Whether the per-pair code sees the support pairs' signals."""
    line_features: bool = False
    """Whether the per-pair code sees the line's feature vector v_c."""
    local: bool = True
    """Whether the query pair's own signals join the environment as e(c, x)."""
    local_width: int = Field(default=16, ge=1, le=1024)
    """Dimensions of e(c, x)."""
    local_hidden: int = Field(default=64, ge=1, le=4096)
    """Hidden units of e(c, x)."""
    local_depth: int = Field(default=2, ge=0, le=6)
    """Hidden layers of e(c, x)."""
    local_dropout: float = Field(default=0.1, ge=0.0, le=0.9)
    """Dropout in e(c, x)."""
    context_dropout: float = Field(default=0.1, ge=0.0, le=1.0)
    """Probability per episode, in training, that z_E is replaced by the prior mean."""
    memory: float = Field(default=0.99, ge=0.0, lt=1.0)
    """How much of the running means (prior mean, gauge) a step keeps."""


class RunningMean(nn.Module):
    """Exact mean of the first observations, exponential mean later; state in buffers, so saved and equal everywhere."""

    mean: Tensor
    count: Tensor

    def __init__(self, width: int, memory: float) -> None:
        """Mean of (width,) vectors; zero before the first observation."""
        super().__init__()
        self.memory = memory
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("count", torch.zeros(()))

    def forward(self) -> Tensor:
        """The current mean (width,), a copy that a later `observe` cannot change."""
        return self.mean.clone()

    @torch.no_grad()
    def observe(self, values: Tensor) -> None:
        """Take in the mean of `values` (..., width)."""
        self.count += 1
        rate = torch.clamp(1 / self.count, min=1 - self.memory)
        self.mean += rate * (values.detach().flatten(0, -2).mean(dim=0) - self.mean)


class SupportMean(nn.Module):
    """Deep-sets average over the support set."""

    def forward(self, codes: Tensor) -> Tensor:
        """(E, m, width) -> (E, width)."""
        return codes.mean(dim=1)


ENCODERS: dict[str, type[nn.Module]] = {"mean": SupportMean}
"""Pooling of support codes (E, m, width) -> (E, width); along axis 1 only, so episodes cannot mix."""


class SupportEncoder(nn.Module):
    """f_E': a code per support pair, pooled to z_E of the episode."""

    def __init__(self, settings: EnvironmentSettings, features: int, signals: int, line_features: int) -> None:
        """Widths of the trunk features, signals and line features offered; raises `UserError` if none is left."""
        super().__init__()
        self.settings = settings
        self.signals = signals if settings.support_signals else 0
        self.line_features = line_features if settings.line_features else 0
        self.prior = RunningMean(settings.width, settings.memory)
        inputs = features + self.signals + self.line_features
        if settings.encoder != "none" and inputs == 0:
            raise UserError(
                "there is nothing to infer an environment from (no trunk, no signals, no line features); "
                "set model.environment.encoder=none or use a store with signals"
            )
        self.code = None
        if settings.encoder != "none":
            self.code = mlp([inputs, *[settings.hidden] * settings.depth, settings.width], settings.dropout)
            self.pool = ENCODERS[settings.encoder]()

    def forward(self, h: Tensor, signals: Tensor, line_features: Tensor) -> tuple[Tensor, Tensor]:
        """z_E (E, width) and its codes (E, m, width) from h (E, m, d), signals (E, m, S), line_features (E, F).

        Signals and line features are standardised. Without support pairs (m = 0) z_E is the prior mean; without an
        encoder both are zero.
        """
        episodes, m = h.shape[:2]
        if self.code is None:
            return h.new_zeros(episodes, self.settings.width), h.new_zeros(episodes, m, self.settings.width)
        if m == 0:
            return self.prior().expand(episodes, -1), h.new_zeros(episodes, 0, self.settings.width)
        inputs = [h if self.settings.trunk_gradient else h.detach()]
        inputs += [signals] if self.signals else []
        inputs += [line_features.unsqueeze(1).expand(-1, m, -1)] if self.line_features else []
        codes = self.code(torch.cat(inputs, dim=-1))
        return self.pool(codes), codes


class LocalEnvironment(nn.Module):
    """e(c, x): the pair's own signals in the line, zero where it has none."""

    def __init__(self, settings: EnvironmentSettings, signals: int) -> None:
        """`signals` tracks in, `settings.local_width` numbers out."""
        super().__init__()
        hidden = [settings.local_hidden] * settings.local_depth
        self.code = mlp([signals, *hidden, settings.local_width], settings.local_dropout)

    def forward(self, signals: Tensor, present: Tensor) -> Tensor:
        """signals (E, n, S) standardised, present (E, n) bool -> (E, n, local_width)."""
        return self.code(signals) * present.unsqueeze(-1)
