"""Signals-only model on the genome-wide pairs of the peers, with their chromosome folds, beside rivals tuned as well.

    python bench/peer_folds.py --store stores/real_context --seeds 3 --out bench/results/peer_folds.json  # 30 runs
    python bench/peer_folds.py --store stores/real_context --rivals-only                                  # trains none

Trained on GM12878 and HeLa-S3 outside a fold's chromosomes, tested on IMR90 and NHEK within them: an unseen line and
unseen chromosomes. While one of the two is tested the other chooses the epoch. `model` is the mean logit over the
seeds, an ensemble; `seed S` is each alone. LightGBM (settings: configs/rivals/lightgbm.yaml) sees the same numbers and
pairs; `LightGBM base` not the columns of context; `LightGBM smoothed` is averaged over neighbouring pairs, as the
model is. TransEPI is quoted: average precision from its supplementary table
S3, eq from its own prediction files; same pairs and folds, not measured here.

AP is the mean over folds, eq the mean over folds of the eq average precision (evaluation/candidates.py), pooled the AP
of all folds' pairs by their rank within the fold, within the mean over enhancers. Intervals are percentiles of a paired
bootstrap that draws chromosomes within folds. Finished runs are not repeated.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from data_pipeline.episodes import Fold, resolve_fold
from data_pipeline.errors import command_line
from data_pipeline.settings import load
from data_pipeline.store import Store
from distributed.crew import Crew
from distributed.fold_evaluation import Group, open_run, predict_groups
from distributed.fold_training import train
from distributed.settings import RunSettings
from evaluation import (
    ClusterDraws,
    ScoringSettings,
    average_precision,
    average_precision_draws,
    draw_clusters,
    equal_prevalence_precision,
    equal_prevalence_weights,
    interval,
    smoothed,
    within_precision,
)
from evaluation.rivals import RIVALS, NotApplicable, gene_codes, pair_data, signal_boosting, without_context

FOLDS = (
    ("chr1", "chr10", "chr15", "chr21"),
    ("chr19", "chr3", "chr4", "chr7", "chrX"),
    ("chr13", "chr17", "chr2", "chr22", "chr9"),
    ("chr12", "chr14", "chr16", "chr18", "chr20"),
    ("chr11", "chr5", "chr6", "chr8"),
)
LINES = {"IMR90": "NHEK", "NHEK": "IMR90"}
"""Test line -> the line that chooses the epoch meanwhile."""
TRANSEPI = {"IMR90": {"ap": 0.583, "eq": 0.574}, "NHEK": {"ap": 0.440, "eq": 0.328}}
MODEL, BOOSTED, SMOOTHED, BASE = "model", "LightGBM", "LightGBM smoothed", "LightGBM base"
SIMPLE = ("ABC", "activity x distance", "nearest gene", "within 100 kb", "distance")
"""Rivals beside the trees, by their names in the registry; `distance` is fitted, to one number."""
SEED = "seed "

Measure = Callable[[pd.DataFrame, str], float]
Draws = Callable[[pd.DataFrame, str, ClusterDraws], NDArray[np.float64]]


@dataclass(frozen=True)
class Asked:
    """How the model is trained."""

    config: str
    overrides: list[str]
    crew: Crew
    """Workers that stay from run to run."""


def settings_of(line: str, fold: int, seed: int, asked: Asked) -> RunSettings:
    """Settings of the run that is tested on `line` within the chromosomes of `fold`."""
    options = {
        "fold.test_line": line,
        "fold.valid_line": LINES[line],
        "fold.train_lines": ["GM12878", "HeLa-S3"],
        "fold.test_regions": list(FOLDS[fold]),
        "fold.valid_fraction": 0,
        "train.seed": seed,
    }
    return load(RunSettings, [asked.config], asked.overrides, options)


def model_logits(store: Path, runs: Path, line: str, fold: int, seed: int, asked: Asked) -> pd.DataFrame:
    """Train (or find trained) one seed of one fold; its test pairs in the fold's order with `logit`."""
    # Seed 0 has the name that runs had when there was one seed, so that finished ones are still found.
    name = f"{line}-fold{fold + 1}" + (f"-seed{seed}" if seed else "")
    settings = settings_of(line, fold, seed, asked)
    trained = open_run(train(settings, store, runs, name, resume=(runs / name).exists(), by=asked.crew.fit))
    rows = trained.fold.rows(trained.store, line, "test")
    group = Group(line, "test", "unseen_line/unseen_chrom", rows)
    return predict_groups(trained.model, trained.store, trained.fold, [group], trained.settings)


