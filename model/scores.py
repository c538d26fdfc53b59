"""What a forward pass says of its pairs: what every loss term, metric and probe reads.

They stand apart from the modules that fill them, so that whoever reads a score imports no network.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class StudentView:
    """What the competition's losses see of the student: gradients reach phi and the energy's line heads only."""

    log_choice: Tensor
    """(E, C) log q1."""
    target: Tensor
    """(E, C) the teacher's t_c = Pi_c, without gradient; zero for a line without a prototype."""
    response: Tensor
    """(E, n) R_S: what the student's environment takes off the energy of each query pair, U_I being constant."""
    whole: Tensor
    """(E, n) R_S of an environment at full strength, whatever the curriculum lets in now; without gradient."""
    strength: Tensor
    """() how much of the environment the curriculum lets in, in [0, 1]."""


@dataclass(frozen=True)
class Scores:
    """What the model says about E episodes of n query pairs."""

    logits: Tensor
    """(E, n) log-odds of interaction."""
    neutral: Tensor
    """(E, n) U_I, the sum of the channels: the energy in a neutral environment."""
    gates: Tensor
    """(E, n, K), or (E, 1, K) without a local environment."""
    resistance: Tensor
    """(E, n or 1, K), centred and scaled as the form used it."""
    shift: Tensor
    """(E, n) or (E, 1), r."""
    temperature: Tensor
    """() T, or (E, 1) T(c)."""
    invariant: Tensor
    """(E, n, dI) z_I of the query pairs."""
    environment: Tensor
    """(E, dE) z_E as inferred from the support set."""
    codes: Tensor
    """(E, m, dE) codes of the support pairs that z_E is pooled from; m = 0 where the energy alone was asked."""
    channels: Tensor
    """(E, n, K) u_k."""
    bias: Tensor
    """() b."""
    student: StudentView | None = None
    """What the competition's losses look at; None without a student and outside training."""
