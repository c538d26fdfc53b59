"""The one thing that flows from data to model: a step's episodes as tensors.

Purity is by shape: axis 0 is the episode, and every operation that mixes samples of a cell line works along axis 1, so
no episode can see another's samples by accident. Elements that occur several times are present once, and pairs point
to them, so the trunk encodes each element once. Labels of support pairs are not in the batch at all, but for the
labelled (few-shot) protocol, which asks for them by name.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class EpisodeBatch:
    """E episodes of one step; in each, the first `support` (m) pairs are the support set, the other n are the query."""

    enhancer_packed: Tensor
    """(Ue, Le/2) uint8, 4 bits per base, each distinct enhancer once; Le = 0 where the store has no sequence."""
    promoter_packed: Tensor
    """(Up, Lp/2) uint8, likewise for promoters."""
    enhancer: Tensor
    """(E, m+n) int64, row of each pair's enhancer in `enhancer_packed`."""
    promoter: Tensor
    """(E, m+n) int64, row of each pair's promoter in `promoter_packed`."""
    distance: Tensor
    """(E, m+n) float32, bp between the two elements; NaN where unknown."""
    signals: Tensor
    """(E, m+n, S) float32, line-specific numbers of the pair as stored; NaN where missing; S may be 0."""
    labels: Tensor
    """(E, n) float32, 1 interacts, 0 does not, NaN unknown; of the query only."""
    line: Tensor
    """(E,) int64, index of the cell line among the fold's training lines; -1 for a line not trained on."""
    line_features: Tensor
    """(E, F) float32, the line's feature vector v_c; F may be 0."""
    rows: Tensor
    """(E, m+n) int64, the pairs' row numbers in the store."""
    support: int
    """m, the number of support pairs."""
    profile: Tensor | None = None
    """(E, n, L, 2 W + 4) float32, profiles of the query pairs: in each of L columns from behind the enhancer to beyond
    the promoter the largest values of W tracks, their means (NaN unknown), and bins (0: nothing is there), enhancer,
    promoter, between; None where nobody asked for it."""
    support_labels: Tensor | None = None
    """(E, m) float32, labels of the support pairs in the labelled protocol, NaN unknown; None in every other."""

    @property
    def episodes(self) -> int:
        """E, the number of episodes."""
        return self.enhancer.shape[0]

    def to(self, device: torch.device | str) -> EpisodeBatch:
        """The same batch on `device`."""
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)
