"""What is measured at an epoch's end: the validation line, and figures that only monitors read.

The validation score decides about stopping; beside it stand the threshold metrics, what the environment adds to U_I,
what a support set of the wrong line would do, the training lines' own figures and a fresh probe's view of z_I.
Cost: one scoring of the validation pairs, and `scoring.monitor_pairs` pairs twice for the rest (0: not at all).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from data_pipeline.episodes import Fold
from data_pipeline.store import Store
from evaluation.calibration import expected_calibration_error, fit_calibration
from evaluation.candidates import equal_prevalence_precision, within_precision
from evaluation.leakage import read_line
from evaluation.line_views import with_invariants
from evaluation.metrics import average_precision, has_both_classes, ranking_metrics, threshold_metrics
from evaluation.scoring import Gather, Scorer
from evaluation.settings import AsksForScores
from model.episode_model import EpisodeModel

SCORE = "valid/average_precision"
"""The figure that early stopping and the choice of the best checkpoint go by."""
CALIBRATION_ERROR = "valid/calibration_error"
"""Expected calibration error of the raw logits on the validation line; no calibration has been fitted to them."""
WRONG_LINES = 4
"""Most training lines whose support sets stand in for the right one: a single one may resemble the validation line."""


def environment_can_rank(model: EpisodeModel) -> bool:
    """Whether an environment can change the ranking inside a line at all (algorithms.md 0.1)."""
    return model.settings.energy.channels > 1 or _looks_at_the_pair(model)


def has_environment(model: EpisodeModel) -> bool:
    """Whether anything of the line or of the pair's signals in it enters the energy."""
    with_line = model.settings.environment.encoder != "none"
    return with_line or _looks_at_the_pair(model)


def _looks_at_the_pair(model: EpisodeModel) -> bool:
    return any(part is not None for part in (model.local, model.attention, model.profile))


def gain_under_one_support(
    labels: NDArray[Any], logits: NDArray[Any], neutral: NDArray[Any], alike: NDArray[np.bool_]
) -> float:
    """Lead in average precision of one draw's logits (n,) over U_I (n,) on the pairs that its first support serves.

    0 for a model whose environment cannot rank. Other pairs are served by another support, so have another offset.
    """
    return average_precision(labels[alike], logits[alike]) - average_precision(labels[alike], neutral[alike])


def validation_figures(
    labels: NDArray[Any],
    logits: NDArray[Any],
    neutral: NDArray[Any],
    ranks: bool,
    enhancers: NDArray[Any] | None = None,
) -> dict[str, float]:
    """Figures of one line's pairs: labels (n,) 0/1, logits (n,) and U_I (n,); `ranks` as `environment_can_rank`.

    `enhancers` (n,) say whose candidate a pair is; without them two figures are left out.

    Threshold metrics are at the threshold chosen on these very pairs (R108), which is the one evaluation freezes.
    """
    found = ranking_metrics(labels, logits)
    figures = {
        SCORE: found["ap"],
        "valid/auroc": found["auroc"],
        "valid/prevalence": found["prevalence"],
        "valid/logit_sd": float(np.std(logits)),
        CALIBRATION_ERROR: expected_calibration_error(labels, expit(logits)),
        "valid/neutral_average_precision": average_precision(labels, neutral),
    }
    if enhancers is not None:
        figures["valid/eq_average_precision"] = equal_prevalence_precision(labels, logits, enhancers)
        figures["valid/within_enhancer_precision"] = within_precision(labels, logits, enhancers)
    gain = found["ap"] - figures["valid/neutral_average_precision"]
    figures["valid/environment_gain" if ranks else "valid/environment_gain_of_one_channel"] = gain
    if has_both_classes(labels):
        calibration = fit_calibration(labels, logits)
        at = threshold_metrics(labels, calibration.apply(logits), calibration.threshold)
        figures |= {f"valid/{name}": at[name] for name in ("f1", "recall", "precision", "mcc")}
        # The alarm is about a scale that temperature alone leaves, so the Platt bias is taken out again.
        figures["valid/threshold"] = float(expit(logit(calibration.threshold) - calibration.bias))
    return figures


