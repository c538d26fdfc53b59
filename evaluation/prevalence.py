"""The prevalence of a line from its unlabelled scores, and the shift of the logits that it asks for.

Expectation maximisation of Saerens, Latinne & Decaestecker (2002), Neural Computation 14, 21: with probabilities p_i
that are calibrated at the prevalence pi_0, the prevalence pi of other pairs maximises their likelihood at the fixed
point

    pi = mean_i sigmoid(logit p_i + logit pi - logit pi_0),    and the shift is logit pi - logit pi_0.

It assumes that interacting pairs score alike in both lines, and so do the others (label shift): only their mixture may
differ. Where the scores themselves move from line to line the estimate takes that for prevalence, which no unlabelled
score can tell apart; `line_transfer` measures on lines left out whether the shift helps. Cost: a sort and some hundred
passes over at most 20,000 numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

MOST = 20_000
"""More scores are replaced by the means of as many bins of equal mass; the estimate moves by less than its noise."""
ROUNDS = 10_000
TOLERANCE = 1e-10


@dataclass(frozen=True)
class PrevalenceShift:
    """What the scores of a line say about its prevalence."""

    prior: float
    """pi_0, the prevalence that the probabilities are calibrated at."""
    prevalence: float
    """pi, estimated."""
    offset: float
    """logit pi - logit pi_0, to be added to calibrated logits."""
    converged: bool
    """Whether the fixed point was reached within `ROUNDS`."""


def estimate_shift(logits: ArrayLike, prior: float) -> PrevalenceShift:
    """The shift of a line from the calibrated `logits` (n,) of its pairs, n > 0, calibrated at prevalence `prior`.

    An estimate stays within half a pair of none and of all; 0 < `prior` < 1.
    """
    values = np.sort(np.asarray(logits, dtype=np.float64).ravel())
    bound = 0.5 / values.size
    if values.size > MOST:
        values = np.array([part.mean() for part in np.array_split(values, MOST)])
    prevalence = prior
    for _ in range(ROUNDS):
        found = float(np.clip(expit(values + logit(prevalence) - logit(prior)).mean(), bound, 1 - bound))
        moved, prevalence = abs(found - prevalence), found
        if moved < TOLERANCE:
            return PrevalenceShift(prior, prevalence, float(logit(prevalence) - logit(prior)), True)
    return PrevalenceShift(prior, prevalence, float(logit(prevalence) - logit(prior)), False)


def intercept_error(labels: ArrayLike, logits: ArrayLike) -> float:
    """The shift of calibrated `logits` (n,) at which their mean probability is the share of 1 in `labels` (n,).

    0 is a line that the calibration fits in the large. Needs both classes. By bisection.
    """
    values: NDArray[np.float64] = np.asarray(logits, dtype=np.float64)
    share = float(np.mean(np.asarray(labels) == 1))
    # At these ends the mean lies below and above the share, whatever the logits.
    low, high = float(logit(share) - values.max()), float(logit(share) - values.min())
    for _ in range(100):
        middle = (low + high) / 2
        if expit(values + middle).mean() < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2
