"""Less in z_I: an L1 norm of the normalised code, and a bound on the information a noisy code carries (R46, R49).

L1 acts on z_I divided by its own length, since on z_I itself it is satisfied by shrinking; never on R_E, which it would
switch off (REQUIREMENTS C5). The bottleneck is the variational rate of Alemi et al. (2017): with z = mu(x) + sigma
noise in the forward pass, I(z; x) <= E KL(N(mu, sigma^2) || N(0, 1)), and because z_I sees the pair only,
I(z_I; z_E) <= I(z_I; c) <= I(z_I; x): one bound holds for everything R49 wants small, while the task loss keeps
I(z_I; y). Without noise there is no such bound, so the term asks for `model.invariant_noise`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from data_pipeline.errors import UserError
from model.episode_model import ModelSettings
from model.scores import Scores
from model.step import GlobalStep
from model.terms.term import LossTerm, TermSettings, TermValue, ValueKind

SMALL = 0.01
"""A dimension below this share of the root mean square counts as unused; L1 by gradient gives no exact zeros."""


class SparsitySettings(TermSettings):
    """L1 norm of the normalised z_I."""

    on: bool = False
    """Whether the term exists at all."""

    @property
    def value_kind(self) -> ValueKind:
        """Between 1/sqrt(dI) and 1 for any code that is not zero."""
        return "positive"


class BottleneckSettings(TermSettings):
    """Rate of the noisy z_I; needs `model.invariant_noise`."""

    on: bool = False
    """Whether the term exists at all."""

    @property
    def value_kind(self) -> ValueKind:
        """The rate of a code with noise below e^-0.5 stays above zero."""
        return "positive"


def normalised_l1(x: Tensor) -> Tensor:
    """(...,) |x|_1 / (sqrt(d) |x|_2) of x (..., d): 1/sqrt(d) for one-hot, 1 for uniform, 0 for zero."""
    return x.abs().mean(dim=-1) / (x.square().mean(dim=-1) + torch.finfo(x.dtype).tiny).sqrt()


def hoyer(x: Tensor) -> Tensor:
    """(...,) (sqrt d - |x|_1/|x|_2) / (sqrt d - 1) of x (..., d), d > 1: 1 for one-hot, 0 for uniform and for zero."""
    root = math.sqrt(x.shape[-1])
    sparsity = root * (1 - normalised_l1(x)) / (root - 1)
    return torch.where((x != 0).any(dim=-1), sparsity, torch.zeros_like(sparsity))


def small_share(x: Tensor) -> Tensor:
    """() share of entries of x (..., d) below `SMALL` times their row's root mean square."""
    return (x.abs() < SMALL * x.square().mean(dim=-1, keepdim=True).sqrt()).float().mean()


class Sparsity(LossTerm):
    """Mean normalised L1 norm of z_I over the query pairs."""

    Settings = SparsitySettings
    summary = "L1 norm of the normalised z_I."
    family = "sparsity"
    lower_bound = 0.0

    def __init__(self, settings: SparsitySettings) -> None:
        """No parameters."""
        super().__init__()

    @classmethod
    def of(cls, settings: SparsitySettings, model: ModelSettings, lines: int) -> Sparsity:
        """See `LossTerm.of`."""
        return cls(settings)

    def forward(self, step: GlobalStep, scores: Scores, epoch: float) -> TermValue:
        """The term, with Hoyer's sparsity of z_I and z_E beside it; degenerate where z_I is zero."""
        code, environment = scores.invariant.detach(), scores.environment.detach()
        return TermValue(
            loss=normalised_l1(scores.invariant).mean(),
            report={
                "hoyer": hoyer(code).mean(),
                "small_share": small_share(code),
                "hoyer_environment": hoyer(environment).mean(),
                "degenerate": (code == 0).all().float(),
            },
        )


class Bottleneck(LossTerm):
    """Rate of z_I in nats per dimension, over the query pairs."""

    Settings = BottleneckSettings
    summary = "Upper bound on the information that the noisy z_I carries."
    family = "compression"

    def __init__(self, settings: BottleneckSettings, model: ModelSettings) -> None:
        """Raises `UserError` if the model adds no noise to z_I."""
        super().__init__()
        self.variance = model.invariant_noise**2
        if self.variance == 0:
            raise UserError(
                "terms.bottleneck needs noise on z_I, without which its information has no bound; "
                "set model.invariant_noise (0.3, say)"
            )
        self.lower_bound = -0.5 * (1 + math.log(self.variance))

    @classmethod
    def of(cls, settings: BottleneckSettings, model: ModelSettings, lines: int) -> Bottleneck:
        """See `LossTerm.of`."""
        return cls(settings, model)

    def forward(self, step: GlobalStep, scores: Scores, epoch: float) -> TermValue:
        """KL(N(mu, sigma^2) || N(0, 1)) / dI."""
        # The noisy code of training has a mean square of mu^2 + sigma^2 by itself.
        square = scores.invariant.square().mean()
        second = square if self.training else square + self.variance
        loss = 0.5 * (second - 1 - math.log(self.variance))
        return TermValue(loss=loss, report={"rate": loss.detach() * scores.invariant.shape[-1]})
