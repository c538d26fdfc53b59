"""Score every line and quadrant of a trained fold and put the report together (the work of distributed/evaluate.py).

Temperature, bias and threshold are chosen on the validation line and frozen; then the test line, the training lines on
held-out chromosomes and a sample of the training pairs are scored on the road training used.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.console import Console
from tqdm import tqdm

from data_pipeline.durable import write_durably
from data_pipeline.episodes import Fold, Zone, resolve_fold
from data_pipeline.errors import UserError
from data_pipeline.settings import validate
from data_pipeline.store import Store
from distributed.assembly import unfitted_module
from distributed.run_folder import (
    ALARMS,
    EPOCHS,
    STEPS,
    TrainingState,
    best_checkpoint,
    load_checkpoint,
    read_lines,
    read_record,
    read_records,
)
from distributed.settings import RunSettings
from distributed.verification import verify_run
from evaluation import (
    NEUTRAL,
    NO_ENVIRONMENT,
    PAGE,
    EvaluationSettings,
    Scorer,
    build_report,
    calibrate_on_validation,
    cluster_ids,
    environment_can_rank,
    has_environment,
    known_predictions,
    render,
    spread_between_lines,
    training_curves,
    training_findings,
    view_lines,
    write_report,
)
from evaluation.line_page import RANGES, freeze_ranges
from evaluation.page import Figure
from evaluation.rivals import gene_codes, pair_data, score_rivals
from model.episode_model import EpisodeModel

CURVES = {
    "Loss": ["loss/total", "loss/task"],
    "Temperature": ["temperature"],
    "Gates": ["gate/mean", "gate/sd"],
}


@dataclasses.dataclass(frozen=True)
class Group:
    """Pairs of one line in one quadrant."""

    line: str
    role: str
    quadrant: str
    rows: NDArray[np.int64]


def groups_of(store: Store, fold: Fold, most: int) -> list[Group]:
    """The groups a fold is judged on, each thinned evenly to `most` labelled pairs; empty ones are left out."""
    wanted: list[tuple[str, str, Zone]] = [
        (fold.test_line, "test", "test"),
        (fold.test_line, "test", "train"),
        (fold.valid_line, "valid", fold.choosing_zone),
        *[(line, "test", "test") for line in fold.train_lines],
        *[(line, "train", "train") for line in fold.train_lines],
    ]
    # Where stretches alone separate a line's roles, what it was trained on is no test, and its test is asked once.
    wanted = [
        entry for entry in dict.fromkeys(wanted) if entry[1:] != ("test", "train") or entry[0] not in fold.train_lines
    ]
    groups = []
    for line, role, zone in wanted:
        rows = fold.rows(store, line, zone)
        rows = rows[store.pairs.label[rows] >= 0]
        if len(rows):
            thinned = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]
            groups.append(Group(line, role, fold.quadrant(line, zone), thinned))
    return groups


def predict_groups(
    model: EpisodeModel, store: Store, fold: Fold, groups: list[Group], settings: RunSettings
) -> pd.DataFrame:
    """One row per pair: what `quadrants` needs, a logit per support draw, and `alike` as in `LineScores`."""
    parts, genes = [], gene_codes(store.promoters)
    with tqdm(desc="score pairs", unit="pair") as bar:
        scorer = Scorer(model, store, settings.support_in_use, settings.scoring, bar.update)
        for group in groups:
            pool = fold.rows(store, group.line)
            scores = scorer.score_line(group.rows, pool, settings.scoring.support_draws, seed=1)
            draws = {f"logit_draw_{draw}": scores.logits[:, draw] for draw in range(scores.logits.shape[1])}
            parts.append(
                pd.DataFrame(
                    {
                        "row": group.rows,
                        "line": group.line,
                        "role": group.role,
                        "quadrant": group.quadrant,
                        "enhancer": store.pairs.enhancer[group.rows],
                        "promoter": store.pairs.promoter[group.rows],
                        "gene": genes[store.pairs.promoter[group.rows]],
                        "label": store.pairs.label[group.rows],
                        "logit": scores.logits.mean(axis=1),
                        "u": scores.neutral,
                        "alike": scores.alike,
                        **draws,
                    }
                )
            )
    predictions = pd.concat(parts, ignore_index=True)
    predictions["cluster"] = -1
    for _, part in predictions.groupby(["role", "quadrant"]):
        promoter = store.pairs.promoter[part["row"]]
        predictions.loc[part.index, "cluster"] = cluster_ids(store.promoters.chrom[promoter], promoter)
    return predictions


def load_model(checkpoint: Path, store: Store, fold: Fold) -> tuple[EpisodeModel, TrainingState]:
    """The model of a checkpoint on the CPU or the GPU that is there, and its state."""
    tensors, _, state = load_checkpoint(checkpoint)
    module = unfitted_module(store, fold, validate(RunSettings, state.settings, str(checkpoint)))
    module.load_state_dict(tensors)
    return module.model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), state


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """The best checkpoint of a run, ready to be asked."""

    settings: RunSettings
    store: Store
    fold: Fold
    checkpoint: Path
    model: EpisodeModel
    state: TrainingState


def open_run(run: Path) -> TrainedRun:
    """Load the best checkpoint of `run` with its store; raises `UserError` where the store is another one by now."""
    record = read_record(run)
    store = Store.open(Path(record.store))
    if store.checksum != record.store_checksum:
        raise UserError(f"store {record.store} is not the one that run {run} was trained on; restore it or train again")
    settings = validate(RunSettings, record.settings, f"{run}/run.json")
    fold = resolve_fold(store, settings.fold)
    checkpoint = best_checkpoint(run)
    model, state = load_model(checkpoint, store, fold)
    return TrainedRun(settings, store, fold, checkpoint, model, state)


def verified(trained: TrainedRun, beside: Sequence[Path], search: Path | None) -> list[dict[str, Any]]:
    """What became of R90-R93 in this run, with the gates of the runs `beside` it and the trials of a search."""
    store, gates = trained.store, []
    for run in beside:
        other = open_run(run)
        if other.store.checksum != store.checksum:
            raise UserError(f"run {run} was trained on another store; --beside takes runs of the same store")
        gates += [view.drive for view in view_lines(other.model, store, other.fold, other.settings, pairs=50, draws=20)]
    return verify_run(view_lines(trained.model, store, trained.fold, trained.settings), gates, store, search)


def opened_without_environment(run: Path, beside: TrainedRun) -> TrainedRun:
    """The model of `run`, trained on the store and fold of `beside` without an environment; raises `UserError`."""
    other = open_run(run)
    if other.store.checksum != beside.store.checksum:
        raise UserError(f"run {run} was trained on another store; --without-environment takes a run of the same store")
    if other.fold.identity != beside.fold.identity:
        raise UserError(
            f"run {run} was trained on another fold (lines or stretches of genome); --without-environment takes a run "
            "of the same fold"
        )
    if has_environment(other.model):
        raise UserError(
            f"run {run} has an environment; train the model without one by adding --config "
            "configs/train/no_environment.yaml to the same command"
        )
    return other


def what_the_environment_adds(settings: RunSettings, without: Path | None) -> str:
    """The sentence that says what may be read from the rivals about the environment."""
    if without is not None:
        return (
            f"what the environment adds is the lead over '{NO_ENVIRONMENT}', a model trained without one ({without}); "
            f"'{NEUTRAL}' is this model with its environment put out"
        )
    dropout = settings.model.environment.context_dropout
    trained = (
        f"which it was in one training episode of {1 / dropout:.3g} (context_dropout {dropout:g})"
        if dropout
        else "untrained to stand alone (context_dropout 0)"
    )
    return (
        f"this report does not say what the environment adds: '{NEUTRAL}' is this model with its environment put out, "
        f"{trained}, and weaker than a model trained without one can be; give such a run with --without-environment"
    )


def evaluate(
    run: Path,
    out: Path,
    settings: EvaluationSettings,
    most: int,
    console: Console,
    beside: Sequence[Path] = (),
    search: Path | None = None,
    without: Path | None = None,
) -> None:
    """Evaluate the best checkpoint of `run` and write the report to `out`; `beside`, `search` as in `verified`.

    `without` is a run without environment that stands beside the model as a rival.
    """
    trained = open_run(run)
    model, store, fold = trained.model, trained.store, trained.fold
    # Before anything is scored, so that a wrong run costs nothing.
    other = None if without is None else opened_without_environment(without, trained)
    groups = groups_of(store, fold, most)
    predictions = predict_groups(model, store, fold, groups, trained.settings)
    if other is not None:
        alone = predict_groups(other.model, store, fold, groups, other.settings)
        predictions[f"baseline_{NO_ENVIRONMENT}"] = alone["logit"]
    train_rows = np.concatenate([fold.rows(store, line, "train") for line in fold.train_lines])
    scores, left_out = score_rivals(pair_data(store, train_rows), pair_data(store, predictions["row"].to_numpy()))
    for name, values in scores.items():
        predictions[f"baseline_{name}"] = values
    frozen = calibrate_on_validation(predictions)
    calibration = dataclasses.replace(frozen, between=spread_between_lines(known_predictions(predictions)))
    with tqdm(desc="ranges of lines", unit="pair") as bar:
        scorer = Scorer(model, store, trained.settings.support_in_use, trained.settings.scoring, bar.update)
        ranges = freeze_ranges(scorer, fold, trained.settings.scoring.support_draws, calibration, most)
    bayes = {line: truth["bayes_average_precision"] for line, truth in store.manifest.truth.get("lines", {}).items()}
    learnt = {name.removeprefix("energy/"): float(value) for name, value in model.energy.report().items()}
    context = {"run": str(run), "learnt": learnt, "checkpoint": trained.checkpoint.name, "step": trained.state.step,
               "store": store.checksum, "regions": fold.regions, "settings": trained.state.settings}  # fmt: skip
    report = build_report(
        predictions,
        calibration,
        settings,
        bayes or None,
        left_out,
        context,
        environment_can_rank(model),
        training_findings(read_lines(run / ALARMS)),
        verified(trained, beside, search),
        protocol(trained.settings),
        what_the_environment_adds(trained.settings, without) if has_environment(model) else "",
    )
    out.mkdir(parents=True, exist_ok=True)
    write_durably(out / "predictions.parquet", predictions.to_parquet())
    write_durably(out / "calibration.json", json.dumps(calibration.to_dict(), indent=1).encode())
    write_durably(out / RANGES, ranges.model_dump_json())
    write_report(report, predictions, out, _curves(run))
    render(report, console)
    console.print(f"report     {out / PAGE}")


def protocol(settings: RunSettings) -> str:
    """What a model of these settings is told about a line: results are comparable within one protocol only (C9)."""
    environment, m = settings.model.environment, settings.support_in_use.most
    if environment.encoder in ("none", "features"):
        return "no support; of a line the model knows its pairs' elements and signals and its own features alone"
    if environment.labelled_support:
        return (
            f"FEW-LABEL; of every line, the test line too, the model reads {m} pairs with their labels (never that of "
            f"the pair it scores) in each of {settings.scoring.support_draws} support draws: not to be compared with "
            "results of the unlabelled protocol"
        )
    return f"unlabelled; of a line the model reads up to {m} pairs at a time without their labels"


def _curves(run: Path) -> list[Figure]:
    """What the run recorded, drawn; empty where it recorded nothing."""
    steps, epochs = read_records(run / STEPS), read_records(run / EPOCHS)
    if steps.empty:
        return []
    panels = {title: [name for name in names if name in steps] for title, names in CURVES.items()}
    panels["Bias and couplings"] = [str(name) for name in steps if str(name).startswith("energy/")]
    if not epochs.empty:
        scores = [name for name in ("valid/average_precision", "train/average_precision") if name in epochs]
        steps = steps.merge(epochs[["step", *scores]], on="step", how="outer")
        panels = {"Average precision": scores, **panels}
    return [training_curves(steps, panels)]
