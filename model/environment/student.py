"""Teacher and student over the prototype graph: z_E as a mixture of what training lines are like (algorithms.md 7).

The student maps the pooled support codes to q1 = softmax_k cos(phi(z), M_k)/tau and z_S = q1^T M: inside the hull of
the prototypes by construction, and read by the energy's heads like any z_E. The teacher is M_T(c) = Pi_c P, for
training lines in training only: z_E = eta M_T + (1 - eta) z_S with eta falling to 0, and for some episodes eta = 0 with
the line's own prototype hidden, so that an unknown line is nothing new. Outside training there is no teacher.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from data_pipeline.errors import UserError
from model.environment.prototype_graph import PrototypeGraph
from model.environment.teaching import TeachingSettings
from model.layers import mlp

HIDDEN = -1e9
"""Logit of a prototype that may not be chosen; finite, so that 0 times its log probability is 0."""


class CompetitionSettings(TeachingSettings):
    """Prototype graph, teacher, student and opportunist."""

    relation: Literal["features", "tree", "even", "auto"] = "auto"
    """What makes lines neighbours: feature vectors, the tree `model.tissues`, nothing, or the first that they have."""
    propagation: Literal["ppr", "gcn"] = "ppr"
    """Personalised PageRank, or two graph convolutions."""
    spread: float = Field(default=0.5, ge=0.0, lt=1.0)
    """a of PageRank: 0 leaves every line to itself, close to 1 makes all alike."""
    memory: float = Field(default=0.9, ge=0.0, lt=1.0)
    """mu: how much of a prototype a step keeps."""
    hidden: int = Field(default=32, ge=1, le=4096)
    """Hidden units of phi."""
    sharpness: float = Field(default=0.1, ge=0.01, le=10.0)
    """tau of the student's choice between prototypes."""
    share_epochs: float = Field(default=10.0, gt=0.0, le=10000.0)
    """Epochs over which eta falls to 0."""
    opportunist_hidden: int = Field(default=32, ge=1, le=4096)
    """Hidden units of the opportunist."""
    win_memory: float = Field(default=0.99, ge=0.0, lt=1.0)
    """How much of a line's win rate a step keeps."""

    @property
    def fading_epochs(self) -> float:
        """Epochs over which eta falls to 0."""
        return self.share_epochs


class Student(nn.Module):
    """phi and the graph it chooses from."""

    share: Tensor

    def __init__(self, settings: CompetitionSettings, tissues: dict[str, str], width: int, lines: int) -> None:
        """`width` = dE, `lines` = C training lines; raises `UserError` without lines."""
        super().__init__()
        if lines == 0:
            raise UserError("model.competition.on needs to know the number of training lines, and it is 0")
        self.settings = settings
        self.graph = PrototypeGraph(
            settings.relation, tissues, lines, width, settings.memory, settings.propagation, settings.spread
        )
        self.address = mlp([width, settings.hidden, width])
        self.register_buffer("share", torch.zeros(()))

    def set_epoch(self, epoch: float) -> None:
        """Let eta be what it is at a (fractional) epoch."""
        self.share.fill_(self.settings.share_at(epoch))

    def forward(self, pooled: Tensor, line: Tensor | None) -> Tensor:
        """z_E (E, width) from pooled codes (E, width); lines (E,) int64 count in training mode only.

        Before any prototype exists, the pooled codes as they are.
        """
        _, prototypes, seen = self.graph()
        if not self.training or line is None:
            choice = self._choice(pooled, prototypes, seen.expand(len(pooled), -1))
            return torch.where(seen.any(), choice.exp() @ prototypes, pooled)
        own = F.one_hot(line.clamp(min=0), len(seen)).bool() & (line >= 0).unsqueeze(1)
        novel = self.settings.novel(torch.rand(len(line), device=line.device))
        offered = seen & ~(own & novel.unsqueeze(1))
        offered = torch.where(offered.any(dim=1, keepdim=True), offered, seen)
        z = self._choice(pooled, prototypes, offered).exp() @ prototypes
        familiar = (own & seen).any(dim=1) & ~novel
        eta = (self.share.clone() * familiar).unsqueeze(1)
        return torch.where(seen.any(), eta * prototypes[line.clamp(min=0)] + (1 - eta) * z, pooled)

    def study(self, pooled: Tensor, line: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log q1 (E, C), the teacher's targets (E, C) and z_S (E, width), from pooled codes (E, width).

        Nothing is hidden here; `line` (E,) int64 selects targets only.
        """
        reach, prototypes, seen = self.graph()
        log_choice = self._choice(pooled, prototypes, seen.expand(len(pooled), -1))
        known = ((line >= 0) & seen[line.clamp(min=0)]).unsqueeze(1)
        return log_choice, reach[line.clamp(min=0)] * known, log_choice.exp() @ prototypes

    def observe(self, line: Tensor, pooled: Tensor) -> None:
        """Let the prototypes learn from a step; takes effect after it."""
        self.graph.observe(line, pooled)

    def _choice(self, pooled: Tensor, prototypes: Tensor, offered: Tensor) -> Tensor:
        cosine = F.normalize(self.address(pooled), dim=-1) @ F.normalize(prototypes, dim=-1).T
        return (cosine / self.settings.sharpness).masked_fill(~offered, HIDDEN).log_softmax(dim=-1)
