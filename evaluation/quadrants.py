"""The evaluation table: every metric per cell line and quadrant, pooled, and as macro mean over lines.

A row is a plain dict. Groups are (role, quadrant, line), so a validation line never mixes with a test line; `pooled`
rows score all lines of a (role, quadrant) as one set, `macro` rows are means over its lines with a t-interval (C-1
degrees of freedom). The calibration, threshold included, is an argument: it is fitted by `calibrate_on_validation`,
which reads rows of role `valid` only (algorithms.md 9, T9.4). Intervals of a line are cluster-bootstrap percentiles,
and differences to the rivals (U_I alone and the baselines) use the same draws as the model. Where predictions say whose
candidate a pair is (`enhancer`, `gene`), the figures of `candidates` stand beside average precision.
Cost: about 0.2 s per 20,000 pairs, score vector and kind of average precision at 1000 draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import expit

from data_pipeline.errors import UserError
from data_pipeline.settings import Settings
from evaluation.calibration import (
    Calibration,
    CalibrationSettings,
    brier_score,
    expected_calibration_error,
    fit_calibration,
)
from evaluation.candidates import (
    equal_prevalence_weights,
    groups_with_both_classes,
    within_precision,
    within_precision_draws,
)
from evaluation.intervals import (
    ClusterDraws,
    auroc_draws,
    average_precision_draws,
    draw_clusters,
    interval,
    matthews_draws,
    paired_difference,
)
from evaluation.metrics import (
    RANKING_METRICS,
    THRESHOLD_METRICS,
    average_precision,
    ranking_metrics,
    summarise_lines,
    threshold_metrics,
)

QUADRANTS = (
    "unseen_line/unseen_chrom",
    "unseen_line/seen_chrom",
    "seen_line/unseen_chrom",
    "seen_line/seen_chrom",
)
"""In the order of tables: the question of the product first."""

ROLES = ("test", "valid", "train")
COLUMNS = ("line", "quadrant", "role", "label", "logit", "cluster")
"""What predictions must hold; `u` (neutral energy), `logit_draw_*` and `baseline_*` are used where present, and so are
`enhancer` and `gene`, codes >= 0 of whose candidate a pair is."""

GROUPS = {"within_enhancer_ap": "enhancer", "within_gene_ap": "gene"}
"""Figure -> column of the predictions within whose groups it is taken."""

NEUTRAL = "U_I only"
"""Name of the neutral energy among the rivals: the model with its environment put out, not trained to stand alone."""
NO_ENVIRONMENT = "no environment"
"""Name of a model trained without environment among the rivals: what an environment adds is the lead over it."""

_CALIBRATION_ERRORS = ("ece_before", "ece_after", "ece_mass_after", "brier")
_AVERAGED = (
    "prevalence",
    *RANKING_METRICS,
    "eq_ap",
    *GROUPS,
    *THRESHOLD_METRICS,
    *_CALIBRATION_ERRORS,
    "ap_support_sd",
    "bayes_ap",
)
_LEAD = ("ap", "difference", "low", "high")

Row = dict[str, Any]


class EvaluationSettings(Settings):
    """How predictions are turned into a table."""

    draws: int = Field(default=1000, ge=50, le=100_000)
    """Bootstrap draws per interval."""
    seed: int = Field(default=0, ge=0)
    """Seed of the bootstrap draws; equal seeds pair the draws of two runs on the same pairs."""
    bins: int = Field(default=15, ge=2, le=1000)
    """Bins of the calibration error."""


def known_predictions(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows of `predictions` with a known label (0 or 1); raises `UserError` for a missing column or wrong value."""
    missing = [name for name in COLUMNS if name not in predictions]
    if missing:
        raise UserError(f"predictions lack the columns {', '.join(missing)}; they need {', '.join(COLUMNS)}")
    for name, allowed in (("quadrant", QUADRANTS), ("role", ROLES)):
        wrong = sorted(set(predictions[name]) - set(allowed))
        if wrong:
            raise UserError(f"column {name} of the predictions holds '{wrong[0]}'; it may hold {', '.join(allowed)}")
    known = predictions[predictions["label"].isin([0, 1])]
    if not np.isfinite(known["logit"].to_numpy(dtype=np.float64)).all():
        raise UserError(
            "predictions hold logits that are not finite: the model diverged; evaluate an earlier checkpoint"
        )
    return known


def rivals(predictions: pd.DataFrame) -> dict[str, str]:
    """{name: column} of what the model is compared with: U_I alone first, then the baselines."""
    found = {NEUTRAL: "u"} if "u" in predictions else {}
    prefix = "baseline_"
    return found | {name.removeprefix(prefix): name for name in predictions if str(name).startswith(prefix)}