def rival_scores(store: Store, fold: Fold, scoring: ScoringSettings) -> dict[str, NDArray[np.float64]]:
    """Scores of the test pairs by LightGBM, on all numbers and on those of the pairs alone, and by simple rivals."""
    train_rows = np.concatenate([fold.rows(store, own, "train") for own in fold.train_lines])
    known, asked = pair_data(store, train_rows), pair_data(store, fold.rows(store, fold.test_line, "test"))
    scores = {BOOSTED: signal_boosting(known, asked)}
    if scoring.smooth_enhancer or scoring.smooth_promoter:
        rows, reach = fold.rows(store, fold.test_line, "test"), (scoring.smooth_enhancer, scoring.smooth_promoter)
        scores[SMOOTHED] = smoothed(store, rows, scores[BOOSTED].astype(np.float32), *reach).astype(np.float64)
    bare = without_context(asked)
    same = bare.signal_names == asked.signal_names
    scores[BASE] = scores[BOOSTED] if same else signal_boosting(without_context(known), bare)
    for name in SIMPLE:
        with suppress(NotApplicable):
            scores[name] = RIVALS[name](known, asked)
    return scores


def pairs_of(store: Store, rows: NDArray[np.int64], fold: int) -> pd.DataFrame:
    """What `figures` needs of the test pairs `rows` (k,) beside their scores; `fold` counts from 0."""
    promoter = store.pairs.promoter[rows]
    return pd.DataFrame(
        {
            "fold": fold + 1,
            "label": store.pairs.label[rows],
            "enhancer": store.pairs.enhancer[rows],
            "gene": gene_codes(store.promoters)[promoter],
            "chrom": store.promoters.chrom[promoter],
        }
    )


def fold_scores(store: Path, runs: Path, line: str, fold: int, seeds: int, asked: Asked) -> pd.DataFrame:
    """The test pairs of one fold with label, enhancer, gene, chromosome and a column per score; 0 seeds: no model."""
    opened = Store.open(store)
    settings = settings_of(line, fold, 0, asked)
    resolved = resolve_fold(opened, settings.fold)
    pairs = pairs_of(opened, resolved.rows(opened, line, "test"), fold)
    own = {
        f"{SEED}{seed}": model_logits(store, runs, line, fold, seed, asked)["logit"].to_numpy(np.float64)
        for seed in range(seeds)
    }
    ensemble = {MODEL: np.mean(list(own.values()), axis=0)} if own else {}
    scored = pairs.assign(**ensemble, **own, **rival_scores(opened, resolved, settings.scoring))
    return scored[scored["label"] >= 0].reset_index(drop=True)


def precision_of(part: pd.DataFrame, name: str) -> float:
    """Average precision of score `name` in one fold."""
    return average_precision(part["label"].to_numpy(), part[name].to_numpy())


def equal_precision_of(part: pd.DataFrame, name: str) -> float:
    """The eq average precision of score `name` in one fold."""
    return equal_prevalence_precision(part["label"].to_numpy(), part[name].to_numpy(), part["enhancer"].to_numpy())


def precision_draws_of(part: pd.DataFrame, name: str, draws: ClusterDraws, equal: bool = False) -> NDArray[np.float64]:
    """(draws,) average precision of score `name` in one fold, plain or eq."""
    labels = part["label"].to_numpy()
    weights = equal_prevalence_weights(labels, part["enhancer"].to_numpy()) if equal else None
    return average_precision_draws(labels, part[name].to_numpy(), draws, weights)


MEASURES: dict[str, tuple[Measure, Draws]] = {
    "ap": (precision_of, precision_draws_of),
    "eq": (equal_precision_of, partial(precision_draws_of, equal=True)),
}
"""Mean over folds of a measure of a fold, and the same in bootstrap draws."""


