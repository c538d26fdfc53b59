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

    @classmethod
    def of(cls, scores: Scores) -> FreeEnergy:
        """What each part of the energy adds to the log-odds of each query pair."""
        temperature = scores.temperature.expand_as(scores.logits)
        return cls(
            background=scores.bias / temperature,
            channels=scores.channels * scores.gates / temperature.unsqueeze(-1),
            environment=-scores.shift.expand_as(scores.logits) / temperature,
            total=scores.logits,
        )
