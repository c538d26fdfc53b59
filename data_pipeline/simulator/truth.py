"""What the best possible scores are on a simulated store, and where its truth is stored.

Per line: the Bayes-optimal score (the true probability), the best scores that may not know the line, and distance
alone; where there is a marker, also the true logit without it and the one that trusts it as in the first lines. A
line's value of the environment is the gap between the first two: no model that ignores the support set can
have it. The environment-blind optimum is the best, in expectation over labels, of four readings of "line unknown"
(the true gains replaced by 1, by their mean over the other lines, and the posterior means of logit and probability
over the other lines given the pair's elements), each also without the marker, so the gap is never overstated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score

from data_pipeline.simulator.settings import SimulatorSettings
from data_pipeline.simulator.world import Elements, Environments, Floats, Pairs, free_logit
from data_pipeline.store import Columns, Store, StoreWriter


def line_truths(
    settings: SimulatorSettings, names: list[str], environments: Environments, pairs: Pairs
) -> dict[str, dict[str, Any]]:
    """For each line: pairs, prevalence, bias, noise floor (nats) and the reachable average precisions and AUROC.

    A figure that needs both labels is None for a line that has only one.
    """
    truths = {}
    for line, name in enumerate(names):
        rows = pairs.line == line
        label, p = pairs.label[rows], pairs.probability[rows]
        scores = blind_scores(settings, environments, pairs, line)
        blind = max(scores, key=lambda key: expected_average_precision(p, scores[key]))
        reachable = {"bayes": p, "environment_blind": scores[blind], "distance": -pairs.distance[rows]}
        if settings.nuisance.on:
            marker, tie = pairs.marker[rows], environments.tie[line]
            reachable["without_marker"] = pairs.logit[rows] - tie * marker
            reachable["trusting_marker"] = pairs.logit[rows] + (settings.nuisance.tie - tie) * marker
        both = 0 < label.sum() < len(label)
        truths[name] = {
            "pairs": len(label),
            "prevalence": round(float(label.mean()), 6),
            "bias": round(float(pairs.bias[line]), 6),
            "bayes_log_loss": round(float(-np.mean(p * np.log(p) + (1.0 - p) * np.log1p(-p))), 6),
            "bayes_auroc": round(float(roc_auc_score(label, p)), 6) if both else None,
            "environment_blind_score": blind,
        } | {
            f"{key}_average_precision": round(float(average_precision_score(label, score)), 6) if both else None
            for key, score in reachable.items()
        }
    return truths


def expected_average_precision(probability: Floats, score: Floats) -> float:
    """Average precision of `score` (n,) when every pair counts as `probability` positives: labels' luck removed.

    No score exceeds the probability itself.
    """
    label = np.repeat([1, 0], len(score))
    weight = np.concatenate([probability, 1.0 - probability])
    return float(average_precision_score(label, np.tile(score, 2), sample_weight=weight))


def blind_scores(settings: SimulatorSettings, environments: Environments, pairs: Pairs, line: int) -> dict[str, Floats]:
    """Scores (n,) of the pairs of `line` that use the sequences, the distance and the other lines, never this line."""
    rows = pairs.line == line
    others = np.flatnonzero(np.arange(settings.lines) != line)
    match, distance = pairs.match[rows], pairs.distance[rows]
    logits = np.stack([free_logit(match, distance, environments.gain[other], settings) for other in others], axis=1)
    share = pairs.use[np.ix_(rows, others)]
    share = share / share.sum(axis=1, keepdims=True)
    scores = {"gains of one": free_logit(match, distance, np.ones(settings.factors), settings)}
    scores |= _over_lines(logits, share, pairs.bias[others])
    if settings.nuisance.on:
        marked = logits + np.outer(pairs.marker[rows], environments.tie[others])
        scores |= {f"{name}, with marker": s for name, s in _over_lines(marked, share, pairs.bias[others]).items()}
    return scores


def _over_lines(logits: Floats, share: Floats, bias: Floats) -> dict[str, Floats]:
    """What (n, C) logits say on average over C lines of posterior `share` (n, C) and `bias` (C,)."""
    return {
        "mean gains": logits.mean(axis=1),
        "posterior mean logit": (share * logits).sum(axis=1),
        "posterior mean probability": (share * expit(logits + bias)).sum(axis=1),
    }


def add_truth(
    writer: StoreWriter, pwm: Floats, environments: Environments, enhancers: Elements, promoters: Elements, pairs: Pairs
) -> None:
    """Store what is known: `factors` (pwm flattened), `lines`, `enhancers`, `promoters`, `pairs`, row for row."""
    lines = {name: getattr(environments, name) for name in ("latent", "activity", "gain")} | {"bias": pairs.bias}
    columns = {"logit": pairs.logit, "probability": pairs.probability, "match": pairs.match}
    if environments.tie.any():
        lines |= {"tie": environments.tie, "marker_use": environments.marker_use}
        columns |= {"marker": pairs.marker}
    writer.add_truth("factors", {"pwm": pwm.reshape(len(pwm), -1)})
    writer.add_truth("lines", lines)
    writer.add_truth("enhancers", {"motifs": enhancers.present})
    writer.add_truth("promoters", {"motifs": promoters.present})
    writer.add_truth("pairs", columns)


def read_truth(store: Store, table: str) -> Columns:
    """A truth table of a simulated `store`: one of factors, lines, enhancers, promoters, pairs (see `add_truth`).

    Two-dimensional columns come back as float32. Raises `ValueError` for a store without that truth.
    """
    files = sorted(name for name in store.manifest.files if name.startswith(f"truth/{table}/"))
    if not files:
        raise ValueError(f"store {store.path} holds no truth table '{table}'; only simulated stores do")
    return Columns([store.path / name for name in files])