def figures(scores: pd.DataFrame, draws: int = 1000) -> dict[str, Any]:
    """All figures of one test line from `fold_scores` of its folds."""
    labels = scores["label"].to_numpy()
    fixed = {"fold", "label", "enhancer", "gene", "chrom"}
    names = [str(name) for name in scores if name not in fixed]
    folds = [part for _, part in scores.groupby("fold")]
    # Chromosomes lie in one fold each, and are drawn within it: a draw then has all folds.
    drawn = [draw_clusters(part["chrom"].to_numpy(), draws, seed) for seed, part in enumerate(folds)]
    result: dict[str, Any] = {"pairs": len(scores), "prevalence": float(labels.mean()), "scores": {}, "model_minus": {}}
    in_draws: dict[tuple[str, str], NDArray[np.float64]] = {}
    for name in names:
        ranks = scores.groupby("fold")[name].rank(pct=True).to_numpy()
        own: dict[str, Any] = {
            "pooled": average_precision(labels, ranks),
            "within_enhancer": within_precision(labels, ranks, scores["enhancer"].to_numpy()),
            "within_gene": within_precision(labels, ranks, scores["gene"].to_numpy()),
        }
        for measure, (of_fold, draws_of_fold) in MEASURES.items():
            values = [of_fold(part, name) for part in folds]
            in_draws[measure, name] = np.mean(
                [draws_of_fold(part, name, own_draws) for part, own_draws in zip(folds, drawn, strict=True)], axis=0
            )
            own |= {measure: float(np.mean(values)), f"{measure}_folds": values}
            own[f"{measure}_interval"] = interval(in_draws[measure, name], drawn[0])
        result["scores"][name] = own
    if MODEL in names:
        for rival in [own for own in (BOOSTED, SMOOTHED, BASE, "ABC") if own in names]:
            result["model_minus"][rival] = {
                measure: {
                    "difference": result["scores"][MODEL][measure] - result["scores"][rival][measure],
                    "interval": interval(in_draws[measure, MODEL] - in_draws[measure, rival], drawn[0]),
                }
                for measure in MEASURES
            }
    return result


def rows_of(line: str, found: dict[str, Any]) -> list[list[str]]:
    """Rows of the printed table: one per score, then TransEPI's."""
    rows = []
    for name, own in found["scores"].items():
        lead = found["model_minus"].get(name, {})
        leads = [f"{lead[own]['difference']:+.3f} [{', '.join(f'{end:+.3f}' for end in lead[own]['interval'])}]"
                 if own in lead else "" for own in MEASURES]  # fmt: skip
        values = [own["ap"], own["pooled"], own["eq"], own["within_enhancer"], own["within_gene"]]
        rows.append([line, name, *(f"{value:.3f}" for value in values), *leads])
    quoted = TRANSEPI.get(line)
    if quoted:
        rows.append([line, "TransEPI (quoted)", f"{quoted['ap']:.3f}", "", f"{quoted['eq']:.3f}", "", "", "", ""])
    return rows


def main(
    store: Annotated[Path, typer.Option(help="Store made from configs/stores/real_context.yaml.")],
    out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the runs; finished ones are not repeated.")] = Path(
        "runs/peers"
    ),
    seeds: Annotated[int, typer.Option(help="Seeds per fold, 0, 1, ...; their mean logit is the model.", min=1)] = 1,
    config: Annotated[str, typer.Option(help="Preset of the runs.")] = "configs/train/context.yaml",
    rivals_only: Annotated[bool, typer.Option("--rivals-only", help="Train nothing; the rivals' figures.")] = False,
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as key.sub=value.")] = None,
) -> None:
    """Train the folds and print average precision, plain and eq, beside the rivals'."""
    asked = Asked(config, overrides or [], Crew(runs / "workers"))
    count = 0 if rivals_only else seeds
    results = {}
    table = Table(title="Unseen line and unseen chromosomes; AP and eq are means over folds", title_justify="left")
    for name in ("test line", "score", "AP", "pooled", "eq", "within enhancer", "within gene", "model: AP", "eq "):
        table.add_column(name)
    for line in LINES:
        parts = [fold_scores(store, runs, line, fold, count, asked) for fold in range(len(FOLDS))]
        results[line] = figures(pd.concat(parts, ignore_index=True)) | {"transepi_quoted": TRANSEPI[line]}
        for row in rows_of(line, results[line]):
            table.add_row(*row)
        table.add_section()
    asked.crew.close()
    Console(width=150).print(table)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    command_line(app)