def calibrate_on_validation(predictions: pd.DataFrame, settings: CalibrationSettings | None = None) -> Calibration:
    """The calibration of the rows of role `valid`, the only rows read; `UserError` where they do not suffice."""
    valid = known_predictions(predictions[predictions["role"] == "valid"])
    return fit_calibration(valid["label"].to_numpy(), valid["logit"].to_numpy(), settings)


def evaluate_lines(
    predictions: pd.DataFrame,
    calibration: Calibration,
    settings: EvaluationSettings,
    bayes: Mapping[str, float] | None = None,
) -> list[Row]:
    """One row per (role, quadrant, line) of `predictions`; `bayes` gives the best possible AP of a line where known."""
    rows = []
    for (role, quadrant), part in _parts(predictions):
        for line, group in part.groupby("line", observed=True, sort=True):
            head = {"role": role, "quadrant": quadrant, "line": str(line)}
            best = (bayes or {}).get(str(line), float("nan"))
            rows.append(head | evaluate_group(group, calibration, settings) | {"bayes_ap": best})
    return rows


def evaluate_pooled(predictions: pd.DataFrame, calibration: Calibration, settings: EvaluationSettings) -> list[Row]:
    """One row per (role, quadrant) that has more than one line, all its pairs scored as one set."""
    return [
        {"role": role, "quadrant": quadrant, "line": "pooled"}
        | evaluate_group(part, calibration, settings)
        | {"bayes_ap": float("nan")}
        for (role, quadrant), part in _parts(predictions)
        if part["line"].nunique() > 1
    ]


def macro_rows(lines: list[Row]) -> list[Row]:
    """Mean over the lines of each (role, quadrant) of `evaluate_lines`, with worst line and t-interval of AP."""
    keys = list(dict.fromkeys((row["role"], row["quadrant"]) for row in lines))
    return [_macro_row(role, quadrant, _members(lines, role, quadrant)) for role, quadrant in keys]


def evaluate_group(group: pd.DataFrame, calibration: Calibration, settings: EvaluationSettings) -> Row:
    """All metrics of one set of pairs with known labels: the row without its name."""
    labels, logits = group["label"].to_numpy(dtype=np.int8), group["logit"].to_numpy(dtype=np.float64)
    p = calibration.apply(logits)
    draws = draw_clusters(group["cluster"].to_numpy(), settings.draws, settings.seed)
    row: Row = ranking_metrics(labels, logits) | threshold_metrics(labels, p, calibration.threshold)
    row["clusters"] = len(draws.counts)
    row["ap_low"], row["ap_high"] = interval(average_precision_draws(labels, logits, draws), draws)
    candidates = {figure: _candidates_of(group, column) for figure, column in GROUPS.items()}
    enhancers = candidates["within_enhancer_ap"]
    weights = _equal_weights(labels, enhancers)
    row["eq_ap"], row["eq_ap_low"], row["eq_ap_high"] = _weighted(labels, logits, weights, draws)
    for figure, owners in candidates.items():
        row |= _within(figure, labels, logits, owners, draws)
    row["auroc_low"], row["auroc_high"] = interval(auroc_draws(labels, logits, draws), draws)
    matthews = matthews_draws(calibration.threshold)
    row["mcc_low"], row["mcc_high"] = interval(matthews(labels, p, draws), draws)
    row["ece_before"] = expected_calibration_error(labels, expit(logits), settings.bins)
    row["ece_after"] = expected_calibration_error(labels, p, settings.bins)
    row["ece_mass_after"] = expected_calibration_error(labels, p, settings.bins, "mass")
    row["brier"] = brier_score(labels, p)
    row["ap_support_sd"] = _support_sd(group, labels)
    row["logit_sd"] = float(logits.std())
    scores = {name: group[column].to_numpy(dtype=np.float64) for name, column in rivals(group).items()}
    row["rivals"] = {
        name: _compare(labels, logits, score, draws, weights)
        | {"within_enhancer_ap": _within_precision(labels, score, enhancers)}
        for name, score in scores.items()
    }
    return row


