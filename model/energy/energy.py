"""The energy: intrinsic channels of the pair, modulated by the environment (algorithms.md 0).

logit(x, c) = [b + sum_k u_k(x) g_k(env) - r(env)] / T, with env = (z_E(c), e(c, x)). A form says how the resistances
R_k become gates g_k and shift r. Guarantees: gates are positive in every form (T0.1), R is centred over the training
lines, w > 0 and T is bounded (T0.4), environment_scale 0 gives g = 1 and r = 0 exactly (T0.3), and a missing local
environment leaves every number bit for bit (T0.6). A line's own temperature T(c) scales its logits and cannot change
their order. What training observes takes effect after the step that saw it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from data_pipeline.settings import Settings, searched
from model.energy.forms import FORMS
from model.energy.kan import fourier_kan, squashed_series
from model.layers import mlp
from model.lines import RunningMean, RunningScale
from model.scores import Scores

if TYPE_CHECKING:
    FormName = str
else:
    FormName = Literal[tuple(FORMS)]
HeadKind = Literal["linear", "mlp", "fourier_kan"]


class EnergySettings(Settings):
    """Form of the energy."""

    form: FormName = "gated"
    """How the environment enters; all but `gated` are kept for ablation."""
    channels: int = Field(default=4, ge=1, le=64, json_schema_extra=searched(1, 16, log=True, integer=True))
    """K, the number of intrinsic channels; with K=1 and no signals no environment can change a line's ranking."""
    invariant_width: int = Field(default=64, ge=1, le=4096)
    """Dimensions of z_I."""
    invariant_hidden: int = Field(default=128, ge=1, le=4096)
    """Hidden units between pair features and z_I."""
    dropout: float = Field(default=0.1, ge=0.0, le=0.9, json_schema_extra=searched(0.0, 0.5))
    """Dropout in the heads."""
    head: HeadKind = "mlp"
    """How z_I becomes the channels u_k."""
    harmonics: int = Field(default=5, ge=1, le=32)
    """G, the frequencies per input of a `fourier_kan` head."""
    use_distance: bool = True
    """Whether z_I sees the distance between the elements."""
    resistance: HeadKind = "linear"
    """How the environment becomes the K resistances."""
    shift: Literal["none", "linear", "mlp", "fourier_kan"] = "mlp"
    """How the environment becomes the shift r of the gated form; the other forms take r from the resistances."""
    scale_environment: bool = True
    """Whether the heads read z_E at unit scale over episodes. A mean over m support pairs differs little between lines,
    and without this the gates take many epochs to open to it."""
    sign: Literal["signed", "nonneg"] = "signed"
    """Sign of the resistances; `nonneg` is softplus and is not centred."""
    bias: float = Field(default=0.0, ge=-10.0, le=10.0)
    """Start value of b, the log-odds of a pair whose gates are closed."""
    temperature: Literal["bounded", "softplus"] = "bounded"
    """T = 0.5 + 1.5 sigmoid(t), or softplus(t); both start at T = 1."""
    temperature_of: Literal["all", "line"] = "all"
    """One T, or T(c) with t + a^T z_E in place of t; either way no ranking inside a line depends on it."""


# Each maps t to T; the second entry is the t at which T = 1.
TEMPERATURES: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "bounded": (lambda t: 0.5 + 1.5 * torch.sigmoid(t), -0.693147),
    "softplus": (F.softplus, 0.541325),
}


def channel_head(settings: EnergySettings) -> nn.Sequential:
    """z_I (..., dI) -> channels (..., K), as `settings.head` says."""
    width, k = settings.invariant_width, settings.channels
    if settings.head == "fourier_kan":
        return fourier_kan(width, width, k, settings.harmonics)
    return mlp([width, k] if settings.head == "linear" else [width, width, k], settings.dropout)


class EnvironmentHead(nn.Module):
    """Linear or one-hidden-layer function of [z_E; e] whose e part is a separate sum, so that e = 0 leaves no trace."""

    def __init__(self, kind: HeadKind, width: int, local: int, outputs: int, harmonics: int, hidden: int = 32) -> None:
        """`width` and `local` are the dimensions of z_E and e (0: no local environment)."""
        super().__init__()
        first = outputs if kind == "linear" else hidden
        kan = kind == "fourier_kan"
        self.line = squashed_series(width, hidden, harmonics) if kan else nn.Linear(width, first)
        bend = nn.SiLU() if kan else nn.GELU()
        self.out = nn.Identity() if kind == "linear" else nn.Sequential(bend, nn.Linear(hidden, outputs))
        # Last, so that the same seed gives the same other weights with and without a local environment.
        self.local = nn.Linear(local, first, bias=False) if local else None

    def forward(self, environment: Tensor, local: Tensor | None) -> Tensor:
        """environment (E, width), local (E, n, local) or None -> (E, n or 1, outputs)."""
        x = self.line(environment).unsqueeze(1)
        if self.local is not None and local is not None:
            x = x + self.local(local)
        return self.out(x)