def epoch_figures(
    model: EpisodeModel,
    store: Store,
    fold: Fold,
    settings: AsksForScores,
    rows: NDArray[np.int64],
    share: tuple[int, int, Gather],
) -> dict[str, float]:
    """All figures of an epoch's end; `rows` are the validation pairs, `share` as in `Scorer.score_line`; collective."""
    scorer = Scorer(model, store, settings.support_in_use, settings.scoring)
    pool = fold.rows(store, fold.valid_line)
    scores = scorer.score_line(rows, pool, settings.scoring.support_draws, 0, share)
    labels, logits = store.pairs.label[rows], scores.logits.mean(axis=1)
    ranks = environment_can_rank(model)
    figures = validation_figures(labels, logits, scores.neutral, ranks, store.pairs.enhancer[rows])
    if not ranks:
        gain = gain_under_one_support(labels, scores.logits[:, 0], scores.neutral, scores.alike)
        figures["valid/environment_gain_of_one_channel"] = gain
    most = settings.scoring.monitor_pairs
    if most:
        figures |= _training_figures(scorer, fold, most, share)
        figures["gap"] = figures["train/average_precision"] - figures[SCORE]
        if ranks:
            part = _thin(np.arange(len(rows)), most)
            figures["valid/context_gain"] = _context_gain(scorer, fold, rows[part], scores.logits[part, 0], share)
    return {name: value for name, value in figures.items() if math.isfinite(value) or name == SCORE}


def _context_gain(
    scorer: Scorer, fold: Fold, rows: NDArray[np.int64], right: NDArray[Any], share: tuple[int, int, Gather]
) -> float:
    """Lead in average precision of logits `right` (n,) over those under support sets of training lines.

    Mean over lines spread evenly over the fold's, each on pairs of its own, so that several cost what one would. NaN
    where no line's pairs have both classes.
    """
    labels, lines = scorer.store.pairs.label[rows], fold.train_lines
    chosen = _thin(np.arange(len(lines)), WRONG_LINES)
    leads = []
    for place, index in enumerate(chosen):
        own = slice(place, None, len(chosen))
        if not has_both_classes(labels[own]):
            continue
        wrong = scorer.score_line(rows[own], fold.rows(scorer.store, lines[index]), 1, 0, share).logits[:, 0]
        leads.append(average_precision(labels[own], right[own]) - average_precision(labels[own], wrong))
    return float(np.mean(leads)) if leads else math.nan


def _training_figures(scorer: Scorer, fold: Fold, most: int, share: tuple[int, int, Gather]) -> dict[str, float]:
    """Macro ranking figures over a sample of the training lines' pairs, and what a probe finds in their z_I."""
    store, lines = scorer.store, fold.train_lines
    codes, line_of, promoters = [], [], []
    judged: list[dict[str, float]] = []
    for index, line in enumerate(lines):
        pool = fold.rows(store, line, "train")
        rows = _thin(pool[store.pairs.label[pool] >= 0], max(most // len(lines), 1))
        scores, invariant = with_invariants(scorer, rows, pool, 0, share)
        judged.append(training_line_figures(store.pairs.label[rows], scores.logits[:, 0]))
        codes.append(invariant)
        line_of.append(np.full(len(rows), index))
        promoters.append(store.pairs.promoter[rows])
    figures = {f"train/{name}": _mean_of_known([own[name] for own in judged]) for name in judged[0]}
    if len(lines) > 1:
        found = read_line(np.concatenate(codes), np.concatenate(line_of), np.concatenate(promoters))
        figures |= {"leakage/above_chance": found.above_chance, "leakage/nats": found.nats}
    return figures


def training_line_figures(labels: NDArray[Any], logits: NDArray[Any]) -> dict[str, float]:
    """Ranking of one training line's pairs: labels (n,) 0/1, logits (n,), and F1 at the threshold best for them."""
    found = ranking_metrics(labels, logits)
    figures = {"average_precision": found["ap"], "auroc": found["auroc"], "f1": math.nan}
    if has_both_classes(labels):
        calibration = fit_calibration(labels, logits)
        figures["f1"] = threshold_metrics(labels, calibration.apply(logits), calibration.threshold)["f1"]
    return figures


def _mean_of_known(values: list[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _thin(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)] if len(rows) else rows
