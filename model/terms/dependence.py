"""Statistical dependence beyond correlation: HSIC as a loss; distance correlation and InfoNCE as monitors only.

HSIC of z_I with the line (delta kernel: the distance between the lines' distributions of z_I) or with z_E, plain or
normalised (CKA). InfoNCE is a lower bound on information: minimising it certifies nothing, since the minimiser can
misalign the critic, so the monitor's weight cannot be set (algorithms.md 3.2-3.4).
Cost: N^2 of N pairs, thinned to `pairs` per episode.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from model.episode_model import ModelSettings
from model.scores import Scores
from model.step import GlobalStep
from model.terms.adversary import Adversary, standardised
from model.terms.club import pair_weights
from model.terms.term import LossTerm, TermSettings, TermValue

TINY = 1e-12
"""Below this a squared dependence is that of a constant."""


class HsicSettings(TermSettings):
    """Hilbert-Schmidt independence of z_I."""

    on: bool = False
    """Whether the term exists at all."""
    against: Literal["line", "environment"] = "line"
    """What z_I shall be independent of: the line's identity, or z_E."""
    normalised: bool = True
    """Whether to divide by sqrt(HSIC(x,x) HSIC(y,y)), which puts the term between 0 and 1 (CKA)."""
    pairs: int = Field(default=64, ge=2, le=4096)
    """Most query pairs per episode that enter, the first ones."""


class DependenceSettings(TermSettings):
    """Monitors of the dependence of z_I on z_E; never a loss: the fields that give a loss its weight admit 0 only."""

    on: bool = False
    """Whether the monitors are computed."""
    weight: float = Field(default=0.0, ge=0.0, le=0.0)
    """0: a monitor."""
    ramp: float = Field(default=0.0, ge=0.0, le=0.0)
    """0: a monitor."""
    ratio: float = Field(default=0.0, ge=0.0, le=0.0)
    """0: a monitor."""
    width: int = Field(default=16, ge=1, le=1024)
    """Dimensions in which InfoNCE's critic compares z_I and z_E."""
    pairs: int = Field(default=64, ge=2, le=4096)
    """Most query pairs per episode that enter, the first ones."""


def squared_distances(x: Tensor) -> Tensor:
    """(N, N) squared Euclidean distances of x (N, d); exactly 0 on the diagonal, and everywhere for a constant x."""
    # Relative to the first row: a large common offset would drown the distances.
    x = x - x[:1]
    norms = x.square().sum(dim=-1)
    squared = (norms.unsqueeze(1) + norms - 2 * x @ x.T).clamp(min=0)
    return squared.masked_fill(torch.eye(len(x), dtype=torch.bool, device=x.device), 0.0)


def gaussian_kernel(x: Tensor) -> Tensor:
    """(N, N) exp(-D/median D) - 1 of the squared distances D of x (N, d); the median is over pairs, and detached.

    Centring removes the constant; without it a constant x gives exactly 0.
    """
    squared = squared_distances(x)
    off_diagonal = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
    median = squared.detach().masked_fill(~off_diagonal, float("nan")).nanmedian()
    return torch.expm1(-squared / median.nan_to_num(1.0).clamp(min=TINY))


def delta_kernel(line: Tensor) -> Tensor:
    """(N, N) [same line] - 1 of line (N,); constant 0 for a single line."""
    return (line.unsqueeze(1) == line).float() - 1


def hsic(k: Tensor, l: Tensor, weight: Tensor | None = None) -> Tensor:  # noqa: E741 - the literature's letters
    """() tr(K H L H)/(N-1)^2 of kernel matrices (N, N); `weight` (N,) sums to 1 and stands for 1/N."""
    weight = k.new_full((len(k),), 1 / len(k)) if weight is None else weight
    product = _centred(k, weight) * _centred(l, weight)
    return weight @ product @ weight * (len(k) / max(len(k) - 1, 1)) ** 2


def cka(k: Tensor, l: Tensor, weight: Tensor | None = None) -> Tensor:  # noqa: E741
    """() HSIC(k, l) / sqrt(HSIC(k, k) HSIC(l, l)), 0 where either is constant."""
    scale = (hsic(k, k, weight) * hsic(l, l, weight)).clamp(min=TINY**2).sqrt()
    return hsic(k, l, weight) / scale


def _centred(k: Tensor, weight: Tensor) -> Tensor:
    rows = k @ weight
    return k - rows.unsqueeze(1) - rows + weight @ rows


