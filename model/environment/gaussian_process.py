"""A Gaussian-process prior of z_E over line features, fused with the support by precision (algorithms.md 10).

Each dimension of z_E is a GP over v_c with k = exp(-|v - v'|^2 / 2 l^2), l the median distance of the training lines:
lines with like features have like environments. The training lines' mean codes live in buffers, observed in training
only. A line is never its own prior (equal features are left out), so a training line meets the prior that an unseen
line will meet, and the same support gives the same z_E in training and inference. Where fewer than two other lines are
known, the support stands alone. Cost: one C x C solve per episode.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.lines import LineMeans, RunningMean

SAME = 1e-4
"""Standardised features closer than this are of one line."""


def gp_posterior(
    features: Tensor, values: Tensor, query: Tensor, known: Tensor, length: Tensor, noise: float
) -> tuple[Tensor, Tensor]:
    """Mean (E, d) and variance (E,) relative to the prior's, of E lines with features `query` (E, F).

    features (C, F), values (C, d); known (E, C) bool says which of the C lines each query may use; length () and noise
    (standard deviation relative to the prior's). Far from all known lines: their mean, with variance 1.
    """
    share = known.to(values.dtype)
    centre = share @ values / share.sum(dim=1, keepdim=True).clamp(min=1)
    both = share.unsqueeze(2) * share.unsqueeze(1)
    covariance = _kernel(features, features, length) * both
    eye = torch.eye(len(features), dtype=values.dtype, device=values.device)
    covariance = covariance * (1 - eye) + eye * (1 + noise**2)
    cross = _kernel(query, features, length) * share
    weights = torch.linalg.solve(covariance, cross.unsqueeze(2)).squeeze(2)
    deviations = (values.unsqueeze(0) - centre.unsqueeze(1)) * share.unsqueeze(2)
    mean = centre + (weights.unsqueeze(1) @ deviations).squeeze(1)
    return mean, (1 - (weights * cross).sum(dim=1)).clamp(min=0)


def fused(support: Tensor, pairs: int, within: Tensor, prior: Tensor, variance: Tensor) -> Tensor:
    """Precision-weighted mean (E, d) of the support mean (E, d) of `pairs` codes and the prior mean (E, d).

    `within` () is the codes' variance within a line, `variance` (E,) the prior's; many pairs leave the support mean.
    """
    error = within / max(pairs, 1)
    trust = (variance / (variance + error).clamp(min=torch.finfo(variance.dtype).tiny)).unsqueeze(1)
    return prior + trust * (support - prior)


def _kernel(a: Tensor, b: Tensor, length: Tensor) -> Tensor:
    return torch.exp(-0.5 * (_distance(a, b) / length).square())


def _distance(a: Tensor, b: Tensor) -> Tensor:
    # Differences, not a product expansion, so that the distance of a point to itself is exactly 0.
    return (a.unsqueeze(1) - b.unsqueeze(0)).square().sum(dim=-1).sqrt()


class GaussianProcessPrior(nn.Module):
    """The training lines' features and mean codes, and what they say about a line; no parameters."""

    def __init__(self, lines: int, line_features: int, width: int, memory: float, noise: float) -> None:
        """`lines` = C training lines, `line_features` = F, `width` = dE."""
        super().__init__()
        self.noise = noise
        self.features = LineMeans(lines, line_features, memory)
        self.lines = LineMeans(lines, width, memory)
        self.within = RunningMean(1, memory)

    def forward(self, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Prior mean (E, dE), variance (E,) and whether there is one (E,) bool, for line features (E, F) standardised.

        The variance is in the units of the codes: relative variance times the known lines' spread.
        """
        means, seen = self.lines()
        features, means = self.features()[0].double(), means.double()
        known = seen.unsqueeze(0) & (_distance(query.double(), features) > SAME)
        mean, variance = gp_posterior(features, means, query.double(), known, self._length(features, seen), self.noise)
        share = known.double()
        count = share.sum(dim=1)
        centre = share @ means / count.clamp(min=1).unsqueeze(1)
        squares = ((means.unsqueeze(0) - centre.unsqueeze(1)).square().mean(dim=2) * share).sum(dim=1)
        spread = squares / (count - 1).clamp(min=1)
        return mean.to(query.dtype), (spread * variance).to(query.dtype), count > 1

    def fuse(self, support: Tensor, pairs: int, query: Tensor) -> Tensor:
        """z_E (E, dE) from the support mean (E, dE) of `pairs` codes and line features `query` (E, F)."""
        prior, variance, exists = self(query)
        return torch.where(
            exists.unsqueeze(1), fused(support, pairs, self.within().squeeze(0), prior, variance), support
        )

    def observe(self, line: Tensor, features: Tensor, support: Tensor, codes: Tensor) -> None:
        """Take in a training step: line (E,) int64, features (E, F), support means (E, dE), codes (E, m, dE)."""
        self.features.observe(line, features)
        self.lines.observe(line, support)
        if codes.shape[1] > 1:
            self.within.observe(codes.detach().var(dim=1).mean(dim=-1, keepdim=True))

    @staticmethod
    def _length(features: Tensor, seen: Tensor) -> Tensor:
        """() median distance between the lines seen; 1 where there are not two of them."""
        pair = seen.unsqueeze(0) & seen.unsqueeze(1) & ~torch.eye(len(seen), dtype=torch.bool, device=seen.device)
        median = torch.where(pair, _distance(features, features), torch.nan).nanquantile(0.5)
        return torch.where(median > 0, median, 1.0)
