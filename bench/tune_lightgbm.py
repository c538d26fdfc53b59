"""Tune LightGBM, the rival on the same numbers as the model, once and on training lines only; write its settings.

    python bench/tune_lightgbm.py --store stores/real_signals --line GM12878 --line HeLa-S3    # an hour on two cores

Every line given is left out in turn, and of it every fold of chromosomes: the trees learn from the other lines outside
these chromosomes and rank the line's pairs within them, as the model is judged. A trial's score is the mean average
precision over (line, fold); Optuna's TPE seeks the best of --trials. The first trial is the file as it is, so what is
written is never worse by this score than what was there. Lines that are tested later must not be given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated

import numpy as np
import optuna
import typer
from numpy.typing import NDArray
from rich.console import Console
from ruamel.yaml import YAML

from data_pipeline.durable import write_durably
from data_pipeline.errors import UserError, command_line
from data_pipeline.settings import load
from data_pipeline.store import Store
from evaluation import average_precision
from evaluation.rivals import BOOSTING, BoostingSettings, PairData, boosted_logits, pair_data

FEWEST_POSITIVES = 5
"""A (line, fold) with fewer has no average precision to speak of and is left out."""


@dataclass(frozen=True)
class Split:
    """Training and test rows (k,), (n,) of one line and fold of chromosomes left out."""

    line: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]


def chromosome_folds(chromosomes: NDArray[np.int64], folds: int) -> list[NDArray[np.int64]]:
    """Codes of chromosomes in `folds` groups of about as many pairs: largest first, each into the smallest group."""
    codes, counts = np.unique(chromosomes, return_counts=True)
    groups: list[list[int]] = [[] for _ in range(min(folds, codes.size))]
    sizes = np.zeros(len(groups))
    for place in np.argsort(-counts, kind="stable"):
        smallest = int(np.argmin(sizes))
        groups[smallest].append(int(codes[place]))
        sizes[smallest] += counts[place]
    return [np.array(group) for group in groups]


def splits(pairs: PairData, chromosomes: NDArray[np.int64], lines: list[str], folds: int) -> Iterator[Split]:
    """Each of `lines` (coded 0..C-1 in `pairs.line`) and each fold of chromosomes (N,) left out together."""
    known = pairs.known()
    for code, line in enumerate(lines):
        for held in chromosome_folds(chromosomes[known], folds):
            inside = np.isin(chromosomes, held)
            train = np.flatnonzero(known & (pairs.line != code) & ~inside)
            test = np.flatnonzero(known & (pairs.line == code) & inside)
            enough = min(np.sum(pairs.labels[test] == 1), np.sum(pairs.labels[test] == 0)) >= FEWEST_POSITIVES
            if enough and np.unique(pairs.labels[train]).size == 2:
                yield Split(line, train, test)


def suggested(trial: optuna.Trial, threads: int) -> BoostingSettings:
    """The settings of a trial, one seed each."""
    return BoostingSettings(
        num_leaves=trial.suggest_int("num_leaves", 4, 64, log=True),
        min_data_in_leaf=trial.suggest_int("min_data_in_leaf", 20, 1000, log=True),
        learning_rate=trial.suggest_float("learning_rate", 0.01, 0.2, log=True),
        rounds=trial.suggest_int("rounds", 50, 600, log=True),
        lambda_l2=trial.suggest_float("lambda_l2", 0.1, 100.0, log=True),
        feature_fraction=trial.suggest_float("feature_fraction", 0.3, 1.0),
        bagging_fraction=trial.suggest_float("bagging_fraction", 0.4, 1.0),
        seeds=1,
        threads=threads,
    )


def main(
    store: Annotated[Path, typer.Option(help="Store with signals.")],
    line: Annotated[list[str], typer.Option(help="Training line, at least two; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Settings to start from and to write.")] = BOOSTING,
    trials: Annotated[int, typer.Option(help="Settings tried.", min=1)] = 40,
    folds: Annotated[int, typer.Option(help="Folds of chromosomes.", min=2)] = 5,
    seed: Annotated[int, typer.Option(help="Of the search.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads of a fit.", min=1)] = 1,
) -> None:
    """Tune LightGBM on training lines and write its settings."""
    opened = Store.open(store)
    if unknown := [own for own in line if own not in opened.lines]:
        raise UserError(f"store {store} has no line '{unknown[0]}'; its lines are {', '.join(opened.lines)}")
    if len(set(line)) < 2:
        raise UserError("give two lines or more with --line: each is left out once and the others are learnt from")
    codes = [opened.lines.index(own) for own in line]
    rows = np.flatnonzero(np.isin(opened.pairs.line, codes))
    pairs = pair_data(opened, rows)
    place = {code: index for index, code in enumerate(codes)}
    pairs.line[:] = [place[code] for code in pairs.line.tolist()]
    features = np.column_stack([pairs.signals, pairs.log_distance()]).astype(np.float32)
    asked = list(splits(pairs, opened.promoters.chrom[opened.pairs.promoter[rows]].astype(np.int64), line, folds))
    if not asked:
        raise UserError(f"store {store} has too few labelled pairs of {', '.join(line)} to leave a line and a fold out")

    def score(trial: optuna.Trial) -> float:
        own = suggested(trial, threads)
        found = []
        for step, split in enumerate(asked):
            logits = boosted_logits(features[split.train], pairs.labels[split.train], features[split.test], own)
            found.append(average_precision(pairs.labels[split.test], logits))
            trial.report(float(np.mean(found)), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(found))

    before = load(BoostingSettings, [out])
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2),
    )
    study.enqueue_trial(before.model_dump(exclude={"seeds", "threads"}))
    study.optimize(score, n_trials=trials, show_progress_bar=True)
    best = before.model_copy(update=study.best_params)
    write_settings(best, out, study, opened, line, len(asked))
    Console().print(f"{study.best_value:.4f} by trial {study.best_trial.number} (before: {study.trials[0].value:.4f})")


def write_settings(
    best: BoostingSettings, out: Path, study: optuna.Study, store: Store, lines: list[str], splits: int
) -> None:
    """Write `best` to `out` with a head that says where it comes from."""
    text = StringIO()
    YAML().dump(best.model_dump(), text)
    head = (
        "# LightGBM, the rival on the same numbers as the model, tuned once on training lines by "
        "bench/tune_lightgbm.py:\n"
        f"# {', '.join(lines)} of store {store.checksum[:12]}, {splits} (line, chromosome fold) left out, "
        f"{len(study.trials)} trials;\n"
        f"# mean average precision {study.best_value:.4f} (trial {study.best_trial.number}; "
        f"the settings before: {study.trials[0].value:.4f}).\n"
    )
    write_durably(out, head + text.getvalue())


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    command_line(app)
