"""The task loss on the query logits: IMMAX with class margins, or plain cross-entropy (algorithms.md 1).

L = (1/n) sum_i w_y softplus(-(2y-1) s / rho_y), rho+ = 2 alpha, rho- = 2 (1 - alpha); alpha = 1/2 is BCE exactly.
Never negative, computed in fp32, defined for batches of one class or without any label (then 0).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from data_pipeline.settings import Settings


class TaskSettings(Settings):
    """The loss that scores the query."""

    loss: Literal["immax", "bce"] = "immax"
    """`immax` gives the majority class the larger margin; `bce` is cross-entropy."""
    alpha_mode: Literal["count", "fixed", "radius", "prism"] = "count"
    """Where alpha comes from: cube roots of training counts, `alpha`, counts and feature norms, or loss sensitivity."""
    alpha: float = Field(default=0.5, ge=0.01, le=0.99)
    """alpha of mode `fixed`, and the start of mode `prism`."""
    reduction: Literal["instance", "class_mean"] = "instance"
    """Mean over pairs, or mean of the two class means."""


class TaskLoss(nn.Module):
    """IMMAX or BCE over the labelled query pairs of a global step; state in buffers."""

    counts: Tensor
    radius: Tensor
    alpha: Tensor

    def __init__(self, settings: TaskSettings) -> None:
        """Until `set_class_counts` is called the classes count as balanced."""
        super().__init__()
        self.settings = settings
        self.register_buffer("counts", torch.ones(2))
        self.register_buffer("radius", torch.ones(2))
        self.register_buffer("alpha", torch.tensor(settings.alpha if settings.alpha_mode != "count" else 0.5))

    def set_class_counts(self, positives: int, negatives: int) -> None:
        """Numbers of labelled training pairs of each class."""
        self.counts.copy_(torch.tensor([float(max(negatives, 1)), float(max(positives, 1))]))
        if self.settings.alpha_mode in ("count", "radius"):
            self.alpha.copy_(cube_root_alpha(self.counts, self.radius))

    def forward(self, logits: Tensor, labels: Tensor, invariant: Tensor) -> Tensor:
        """() loss of logits (E, n) against labels (E, n) in {0, 1, NaN unknown}; invariant (E, n, dI) for `radius`.

        In training mode alpha then learns from this step, for the next one.
        """
        known = ~labels.isnan()
        positive = labels.nan_to_num(0.0)
        # Not a weight of zero on NaN: an unknown label must not reach the arithmetic at all.
        weight = known.float() * self._class_weights(known, positive)
        alpha = self.alpha.clone() if self.settings.loss == "immax" else torch.full_like(self.alpha, 0.5)
        loss = immax(logits.float(), positive, alpha)
        if self.training and self.settings.loss == "immax":
            self._adapt(logits.detach().float(), positive, known, invariant.detach())
        return (weight * loss).sum() / weight.sum().clamp(min=1.0)

    def _class_weights(self, known: Tensor, positive: Tensor) -> Tensor:
        if self.settings.reduction == "instance":
            return torch.ones_like(positive)
        total, positives = known.sum(), (positive * known).sum()
        per_class = torch.stack([total - positives, positives]).clamp(min=1.0)
        share = total / ((per_class > 0).sum() * per_class)
        return torch.where(positive > 0.5, share[1], share[0])

    @torch.no_grad()
    def _adapt(self, logits: Tensor, positive: Tensor, known: Tensor, invariant: Tensor) -> None:
        classes = torch.stack([known & (positive < 0.5), known & (positive > 0.5)])
        if self.settings.alpha_mode == "radius":
            norms = invariant.float().norm(dim=-1).expand_as(classes)
            seen = norms.masked_fill(~classes, float("nan")).flatten(1).nanquantile(0.95, dim=1)
            self.radius.copy_(torch.where(seen.isnan(), self.radius, 0.9 * self.radius + 0.1 * seen))
            self.alpha.copy_(cube_root_alpha(self.counts, self.radius))
        elif self.settings.alpha_mode == "prism":
            margin = torch.stack([1 - self.alpha, self.alpha]).view(2, 1, 1)
            signed = logits * torch.tensor([-1.0, 1.0], device=logits.device).view(2, 1, 1)
            slope = (signed * torch.sigmoid(-signed / margin)).abs() * classes
            root = slope.sum(dim=(1, 2)).sqrt()
            self.alpha.copy_((0.9 * self.alpha + 0.1 * root[1] / (root.sum() + 1e-8)).clamp(0.01, 0.99))


def immax(logits: Tensor, labels: Tensor, alpha: Tensor) -> Tensor:
    """Element-wise softplus(-(2y-1) s / rho_y) of logits and labels in {0, 1}, same shape; alpha ()."""
    margin = torch.where(labels > 0.5, 2 * alpha, 2 * (1 - alpha))
    return F.softplus(-(2 * labels - 1) * logits / margin)


def cube_root_alpha(counts: Tensor, radius: Tensor) -> Tensor:
    """alpha = (m+ r+^2)^(1/3) / [(m+ r+^2)^(1/3) + (m- r-^2)^(1/3)]; counts and radius (2,), negatives first."""
    root = (counts * radius.square()).pow(1 / 3)
    return root[1] / root.sum()
