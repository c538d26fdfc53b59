"""The environment: what the support set, the line's features and the pair's own signals say about the cell line.

z_E comes from the support set of one line (and, fused by precision, from lines with like features), e(c, x) from the
pair's signals in that line, a(c, x) from the support pairs most like it (algorithms.md 0.6, 6, 10). Episodes are
separated by tensor shape: everything here works along axis 1 or the last axis. The prior stands in where there is no
support (and, with context dropout, sometimes in training, so that its absence is nothing new).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from data_pipeline.errors import UserError
from model.environment.encoders import ENCODERS
from model.environment.gaussian_process import GaussianProcessPrior
from model.environment.set_attention import QueryAttention
from model.environment.settings import EnvironmentSettings
from model.layers import mlp
from model.lines import RunningMean

LABEL_WIDTH = 2
"""Label channels of a code: (1, 0) interacts, (0, 1) does not, (0, 0) unknown."""


def label_channels(labels: Tensor) -> Tensor:
    """Labels (...,) of 1, 0 or NaN -> (..., 2) float: (1, 0), (0, 1) or, unknown, (0, 0)."""
    return torch.stack([labels == 1, labels == 0], dim=-1).to(labels.dtype)


class SupportEncoder(nn.Module):
    """f_E': a code per support pair, pooled to z_E of the episode."""

    def __init__(
        self, settings: EnvironmentSettings, features: int, signals: int, line_features: int, lines: int = 0
    ) -> None:
        """Widths of the trunk features, signals and line features offered, C training lines.

        Raises `UserError` if the settings leave nothing to infer an environment from.
        """
        super().__init__()
        self.settings = settings
        alone = settings.encoder == "features"
        self.signals = signals if settings.support_signals and not alone else 0
        self.line_features = line_features if settings.line_features or alone else 0
        self.prior = RunningMean(settings.width, settings.memory)
        inputs = (0 if alone else features) + self.signals + self.line_features
        _check_inputs(settings, inputs, line_features, lines)
        inputs += LABEL_WIDTH if settings.labelled_support else 0
        self.code = None
        if settings.encoder != "none":
            self.code = mlp([inputs, *[settings.hidden] * settings.depth, settings.width], settings.dropout)
            self.pool = ENCODERS[settings.encoder].make(settings)
        self.process = None
        if settings.fusion == "gp":
            self.process = GaussianProcessPrior(
                lines, line_features, settings.width, settings.memory, settings.gp_noise
            )

    def forward(
        self,
        h: Tensor,
        signals: Tensor,
        line_features: Tensor,
        labels: Tensor | None = None,
        line: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """z_E (E, width) and its codes (E, m, width) from h (E, m, d), signals (E, m, S), line_features (E, F).

        Signals and line features are standardised; labels (E, m) are read in the labelled protocol only. Without
        support pairs (m = 0) z_E is `uninformed`; without an encoder both are zero. In training mode, with the lines
        (E,) int64 given, the Gaussian process learns from this step.
        """
        episodes, m = h.shape[:2]
        if self.code is None:
            return h.new_zeros(episodes, self.settings.width), h.new_zeros(episodes, m, self.settings.width)
        if self.settings.encoder == "features":
            z = self.code(line_features)
            return z, z.unsqueeze(1).expand(-1, m, -1)
        if m == 0:
            return self.uninformed(line_features), h.new_zeros(episodes, 0, self.settings.width)
        codes = self.codes(h, signals, line_features, labels)
        pooled = z = self.pool(codes)
        if self.process is not None:
            z = self.process.fuse(pooled, m, line_features)
            if self.training and line is not None:
                self.process.observe(line, line_features, pooled, codes)
        return z, codes

    def codes(self, h: Tensor, signals: Tensor, line_features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Codes (E, m, width) of pairs, unpooled; arguments as in `forward`, labels None: all unknown."""
        assert self.code is not None
        m = h.shape[1]
        inputs = [h if self.settings.trunk_gradient else h.detach()]
        inputs += [signals] if self.signals else []
        inputs += [line_features.unsqueeze(1).expand(-1, m, -1)] if self.line_features else []
        if self.settings.labelled_support:
            unknown = h.new_zeros(*h.shape[:2], LABEL_WIDTH)
            inputs.append(unknown if labels is None else label_channels(labels))
        codes: Tensor = self.code(torch.cat(inputs, dim=-1))
        return codes

    def uninformed(self, line_features: Tensor) -> Tensor:
        """z_E (E, width) of lines known by their standardised features (E, F) only: the prior."""
        prior = self.prior().expand(len(line_features), -1)
        if self.process is None:
            return prior
        mean, _, exists = self.process(line_features)
        return torch.where(exists.unsqueeze(1), mean, prior)


def _check_inputs(settings: EnvironmentSettings, inputs: int, line_features: int, lines: int) -> None:
    if settings.encoder == "features" and line_features == 0:
        raise UserError(
            "model.environment.encoder=features needs a store whose lines have feature vectors, and this one has none; "
            "add line features at ingest or choose another encoder"
        )
    if settings.encoder != "none" and inputs == 0:
        raise UserError(
            "there is nothing to infer an environment from (no trunk, no signals, no line features); "
            "set model.environment.encoder=none or use a store with signals"
        )
    if settings.fusion == "gp" and (line_features == 0 or lines == 0):
        raise UserError(
            "model.environment.fusion=gp needs training lines with feature vectors, and this store's lines have none; "
            "add line features at ingest or set model.environment.fusion=none"
        )


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


def query_attention(settings: EnvironmentSettings) -> QueryAttention | None:
    """The module that reads a(c, x) off the support set, where the settings want one."""
    if not settings.query_attention:
        return None
    return QueryAttention(settings.width, settings.heads, settings.local_width)
