"""Calibration frozen on validation lines: temperature, optional Platt bias, threshold; and the calibration error.

p = sigmoid(logit / T + bias). T is found by bounded Brent on log T (algorithms.md 9); on the pairs it is fitted to, the
result is never worse than the identity. The bias mends an intercept, which temperature cannot, and a shift between
cell lines is an intercept. Since T > 0, ranking metrics are untouched. Nothing here sees a test line: the caller
passes validation pairs only, and the threshold travels inside `Calibration`. Cost: one sort and some tens of passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit

from data_pipeline.errors import UserError
from data_pipeline.settings import Settings
from evaluation.metrics import has_both_classes

Criterion = Literal["mcc", "f1", "break_even"]
Binning = Literal["width", "mass"]

RECALL = 0.7
"""Share of the interacting pairs that the threshold `at_recall70` finds, as ABC and its peers are thresholded."""
MAX_TEMPERATURE = 50.0
"""T is sought in [1/50, 50]: a bound is met only where the logits separate the classes or carry nothing."""

BAND_LEVEL = 0.8
"""Probability with which the error of a new line lies inside the between-line part of a band."""


class CalibrationSettings(Settings):
    """How validation pairs are turned into a calibration."""

    bias: bool = True
    """Fit a Platt bias beside the temperature, for the intercept by which cell lines differ."""
    criterion: Criterion = "mcc"
    """What the threshold maximises on validation pairs: mcc, f1, or break_even (precision = recall)."""


@dataclass(frozen=True)
class BetweenLines:
    """How far a calibration of one line is off, in the large, on another line; learnt by `line_transfer`."""

    units: int
    """Lines (chromosomes) that were left out, one at a time."""
    of: Literal["lines", "chromosomes"]
    """What was left out; chromosomes of one line, where there is one line only, say less than lines would."""
    sd: float
    """Standard deviation of the intercept's error, in logits."""
    sd_shifted: float
    """The same after the shift of `prevalence.estimate_shift`."""

    def half_width(self, shifted: bool, level: float = BAND_LEVEL) -> float:
        """Half the width, in logits, of the interval that holds the error of a new line with probability `level`."""
        sd = self.sd_shifted if shifted else self.sd
        return float(stats.t.ppf((1 + level) / 2, self.units - 1) * sd)