def distance_correlation(x: Tensor, y: Tensor) -> Tensor:
    """() squared distance correlation of x (N, d) and y (N, e), between 0 and 1; 0 where either is constant."""
    weight = x.new_full((len(x),), 1 / len(x))
    a, b = (_centred(squared_distances(v).sqrt(), weight) for v in (x, y))
    scale = (a.square().mean() * b.square().mean()).clamp(min=TINY**2).sqrt()
    return (a * b).mean() / scale


def info_nce(critic: Tensor) -> Tensor:
    """() log B + E log softmax_ii of critic values (..., B, B): at most log B and, in expectation, at most I (nats)."""
    matched = critic.log_softmax(dim=-1).diagonal(dim1=-2, dim2=-1)
    return math.log(critic.shape[-1]) + matched.mean()


class Critic(Adversary):
    """How well a z_I and a z_E go together."""

    def __init__(self, invariant: int, environment: int, width: int) -> None:
        """Dimensions of z_I and z_E, and of the space they meet in."""
        super().__init__()
        self.invariant = nn.Linear(invariant, width)
        self.environment = nn.Linear(environment, width)

    def forward(self, invariant: Tensor, environment: Tensor) -> Tensor:
        """invariant (E, n, dI), environment (E, dE) -> (n, E, E), z_I of row e against z_E of column e."""
        a, b = self.invariant(invariant).transpose(0, 1), self.environment(environment)
        return a @ b.T / math.sqrt(b.shape[1])


class Hsic(LossTerm):
    """HSIC or CKA of z_I with the line or with z_E, over query pairs of the step."""

    Settings = HsicSettings
    summary = "Independence of z_I from the line or from z_E by kernels."
    family = "decoupling"
    lower_bound = 0.0

    def __init__(self, settings: HsicSettings) -> None:
        """No parameters."""
        super().__init__()
        self.settings = settings

    @classmethod
    def of(cls, settings: HsicSettings, model: ModelSettings, lines: int) -> Hsic:
        """See `LossTerm.of`."""
        return cls(settings)

    def forward(self, step: GlobalStep, scores: Scores, epoch: float) -> TermValue:
        """The term; 0 with zero gradient, reported as degenerate, with one known line (or one value of z_E)."""
        invariant = scores.invariant[:, : self.settings.pairs]
        n = invariant.shape[1]
        weight = pair_weights(step.line, n, balanced=False)
        other = delta_kernel(step.line) if self.settings.against == "line" else gaussian_kernel(scores.environment)
        varied = (other * weight[::n] * weight[::n].unsqueeze(1) != 0).any()
        # By expanding, not repeat_interleave, whose backward adds in no fixed order on a GPU.
        other = other[:, None, :, None].expand(-1, n, -1, n).reshape(len(weight), len(weight))
        statistic = cka if self.settings.normalised else hsic
        loss = statistic(gaussian_kernel(invariant.flatten(0, 1)), other, weight)
        return TermValue(
            loss=torch.where(varied, loss, torch.zeros_like(loss)), report={"degenerate": (~varied).float()}
        )


class DependenceMonitor(LossTerm):
    """Distance correlation, CKA and InfoNCE of z_I with z_E; the loss is always 0."""

    Settings = DependenceSettings
    summary = "Monitors of the dependence of z_I on z_E; no loss."
    family = "monitor"
    lower_bound = 0.0

    def __init__(self, settings: DependenceSettings, invariant: int, environment: int) -> None:
        """`invariant` = dI, `environment` = dE."""
        super().__init__()
        self.settings = settings
        self.critic = Critic(invariant, environment, settings.width)

    @classmethod
    def of(cls, settings: DependenceSettings, model: ModelSettings, lines: int) -> DependenceMonitor:
        """See `LossTerm.of`."""
        return cls(settings, model.energy.invariant_width, model.environment.width)

    def forward(self, step: GlobalStep, scores: Scores, epoch: float) -> TermValue:
        """Monitors; the critic is judged on a step before it learns from it, on detached inputs."""
        invariant = scores.invariant.detach()[:, : self.settings.pairs]
        environment = scores.environment.detach()
        information = info_nce(self.critic(standardised(invariant), standardised(environment)))
        x = invariant.flatten(0, 1)
        y = environment.repeat_interleave(invariant.shape[1], dim=0)
        return TermValue(
            # 0, with the critic's gradient, so that it ascends at rate 1 whatever coefficient a balancer gives.
            loss=information.detach() - information,
            own=-information,
            report={
                "info_nce": information.detach(),
                "distance_correlation": distance_correlation(x, y),
                "cka": cka(gaussian_kernel(x), gaussian_kernel(y)),
                "degenerate": (environment == environment[:1]).all().float(),
            },
        )
