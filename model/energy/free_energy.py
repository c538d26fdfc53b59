"""The energy read as a free energy: P = 1 / (1 + exp(dG / kT)), -dG / kT = logit, taken apart (R28; algorithms.md 0.5).

-dG / kT = b / T + sum_k u_k g_k / T - r / T: a background, one contribution per channel that the environment opens or
closes, and the price of the environment itself. The parts add up to the logit to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from model.scores import Scores


@dataclass(frozen=True)
class FreeEnergy:
    """Contributions to -dG / kT of E episodes of n query pairs; positive favours interaction."""

    background: Tensor
    """(E, n) b / T."""
    channels: Tensor
    """(E, n, K) u_k g_k / T."""
    environment: Tensor
    """(E, n) -r / T."""
    total: Tensor
    """(E, n) their sum, the log-odds."""


def free_energy(scores: Scores) -> FreeEnergy:
    """What each part of the energy adds to the log-odds of each query pair."""
    temperature = scores.temperature.expand_as(scores.logits)
    return FreeEnergy(
        background=scores.bias / temperature,
        channels=scores.channels * scores.gates / temperature.unsqueeze(-1),
        environment=-scores.shift.expand_as(scores.logits) / temperature,
        total=scores.logits,
    )


def reading(scores: Scores, episode: int, query: int) -> dict[str, float]:
    """One pair's energy as named numbers, for reports: b, u_k, g_k, r, T and the log-odds they make."""
    k = scores.channels.shape[-1]
    gates = scores.gates.expand_as(scores.channels)[episode, query]
    parts = {"b": scores.bias, "r": scores.shift.expand_as(scores.logits)[episode, query]}
    parts["T"] = scores.temperature.expand_as(scores.logits)[episode, query]
    parts |= {f"u_{index + 1}": scores.channels[episode, query, index] for index in range(k)}
    parts |= {f"g_{index + 1}": gates[index] for index in range(k)}
    parts["log_odds"] = scores.logits[episode, query]
    return {name: float(value.detach()) for name, value in parts.items()}