def _parts(predictions: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    groups = dict(iter(predictions.groupby(["role", "quadrant"], observed=True)))
    keys = [(role, quadrant) for role in ROLES for quadrant in QUADRANTS]
    return [(key, groups[key]) for key in keys if key in groups]


def _members(rows: list[Row], role: str, quadrant: str) -> list[Row]:
    return [row for row in rows if row["role"] == role and row["quadrant"] == quadrant]


def _support_sd(group: pd.DataFrame, labels: NDArray[np.int8]) -> float:
    columns = [name for name in group if str(name).startswith("logit_draw_")]
    if len(columns) < 2:
        return float("nan")
    return float(np.std([average_precision(labels, group[name].to_numpy()) for name in columns], ddof=1))


def _candidates_of(group: pd.DataFrame, column: str) -> NDArray[np.int64] | None:
    """(n,) codes of whose candidate a pair is, an enhancer (gene) of one line; None where predictions do not say."""
    return group.groupby(["line", column], observed=True).ngroup().to_numpy() if column in group else None


def _equal_weights(labels: NDArray[np.int8], enhancers: NDArray[np.int64] | None) -> NDArray[np.float64] | None:
    """(n,) weights of the eq average precision; None where predictions do not say whose candidates pairs are."""
    return None if enhancers is None else equal_prevalence_weights(labels, enhancers)


def _weighted(
    labels: NDArray[np.int8], logits: NDArray[np.float64], weights: NDArray[np.float64] | None, draws: ClusterDraws
) -> tuple[float, float, float]:
    if weights is None:
        return float("nan"), float("nan"), float("nan")
    low, high = interval(average_precision_draws(labels, logits, draws, weights), draws)
    return average_precision(labels, logits, weights), low, high


def _within(
    figure: str,
    labels: NDArray[np.int8],
    logits: NDArray[np.float64],
    owners: NDArray[np.int64] | None,
    draws: ClusterDraws,
) -> Row:
    """The figure, its interval, and the number of groups that it is the mean of."""
    keys = (figure, f"{figure}_low", f"{figure}_high", _counted(figure))
    if owners is None:
        return dict(zip(keys, (float("nan"), float("nan"), float("nan"), 0), strict=True))
    low, high = interval(within_precision_draws(labels, logits, owners, draws), draws)
    values = _within_precision(labels, logits, owners), low, high, groups_with_both_classes(labels, owners)
    return dict(zip(keys, values, strict=True))


def _counted(figure: str) -> str:
    return f"{figure.removesuffix('_ap')}_groups"


def _within_precision(labels: NDArray[np.int8], scores: NDArray[np.float64], owners: NDArray[np.int64] | None) -> float:
    if owners is None or not np.isfinite(scores).all():
        return float("nan")
    return within_precision(labels, scores, owners)


def _compare(
    labels: NDArray[np.int8],
    logits: NDArray[np.float64],
    scores: NDArray[np.float64],
    draws: ClusterDraws,
    weights: NDArray[np.float64] | None,
) -> dict[str, float]:
    """A rival's AP and the model's lead over it, plain and eq; all NaN where the rival left a pair without a score."""
    plain = _lead(labels, logits, scores, draws, None)
    equal = dict.fromkeys(_LEAD, float("nan")) if weights is None else _lead(labels, logits, scores, draws, weights)
    return plain | {f"eq_{name}": value for name, value in equal.items()}


def _lead(
    labels: NDArray[np.int8],
    logits: NDArray[np.float64],
    scores: NDArray[np.float64],
    draws: ClusterDraws,
    weights: NDArray[np.float64] | None,
) -> dict[str, float]:
    if not np.isfinite(scores).all():
        return dict.fromkeys(_LEAD, float("nan"))
    ap = average_precision(labels, scores, weights)
    metric = partial(average_precision_draws, weights=weights)
    low, high = interval(paired_difference(labels, logits, scores, draws, metric), draws)
    return {"ap": ap, "difference": average_precision(labels, logits, weights) - ap, "low": low, "high": high}


def _macro_row(role: str, quadrant: str, lines: list[Row]) -> Row:
    names = [row["line"] for row in lines]
    row: Row = {"role": role, "quadrant": quadrant, "line": "macro", "n": sum(line["n"] for line in lines)}
    row |= {name: summarise_lines([line[name] for line in lines], names).mean for name in _AVERAGED}
    ap = summarise_lines([line["ap"] for line in lines], names)
    row |= {"ap_low": ap.low, "ap_high": ap.high, "lines": ap.lines, "worst_ap": ap.worst, "worst_line": ap.worst_line}
    for name in ("eq_ap", *GROUPS):
        summary = summarise_lines([line[name] for line in lines], names)
        row |= {f"{name}_low": summary.low, f"{name}_high": summary.high}
    row |= {_counted(name): sum(line[_counted(name)] for line in lines) for name in GROUPS}
    row["rivals"] = {}
    for name in lines[0]["rivals"]:
        rival = {key: [line["rivals"][name][key] for line in lines] for key in lines[0]["rivals"][name]}
        means = {key: summarise_lines(values, names).mean for key, values in rival.items()}
        for prefix in ("", "eq_"):
            lead = summarise_lines(rival[f"{prefix}difference"], names)
            means |= {f"{prefix}low": lead.low, f"{prefix}high": lead.high}
        row["rivals"][name] = means
    return row
