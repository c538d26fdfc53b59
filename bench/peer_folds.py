"""Signals-only model on the genome-wide pairs of the peers, with their chromosome folds, beside gradient boosting.

    python bench/peer_folds.py --store stores/real_signals --out bench/results/peer_folds.json    # 10 runs

Trained on GM12878 and HeLa-S3 outside a fold's chromosomes, tested on IMR90 and NHEK within them: an unseen line and
unseen chromosomes. While one of the two is tested the other chooses the epoch. Gradient boosting sees the same signals,
distance and pairs. TransEPI's figures are quoted from its supplementary table S3 (same pairs and folds); they were not
measured here. Intervals are cluster-bootstrap percentiles over chromosomes, differences use the same draws.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from data_pipeline.errors import command_line
from data_pipeline.settings import load
from distributed.fold_evaluation import Group, open_run, pair_data, predict_groups
from distributed.fold_training import train
from distributed.settings import RunSettings
from evaluation import (
    average_precision,
    average_precision_draws,
    cluster_ids,
    draw_clusters,
    interval,
    paired_difference,
    score_baselines,
)

FOLDS = (
    ("chr1", "chr10", "chr15", "chr21"),
    ("chr19", "chr3", "chr4", "chr7", "chrX"),
    ("chr13", "chr17", "chr2", "chr22", "chr9"),
    ("chr12", "chr14", "chr16", "chr18", "chr20"),
    ("chr11", "chr5", "chr6", "chr8"),
)
LINES = {"IMR90": "NHEK", "NHEK": "IMR90"}
"""Test line -> the line that chooses the epoch meanwhile."""
TRANSEPI = {"IMR90": 0.583, "NHEK": 0.440}


def fold_scores(store: Path, runs: Path, line: str, fold: int, overrides: list[str]) -> pd.DataFrame:
    """Train (or find trained) one fold; its test pairs with label, fold, promoter cluster and scores."""
    options = {
        "fold.test_line": line,
        "fold.valid_line": LINES[line],
        "fold.train_lines": ["GM12878", "HeLa-S3"],
        "fold.test_regions": list(FOLDS[fold]),
        "fold.valid_fraction": 0,
    }
    settings = load(RunSettings, ["configs/train/signals.yaml"], overrides, options)
    name = f"{line}-fold{fold + 1}"
    trained = open_run(train(settings, store, runs, name, resume=(runs / name).exists()))
    rows = trained.fold.rows(trained.store, line, "test")
    group = Group(line, "test", "unseen_line/unseen_chrom", rows)
    scored = predict_groups(trained.model, trained.store, trained.fold, [group], trained.settings)
    train_rows = np.concatenate([trained.fold.rows(trained.store, own, "train") for own in trained.fold.train_lines])
    rivals, _ = score_baselines(pair_data(trained.store, train_rows), pair_data(trained.store, rows))
    promoters = trained.store.promoters
    promoter = trained.store.pairs.promoter[rows]
    return scored[["line", "label", "logit", "u"]].assign(
        fold=fold + 1,
        cluster=cluster_ids(promoters.chrom[promoter], promoter),
        chrom=promoters.chrom[promoter],
        boosting=rivals["boosting"],
        distance=rivals["distance"],
    )


def figures(scores: pd.DataFrame) -> dict[str, Any]:
    """Average precision of each score: mean over folds, and over all folds' pairs with intervals."""
    labels, draws = scores["label"].to_numpy(), draw_clusters(scores["chrom"].to_numpy())
    result: dict[str, Any] = {"pairs": len(scores), "prevalence": float(labels.mean())}
    for name in ("logit", "boosting", "distance"):
        folds = [
            average_precision(part["label"].to_numpy(), part[name].to_numpy()) for _, part in scores.groupby("fold")
        ]
        ranks = scores.groupby("fold")[name].rank(pct=True).to_numpy()
        result[name] = {
            "mean_over_folds": float(np.mean(folds)),
            "folds": [float(value) for value in folds],
            "pooled_ranks": average_precision(labels, ranks),
            "interval": interval(average_precision_draws(labels, ranks, draws), draws),
        }
        scores = scores.assign(**{f"rank_{name}": ranks})
    own, rival = scores["rank_logit"].to_numpy(), scores["rank_boosting"].to_numpy()
    difference = paired_difference(labels, own, rival, draws)
    result["over_boosting"] = {
        "difference": result["logit"]["pooled_ranks"] - result["boosting"]["pooled_ranks"],
        "interval": interval(difference, draws),
    }
    return result


def main(
    store: Annotated[Path, typer.Option(help="Store made from configs/stores/real_signals.yaml.")],
    out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the runs; finished ones are not repeated.")] = Path(
        "runs/peers"
    ),
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as key.sub=value.")] = None,
) -> None:
    """Train the ten folds and print average precision beside the rivals'."""
    results, table = {}, Table(title="Average precision, unseen line and unseen chromosomes", title_justify="left")
    for name in (
        "test line",
        "pairs",
        "prevalence",
        "prism-epi",
        "boosting",
        "difference",
        "distance",
        "TransEPI (quoted)",
    ):
        table.add_column(name)
    for line in LINES:
        parts = [fold_scores(store, runs, line, fold, overrides or []) for fold in range(len(FOLDS))]
        found = results[line] = figures(pd.concat(parts, ignore_index=True))
        low, high = found["over_boosting"]["interval"]
        table.add_row(
            line,
            f"{found['pairs']:,}",
            f"{found['prevalence']:.3f}",
            *(f"{found[name]['mean_over_folds']:.3f}" for name in ("logit", "boosting")),
            f"{found['over_boosting']['difference']:+.3f} [{low:+.3f}, {high:+.3f}]",
            f"{found['distance']['mean_over_folds']:.3f}",
            f"{TRANSEPI[line]:.3f}",
        )
    Console(width=120).print(table)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    command_line(app)