# Modules that own parameters return tensors and plain tuples only: ZeRO-3 finds nothing inside a dataclass, and would
# not bring the parameters back for the backward pass.
class Modulation(nn.Module):
    """The form and its learnt couplings (w, or lambda)."""

    def __init__(self, form: str, channels: int) -> None:
        """`form` is a key of `FORMS`."""
        super().__init__()
        self.form = FORMS[form]
        couplings = self.form.couplings(channels)
        self.coupling = nn.Parameter(torch.tensor(couplings)) if couplings else None

    def forward(self, resistance: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Resistance (E, n, K) and shift (E, n) -> gates (E, n, K), shift (E, n); n may be 1."""
        return self.form.apply(resistance, shift, self._couplings(resistance))

    def drive(self, resistance: Tensor) -> Tensor:
        """w R of resistances (E, n, K): what the gates follow; 0 in a form without gates."""
        return self.form.drive(resistance, self._couplings(resistance))

    def named(self) -> dict[str, Tensor]:
        """() couplings by their names as the energy uses them."""
        coupling = None if self.coupling is None else self.coupling.detach().clone()
        return {} if coupling is None else self.form.named(coupling)

    def _couplings(self, like: Tensor) -> Tensor:
        return like.new_zeros(0) if self.coupling is None else self.coupling


class Readout(nn.Module):
    """(b + energy) / T."""

    def __init__(self, bias: float, temperature: str) -> None:
        """`bias` starts b; `temperature` is a key of `TEMPERATURES`."""
        super().__init__()
        self.warmth, start = TEMPERATURES[temperature]
        # One-element vectors, because DeepSpeed cannot broadcast a parameter without a dimension.
        self.b = nn.Parameter(torch.tensor([bias]))
        self.t = nn.Parameter(torch.tensor([start]))

    def forward(self, energy: Tensor, warmth: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Energy (E, n) and what the line adds to t, (E, 1) or None -> logits (E, n), T () or (E, 1), b ()."""
        temperature = self.warmth(self.t).squeeze(0) if warmth is None else self.warmth(self.t + warmth)
        return (self.b + energy) / temperature, temperature, self.b.squeeze(0).clone()


class Energy(nn.Module):
    """Channels, gates, shift and temperature."""

    def __init__(self, settings: EnergySettings, environment: int, local: int, memory: float) -> None:
        """`environment`, `local`: dimensions of z_E and e; `memory` of the running centre of R."""
        super().__init__()
        self.settings, k, g = settings, settings.channels, settings.harmonics
        self.channels = channel_head(settings)
        self.modulation = Modulation(settings.form, k)
        self.readout = Readout(settings.bias, settings.temperature)
        self.resistance = EnvironmentHead(settings.resistance, environment, local, k, g)
        self.shift = None
        if settings.form == "gated" and settings.shift != "none":
            self.shift = EnvironmentHead(settings.shift, environment, local, 1, g)
        self.warmth = nn.Linear(environment, 1, bias=False) if settings.temperature_of == "line" else None
        if self.warmth is not None:
            nn.init.zeros_(self.warmth.weight)
        self.centre = RunningMean(k + 1 + (self.warmth is not None), memory)
        self.scale = RunningScale(environment, memory) if settings.scale_environment else None

    def forward(self, invariant: Tensor, environment: Tensor, local: Tensor | None, scale: Tensor) -> Scores:
        """z_I (E, n, dI), z_E (E, dE), e (E, n, dL) or None, scale () in [0, 1] -> scores of the queries."""
        u = self.channels(invariant)
        resistance, shift, warmth = self._environment(environment, local, scale, observe=self.training)
        gates, r = self.modulation(resistance, shift)
        logits, temperature, bias = self.readout((u * gates).sum(dim=-1) - r, warmth)
        codes = environment.new_zeros(len(environment), 0, environment.shape[-1])
        return Scores(logits, u.sum(dim=-1), gates, resistance, r, temperature, invariant, environment, codes, u, bias)

    @torch.no_grad()
    def report(self) -> dict[str, Tensor]:
        """() learnt scalars: b, T (before what a line adds) and, by the form, w of each channel or lambda."""
        readout = self.readout
        found = {"energy/b": readout.b.squeeze(0).clone(), "energy/T": readout.warmth(readout.t).squeeze(0)}
        return found | {f"energy/{name}": value for name, value in self.modulation.named().items()}

    def response(self, channels: Tensor, environment: Tensor, scale: Tensor) -> Tensor:
        """(E, n) what a line's environment z_E (E, dE) takes off the energy of channels u (E, n, K): the R of a pair.

        sum_k u_k (1 - g_k) + r without a local environment; nothing is observed.
        """
        resistance, shift, _ = self._environment(environment, None, scale, observe=False)
        gates, r = self.modulation(resistance, shift)
        taken: Tensor = (channels * (1 - gates)).sum(dim=-1) + r
        return taken

    def _environment(
        self, environment: Tensor, local: Tensor | None, scale: Tensor, observe: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Resistance (E, n or 1, K), shift (E, n or 1) and warmth (E, 1) or None, centred and scaled."""
        if self.scale is not None:
            seen, environment = environment, self.scale(environment)
            if observe:
                self.scale.observe(seen)
        raw = self.resistance(environment, local)
        shift = self.shift(environment, local) if self.shift is not None else torch.zeros_like(raw[..., :1])
        parts = [raw, shift]
        if self.warmth is not None:
            parts.append(self.warmth(environment).unsqueeze(1).expand_as(shift))
        centre, k = self.centre(), raw.shape[-1]
        if observe:
            self.centre.observe(torch.cat(parts, dim=-1))
        resistance = F.softplus(raw) if self.settings.sign == "nonneg" else raw - centre[:k]
        warmth = None if self.warmth is None else scale * (parts[2][:, 0] - centre[k + 1])
        return scale * resistance, scale * (shift - centre[k]).squeeze(-1), warmth
