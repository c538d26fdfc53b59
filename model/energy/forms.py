"""How the environment enters the energy: one entry per form (algorithms.md 0).

A form says how resistances become gates and shift. A new one is an entry here and a test: the closed-form tests of the
energy, the choices of `model.energy.form` and their page go over all entries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def guarded(x: Tensor) -> Tensor:
    """1 + x where x >= -0.5, smoothly bent above 0.05 below, so that no form can turn a ranking round."""
    return F.celu(x + 0.5, alpha=0.45) + 0.5


def _gated(resistance: Tensor, shift: Tensor, coupling: Tensor) -> tuple[Tensor, Tensor]:
    return 2 * torch.sigmoid(F.softplus(coupling) * resistance), shift


def _linear(resistance: Tensor, shift: Tensor, coupling: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ones_like(resistance), resistance.mean(dim=-1)


def _interaction(resistance: Tensor, shift: Tensor, coupling: Tensor) -> tuple[Tensor, Tensor]:
    return guarded(coupling * resistance), resistance.mean(dim=-1)


def _fallback(resistance: Tensor, shift: Tensor, coupling: Tensor) -> tuple[Tensor, Tensor]:
    return guarded(coupling[0] * resistance), -coupling[1] * resistance.mean(dim=-1)


@dataclass(frozen=True)
class Form:
    """How resistances (E, n, K), shift (E, n) and couplings become gates (E, n, K) and shift (E, n)."""

    apply: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    couplings: Callable[[int], list[float]]
    """Start values of the learnt couplings, given K."""
    named: Callable[[Tensor], dict[str, Tensor]]
    """Couplings as the form uses them, by name."""
    drive: Callable[[Tensor, Tensor], Tensor]
    """(resistance, couplings) -> w R, of which the gates are an increasing function that saturates or bends."""


def _widths(coupling: Tensor) -> dict[str, Tensor]:
    return {f"w{k}": value for k, value in enumerate(F.softplus(coupling).unbind())}


def _lambda(coupling: Tensor) -> dict[str, Tensor]:
    return dict(zip(("lambda", "lambda_shift"), coupling.unbind(), strict=False))


# softplus(0.541325) = 1, so every gate starts with w = 1.
FORMS: dict[str, Form] = {
    "gated": Form(_gated, lambda channels: [0.541325] * channels, _widths, lambda r, w: F.softplus(w) * r),
    "linear": Form(_linear, lambda channels: [], _lambda, lambda r, none: torch.zeros_like(r)),
    "interaction": Form(_interaction, lambda channels: [0.1], _lambda, lambda r, coupling: coupling * r),
    "lin_inter_fallback": Form(_fallback, lambda channels: [0.1, 0.1], _lambda, lambda r, coupling: coupling[0] * r),
}
