"""How support codes become z_E: one entry per encoder.

A new one is a module (E, m, width) -> (E, width) that works along axis 1 only, so that episodes cannot mix, one entry
here and one test; the choices of `model.environment.encoder` and their page follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from model.environment.prototype_mixture import PrototypeMixture
from model.environment.set_attention import AttentionPooling, InducedPooling

if TYPE_CHECKING:
    from model.environment.settings import EnvironmentSettings


class SupportMean(nn.Module):
    """Deep-sets average over the support set."""

    def forward(self, codes: Tensor) -> Tensor:
        """(E, m, width) -> (E, width)."""
        return codes.mean(dim=1)


@dataclass(frozen=True)
class Encoder:
    """An encoder and what it is."""

    summary: str
    """What it does, after its name in a sentence."""
    make: Callable[[EnvironmentSettings], nn.Module]
    """The pooling of support codes (E, m, width) -> (E, width)."""


ENCODERS: dict[str, Encoder] = {
    "mean": Encoder("averages the support codes", lambda own: SupportMean()),
    "attention": Encoder("pools them by learnt attention", lambda own: AttentionPooling(own.width, own.heads)),
    "isab": Encoder(
        "lets them attend to each other through inducing points first",
        lambda own: InducedPooling(own.width, own.heads, own.inducing),
    ),
    "prototypes": Encoder(
        "mixes learnt prototypes",
        lambda own: PrototypeMixture(own.width, own.prototypes, own.prototype_temperature),
    ),
    "features": Encoder("reads the line's feature vector v_c and no support", lambda own: SupportMean()),
}
"""The encoders by name."""