@dataclass(frozen=True)
class Calibration:
    """A frozen map from logits to probabilities, and thresholds on these probabilities."""

    temperature: float = 1.0
    bias: float = 0.0
    threshold: float = 0.5
    criterion: Criterion = "mcc"
    at_recall70: float | None = None
    """Highest threshold that finds 70% of the interacting validation pairs; None before there was one."""
    at_mcc: float | None = None
    """Threshold of the best MCC, whatever the criterion; None before there was one."""
    prevalence: float | None = None
    """Of the pairs it was fitted to, the prevalence that its probabilities presume; None: not recorded."""
    between: BetweenLines | None = None
    """How far it is off on other lines; None: nothing is known."""

    def apply(self, logits: ArrayLike) -> NDArray[np.float64]:
        """P(interaction) of `logits` (any shape): sigmoid(logit / T + bias)."""
        return expit(self.scaled(logits))

    def scaled(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Calibrated log-odds of `logits` (any shape): logit / T + bias."""
        return np.asarray(logits, dtype=np.float64) / self.temperature + self.bias

    def band(
        self, logits: ArrayLike, lower: ArrayLike, upper: ArrayLike, offset: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Probabilities (n,) of `logits` shifted by `offset` (n,), and their band over support draws and lines.

        `lower` and `upper` (n,) are the ends over support draws, NaN where one draw says nothing of them. The two
        sources are taken as independent, so their reaches in log-odds add as squares. Without `between` the band is
        that of the support alone.
        """
        middle = self.scaled(logits)
        shifted = middle + np.asarray(offset, dtype=np.float64)
        lines = self.between.half_width(shifted=True) if self.between else 0.0
        down, up = (np.nan_to_num(np.abs(middle - self.scaled(end))) for end in (lower, upper))
        return expit(shifted), expit(shifted - np.hypot(down, lines)), expit(shifted + np.hypot(up, lines))

    def to_dict(self) -> dict[str, Any]:
        """Plain content for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Calibration:
        """The inverse of `to_dict`; raises `UserError` where `content` is not a calibration."""
        names = [field.name for field in fields(cls)]
        later = ("at_recall70", "at_mcc", "prevalence", "between")
        needed = [name for name in names if name not in later]
        if not set(needed) <= set(content) <= set(names):
            raise UserError(
                f"calibration must hold the keys {', '.join(needed)}, and of others only {', '.join(later)}, "
                f"but holds {', '.join(content)}"
            )
        if content["temperature"] <= 0 or content["criterion"] not in get_args(Criterion):
            raise UserError(
                f"calibration needs a temperature above 0 and a criterion of {', '.join(get_args(Criterion))}, "
                f"but has {content['temperature']} and '{content['criterion']}'"
            )
        between = content.get("between")
        return cls(**{**content, "between": BetweenLines(**between) if between else None})


def negative_log_likelihood(labels: ArrayLike, logits: ArrayLike) -> float:
    """Mean Bernoulli NLL in nats of `labels` (n,) 0/1 under `logits` (n,), without overflow."""
    z = np.asarray(logits, dtype=np.float64)
    return float(np.mean(np.logaddexp(0.0, z) - np.asarray(labels, dtype=np.float64) * z))


def fit_temperature(labels: ArrayLike, logits: ArrayLike) -> float:
    """T > 0 that minimises NLL(logits / T); 1 where nothing is better than the identity."""
    z = np.asarray(logits, dtype=np.float64)
    reach = np.log(MAX_TEMPERATURE)
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(labels, z / np.exp(log_t)),
        bounds=(-reach, reach),
        method="bounded",
        options={"xatol": 1e-7},
    )
    return float(np.exp(found.x)) if found.fun < negative_log_likelihood(labels, z) else 1.0


def fit_platt(labels: ArrayLike, logits: ArrayLike) -> tuple[float, float]:
    """(T, bias) that minimise NLL(logits / T + bias), T > 0; never worse than `fit_temperature` alone."""
    y, z = np.asarray(labels, dtype=np.float64), np.asarray(logits, dtype=np.float64)
    start = fit_temperature(y, z)

    def value_and_gradient(slope_bias: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scaled = slope_bias[0] * z + slope_bias[1]
        error = expit(scaled) - y
        return negative_log_likelihood(y, scaled), np.array([np.mean(error * z), np.mean(error)])

    bounds = [(1 / MAX_TEMPERATURE, MAX_TEMPERATURE), (None, None)]
    found = minimize(
        value_and_gradient, np.array([1 / start, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-12
    )
    better = np.isfinite(found.x).all() and found.fun < negative_log_likelihood(y, z / start)
    return (float(1 / found.x[0]), float(found.x[1])) if better else (start, 0.0)


def fit_calibration(labels: ArrayLike, logits: ArrayLike, settings: CalibrationSettings | None = None) -> Calibration:
    """Calibration of validation pairs: `labels` (n,) 0/1, `logits` (n,) finite.

    Raises `UserError` where the pairs hold one class only.
    """
    settings = settings or CalibrationSettings()
    if not has_both_classes(labels):
        raise UserError(
            f"the {np.size(labels)} validation pairs do not hold both labels, so no threshold can be chosen; "
            "choose a validation line with interacting and non-interacting pairs"
        )
    temperature, bias = fit_platt(labels, logits) if settings.bias else (fit_temperature(labels, logits), 0.0)
    scaled = Calibration(temperature, bias)
    p = scaled.apply(logits)
    threshold = choose_threshold(labels, p, settings.criterion)
    at_mcc = threshold if settings.criterion == "mcc" else choose_threshold(labels, p, "mcc")
    at_recall = threshold_at_recall(labels, p, RECALL)
    prevalence = float(np.mean(np.asarray(labels) == 1))
    return Calibration(temperature, bias, threshold, settings.criterion, at_recall, at_mcc, prevalence)


Counts = NDArray[np.float64]


def _mcc(tp: Counts, predicted: Counts, positives: float, n: float) -> Counts:
    spread = np.sqrt(predicted * (n - predicted) * positives * (n - positives))
    return np.divide(n * tp - predicted * positives, spread, out=np.zeros_like(spread), where=spread > 0)


def _f1(tp: Counts, predicted: Counts, positives: float, n: float) -> Counts:
    return 2 * tp / (predicted + positives)


def _break_even(tp: Counts, predicted: Counts, positives: float, n: float) -> Counts:
    # precision - recall = tp (1/predicted - 1/positives); with no true positive both are 0, which balances nothing
    return np.where(tp > 0, -np.abs(tp / predicted - tp / positives), -np.inf)


CRITERIA: dict[Criterion, Callable[[Counts, Counts, float, float], Counts]] = {
    "mcc": _mcc,
    "f1": _f1,
    "break_even": _break_even,
}
"""What each criterion maximises, given true positives and predicted positives of every cut."""


def choose_threshold(labels: ArrayLike, probabilities: ArrayLike, criterion: Criterion = "mcc") -> float:
    """Threshold t of the rule p >= t that is best by `criterion` on `labels` (n,) 0/1 and `probabilities` (n,).

    Every cut between two distinct probabilities is tried; t is the middle of the best gap, the higher one of equals.
    """
    p, y, ends = _cuts(labels, probabilities)
    predicted = (ends + 1).astype(np.float64)
    value = CRITERIA[criterion](np.cumsum(y)[ends], predicted, float(y.sum()), float(p.size))
    return _behind(p, int(ends[np.argmax(value)]))


def threshold_at_recall(labels: ArrayLike, probabilities: ArrayLike, recall: float) -> float:
    """Highest threshold t of the rule p >= t that finds at least `recall` of the positives; arguments as above.

    t is the middle of its gap, as in `choose_threshold`. `labels` hold at least one 1.
    """
    p, y, ends = _cuts(labels, probabilities)
    # Rounding must not ask for one more: 0.7 * 10 is 7.000000000000001 in some orders of arithmetic.
    enough = np.cumsum(y)[ends] >= recall * y.sum() - 1e-9
    return _behind(p, int(ends[np.argmax(enough)]))


def _cuts(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Counts, Counts, NDArray[np.int64]]:
    """Probabilities and labels from the highest down, and the last place of each distinct probability."""
    p = np.asarray(probabilities, dtype=np.float64)
    order = np.argsort(-p, kind="stable")
    p, y = p[order], np.asarray(labels, dtype=np.float64)[order]
    return p, y, np.append(np.flatnonzero(np.diff(p)), p.size - 1)


def _behind(p: Counts, best: int) -> float:
    """A threshold between `best` of the falling probabilities and the next one."""
    if best == p.size - 1:
        return float(p[best])
    middle = (p[best] + p[best + 1]) / 2
    # between neighbouring floats the middle may round down onto the value that must stay out
    return float(middle if middle > p[best + 1] else p[best])


def brier_score(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean of (p - y)^2 (Brier 1950) of `probabilities` (n,) and `labels` (n,) 0/1; NaN without pairs."""
    error = np.asarray(probabilities, dtype=np.float64) - np.asarray(labels, dtype=np.float64)
    return float(np.mean(error**2)) if error.size else float("nan")


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = 15, binning: Binning = "width"
) -> float:
    """Weighted mean over bins of |mean p - mean y|, bins on p = P(y=1) (algorithms.md 9); NaN without pairs.

    `width` cuts [0, 1] equally; `mass` cuts at the quantiles of p, and equal probabilities share a bin.
    """
    table = reliability(labels, probabilities, bins, binning)
    if not table.size:
        return float("nan")
    mean_p, mean_y, weight = table
    return float(np.sum(weight * np.abs(mean_p - mean_y)) / weight.sum())


def reliability(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = 15, binning: Binning = "width"
) -> NDArray[np.float64]:
    """(3, filled bins): mean probability, observed frequency and number of pairs of each bin that is not empty."""
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if not p.size:
        return np.empty((3, 0))
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    edges = inner if binning == "width" else np.unique(np.quantile(p, inner))
    member = np.searchsorted(edges, p, side="right")
    weight = np.bincount(member, minlength=bins).astype(np.float64)
    filled = weight > 0
    sums = [np.bincount(member, weights=values, minlength=bins)[filled] / weight[filled] for values in (p, y)]
    return np.stack([*sums, weight[filled]])
