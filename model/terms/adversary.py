"""Networks that learn to read from z_I what z_I should not tell: the adversary's side of `grl`, `cdan` and `club`.

They learn at rate 1 from detached inputs, whatever the balancer makes of their term, while the encoder sees them as
constants; inputs are standardised, or an encoder could hide in the scale of z_I without hiding anything. They are in a
parameter group of their own (`parameters`), because an adversary must learn faster than what it follows.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Adversary(nn.Module):
    """Base of networks that learn on detached inputs what a term then holds against the encoder."""


class FreezableLinear(nn.Linear):
    """A linear layer that can be applied as a constant."""

    def forward(self, x: Tensor, frozen: bool = False) -> Tensor:
        """x (..., in) -> (..., out); with `frozen` no gradient reaches weight and bias."""
        weight, bias = (self.weight.detach(), self.bias.detach()) if frozen else (self.weight, self.bias)
        return F.linear(x, weight, bias)


class LineClassifier(Adversary):
    """q(c|z), one hidden layer."""

    def __init__(self, width: int, hidden: int, lines: int) -> None:
        """z of `width` dimensions, `lines` = C classes."""
        super().__init__()
        self.hidden = FreezableLinear(width, hidden)
        self.out = FreezableLinear(hidden, lines)

    def forward(self, z: Tensor, frozen: bool = False) -> Tensor:
        """z (..., width) -> log-probabilities (..., C)."""
        return F.log_softmax(self.out(F.gelu(self.hidden(z, frozen)), frozen), dim=-1)


def standardised(x: Tensor) -> Tensor:
    """x (..., d) with mean 0 and variance 1 over the step in each dimension, a constant one 0; moments are detached.

    A code spans a few hundredths at first, which a classifier would take long to see. The moments are those of all
    workers' episodes together and of this step alone, so there is nothing to remember.
    """
    rows = x.detach().flatten(0, -2)
    return (x - rows.mean(dim=0)) / (rows.var(dim=0, correction=0) + 1e-12).sqrt()
