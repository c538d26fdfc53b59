"""How far a calibration holds on a line it was not fitted to: each line left out in turn.

The lines are those whose labels may be used: the validation line, and the training lines on the stretches of genome
held out from training. Each is left out once; temperature and bias are fitted to the pairs of the others, applied to it
with and without the shift of `prevalence` (its labels unread), and judged: calibration error, Brier score, and the
error of the intercept delta, the shift in logits that would have set its mean probability right.

From the n deltas comes the spread between lines, sqrt(mean delta^2) sqrt(2 (n - 1) / n). With lines that differ by
independent intercepts of variance s^2, a fit to n - 1 others errs by s^2 n / (n - 1) and the frozen calibration, which
is of one line, by 2 s^2: the second root makes the one the other. Assumed: the lines at hand are to each other as a new
line is to the validation line, all are equally unlike, and the slope transfers. Training lines are known to the model,
so their spread may be too small. With one line its chromosomes are left out instead, which says less than lines would,
and is said so; with less than that nothing is known. The test line takes no part: it is judged under the frozen
calibration, as a prediction would be. Cost: one fit per line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from evaluation.calibration import (
    BetweenLines,
    Calibration,
    brier_score,
    expected_calibration_error,
    fit_calibration,
)
from evaluation.metrics import has_both_classes
from evaluation.prevalence import estimate_shift, intercept_error

HELD_OUT_OF_TRAINING = "seen_line/unseen_chrom"
FEWEST_CHROMOSOMES = 3
"""With fewer there is no spread to speak of."""


@dataclass(frozen=True)
class JudgedLine:
    """One line under a calibration that did not see its labels."""

    line: str
    fitted_to: str
    """Whose labels the calibration comes from."""
    labels: NDArray[np.int8]
    """(n,) 0/1."""
    logits: NDArray[np.float64]
    """(n,) calibrated log-odds, not shifted."""
    offset: float
    """The shift of the line, from all its scores without labels."""
    estimated: float
    """The prevalence that this shift presumes."""

    def figures(self) -> dict[str, float | str]:
        """What a table has of it, plain and shifted."""
        found: dict[str, float | str] = {
            "line": self.line,
            "fitted_to": self.fitted_to,
            "n": float(len(self.labels)),
            "prevalence": float(self.labels.mean()),
            "estimated": self.estimated,
        }
        for name, logits in (("", self.logits), ("_shifted", self.logits + self.offset)):
            p = expit(logits)
            found[f"ece{name}"] = expected_calibration_error(self.labels, p)
            found[f"brier{name}"] = brier_score(self.labels, p)
            found[f"error{name}"] = intercept_error(self.labels, logits)
        return found


def leave_lines_out(known: pd.DataFrame) -> list[JudgedLine]:
    """Each usable line of `known` predictions (labels 0/1) under a calibration of the others; empty below two lines."""
    lines = dict(_usable_lines(known))
    return list(_left_out(lines)) if len(lines) > 1 else []


def judge_test_lines(known: pd.DataFrame, calibration: Calibration) -> list[JudgedLine]:
    """The test lines' pairs under the frozen `calibration`, as a prediction sees them."""
    unseen = known[(known["role"] == "test") & known["quadrant"].str.startswith("unseen_line")]
    return [
        _judged(str(line), "validation line", own, calibration)
        for line, own in unseen.groupby("line", observed=True, sort=True)
        if has_both_classes(own["label"])
    ]


def spread_between_lines(known: pd.DataFrame) -> BetweenLines | None:
    """The spread learnt from the lines of `known`, else from the chromosomes of the one there is, else None."""
    lines = dict(_usable_lines(known))
    if len(lines) > 1:
        return _spread(list(_left_out(lines)), "lines")
    chromosomes: dict[str, pd.DataFrame] = {}
    for own in lines.values():
        # `cluster_ids` gives chromosomes negative codes; clusters of promoters say nothing of larger differences.
        parts = own[own["cluster"] < 0].groupby("cluster")
        chromosomes = {str(code): part for code, part in parts if has_both_classes(part["label"])}
    if len(chromosomes) < FEWEST_CHROMOSOMES:
        return None
    return _spread(list(_left_out(chromosomes)), "chromosomes")


def _usable_lines(known: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    allowed = (known["role"] == "valid") | ((known["role"] == "test") & (known["quadrant"] == HELD_OUT_OF_TRAINING))
    for line, own in known[allowed].groupby("line", observed=True, sort=True):
        if has_both_classes(own["label"]):
            yield str(line), own


def _left_out(parts: Mapping[str, pd.DataFrame]) -> Iterator[JudgedLine]:
    for name, own in parts.items():
        others = pd.concat([part for other, part in parts.items() if other != name])
        calibration = fit_calibration(others["label"].to_numpy(), others["logit"].to_numpy(dtype=np.float64))
        yield _judged(name, "the other lines", own, calibration)


def _judged(line: str, fitted_to: str, own: pd.DataFrame, calibration: Calibration) -> JudgedLine:
    labels, logits = own["label"].to_numpy(dtype=np.int8), calibration.scaled(own["logit"].to_numpy(dtype=np.float64))
    if calibration.prevalence is None:
        return JudgedLine(line, fitted_to, labels, logits, 0.0, float("nan"))
    shift = estimate_shift(logits, calibration.prevalence)
    return JudgedLine(line, fitted_to, labels, logits, shift.offset, shift.prevalence)


def _spread(judged: list[JudgedLine], of: Literal["lines", "chromosomes"]) -> BetweenLines:
    units = len(judged)
    # Between chromosomes there is nothing to correct: the frozen calibration is of all of them.
    inflation = 2 * (units - 1) / units if of == "lines" else 1.0
    errors = np.array(
        [
            [intercept_error(own.labels, own.logits), intercept_error(own.labels, own.logits + own.offset)]
            for own in judged
        ]
    )
    plain, shifted = np.sqrt(np.mean(errors**2, axis=0) * inflation)
    return BetweenLines(units, of, float(plain), float(shifted))
