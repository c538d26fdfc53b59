"""LEACE: the affine map that takes out of z_I all that a linear probe could know about the line (algorithms.md 3.5).

z' = z - W^+ P W (z - mu), with W the inverse root of the covariance of z_I and P the projection on the whitened line
means: of all maps after which the lines' means coincide, the one that moves z_I least (Belrose et al. 2023). At most
C-1 dimensions go. Means and covariance are running ones over the training lines; a step is erased with what the steps
before it taught, and nothing but the finished map is needed for a line nobody measured.
Cost: one eigendecomposition of a (dI, dI) matrix per training step; none otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.lines import line_means, membership, per_pair

RIDGE = 1e-6
"""Added to the covariance, relative to its mean diagonal, so that whitening exists whatever the rank of z_I."""
NOTHING = 1e-10
"""Correlation between z_I and a line below which a direction is left alone."""


def erasing_projection(means: Tensor, weight: Tensor, within: Tensor) -> tuple[Tensor, Tensor]:
    """W^+ P W (d, d) and mu (d,) from the lines' means (C, d) and the covariance within lines (d, d), all float64.

    The weights (C,) sum to 1; a weight of 0 leaves a line out.
    """
    centre = weight @ means
    deviations = (means - centre) * weight.sqrt().unsqueeze(1)
    total = within + deviations.T @ deviations
    total = total + (RIDGE * total.diagonal().mean() + torch.finfo(total.dtype).tiny) * torch.eye(
        len(total), dtype=total.dtype, device=total.device
    )
    values, vectors = torch.linalg.eigh(total)
    root = values.clamp(min=torch.finfo(total.dtype).tiny).sqrt()
    whitened = (vectors / root) @ vectors.T @ deviations.T
    basis, strength, _ = torch.linalg.svd(whitened, full_matrices=False)
    basis = basis * (strength > NOTHING)
    return (vectors * root) @ vectors.T @ basis @ basis.T @ (vectors / root) @ vectors.T, centre


class Eraser(nn.Module):
    """The erasing map of z_I and the running statistics it comes from; state in buffers, no parameters."""

    means: Tensor
    counts: Tensor
    within: Tensor
    steps: Tensor
    projection: Tensor
    centre: Tensor
    line_share: Tensor

    def __init__(self, width: int, lines: int, memory: float) -> None:
        """`width` = dI, `lines` = C training lines, `memory` of the statistics; the identity until two are seen."""
        super().__init__()
        self.memory = memory
        self.register_buffer("means", torch.zeros(lines, width))
        self.register_buffer("counts", torch.zeros(lines))
        self.register_buffer("within", torch.zeros(width, width))
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("projection", torch.zeros(width, width))
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("line_share", torch.zeros(2), persistent=False)

    def forward(self, invariant: Tensor) -> Tensor:
        """z_I (..., dI) -> erased z_I, the same shape."""
        return invariant - (invariant - self.centre.clone()) @ self.projection.clone().T

    @torch.no_grad()
    def observe(self, invariant: Tensor, line: Tensor) -> None:
        """Learn from a step's unerased z_I (E, n, dI) of training lines (E,) int64; lines below 0 teach nothing."""
        rows, own = invariant.detach().flatten(0, 1).double(), per_pair(line, invariant.shape[1])
        self.line_share.copy_(torch.stack([self._share(rows, own), self._share(self(rows.float()).double(), own)]))
        means, seen = line_means(rows, torch.ones_like(own, dtype=rows.dtype), own, len(self.counts))
        apart = (rows - means[own.clamp(min=0)]) * (own >= 0).unsqueeze(1)
        freedom = (own >= 0).sum() - seen.sum()
        self.counts += seen
        rate = torch.clamp(1 / self.counts.clamp(min=1), min=1 - self.memory) * seen
        self.means += rate.unsqueeze(1) * (means.float() - self.means)
        self.steps += freedom > 0
        rate = torch.clamp(1 / self.steps.clamp(min=1), min=1 - self.memory) * (freedom > 0)
        self.within += rate * ((apart.T @ apart / freedom.clamp(min=1)).float() - self.within)
        self._refit()

    def report(self) -> dict[str, Tensor]:
        """() monitors of the latest step: dimensions removed, share of variance between lines before and after."""
        return {
            "erasure/dimensions": self.projection.diagonal().sum(),
            "erasure/line_share_before": self.line_share[0].clone(),
            "erasure/line_share": self.line_share[1].clone(),
        }

    def _refit(self) -> None:
        weight = (self.counts > 0).double()
        weight = weight / weight.sum().clamp(min=1)
        projection, centre = erasing_projection(self.means.double(), weight, self.within.double())
        self.projection.copy_(projection)
        self.centre.copy_(centre)

    def _share(self, rows: Tensor, line: Tensor) -> Tensor:
        """() share of the variance of rows (N, d) that lies between training lines; 0 on average where none does."""
        member = membership(line, len(self.counts)).to(rows.dtype)
        count, known = member.sum(dim=0), member.sum(dim=1)
        total, lines = count.sum(), (count > 0).sum()
        means = member.T @ rows / count.clamp(min=1).unsqueeze(1)
        within = known @ (rows - member @ means).square().sum(dim=1) / (total - lines).clamp(min=1)
        centre = count @ means / total.clamp(min=1)
        whole = known @ (rows - centre).square().sum(dim=1) / (total - 1).clamp(min=1)
        return torch.where(whole > 0, 1 - within / whole, torch.zeros_like(whole)).to(self.line_share)
