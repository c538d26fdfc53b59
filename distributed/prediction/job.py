"""One prediction: a model, a store of pairs and a way to run, to a table of scores and a record of how it was made.

Labels are not read and the store is not written to. The table and the record become visible when all is written.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from rich.console import Console

from data_pipeline.durable import write_durably
from data_pipeline.episodes import SupportSize
from data_pipeline.errors import UserError
from data_pipeline.settings import Settings
from data_pipeline.store import Store
from distributed.prediction.answers import Answers
from distributed.prediction.batch_scoring import Job, Supports, plan_supports, score_pairs
from distributed.prediction.deployment import Deployment, ModelDescription
from distributed.prediction.executors import Executor
from distributed.prediction.matched_store import MatchedStore
from distributed.prediction.prevalence_shift import ShiftedTables
from distributed.prediction.score_table import SCHEMA, ScoreTable, TableWriter, schema
from evaluation import ScoringSettings


class PredictionSettings(Settings):
    """How pairs are scored."""

    draws: int = Field(5, ge=1, le=100)
    """D, support sets per pair; the score is the mean over them, the interval their smallest and largest."""
    support: int = Field(0, ge=0, le=4096)
    """m, pairs per support set; 0: as many as the line gives, up to the bound of the model."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Chooses the supports."""
    explain: bool = False
    """Whether the table also has what adds up to each logit."""
    prevalence_shift: bool = False
    """Whether probabilities are shifted to the prevalence that a line's scores suggest, with a band between lines."""


def predict(
    deployment: Deployment,
    store_path: Path,
    lines: Sequence[str],
    out: Path,
    work: Path,
    settings: PredictionSettings,
    executor: Executor,
    console: Console,
) -> int:
    """Score the pairs of `lines` (none: all) of a store into the table `out`; returns the number of its rows.

    `work` is a new folder that all workers see; its name is used once, because workers remember it. Raises `UserError`
    where the store does not fit the model or a line has too few pairs.
    """
    model = deployment.description
    store = MatchedStore.of(store_path.resolve(), model)
    print_match(store, model, console)
    rows = select_rows(store, lines)
    size = SupportSize.exactly(settings.support) if settings.support else model.support_in_use
    supports = plan_supports(store, rows, size, settings.draws, settings.seed)
    job = Job(work.resolve(), store.path, ScoringSettings(support_draws=settings.draws), explain=settings.explain)
    own = schema(model.model.energy.channels if settings.explain else 0)
    table = ScoreTable(store, model.calibration)
    answers = Answers(store, rows, settings.draws, len(own) - len(SCHEMA))
    shift = ShiftedTables(model.calibration, work) if settings.prevalence_shift else None
    with TableWriter(out, own) as writer:
        scores = score_pairs(deployment, store, supports, job, executor)
        tables = (table.rows(answers.after(scored)) for scored in scores)
        for shown in tables if shift is None else shift.of(tables):
            writer.write(shown)
        _write_record(out, store, model, supports, settings, answers.count, shift)
    return answers.count


def select_rows(store: Store, lines: Sequence[str]) -> NDArray[np.int64]:
    """Rows (k,) of the pairs of `lines` (none: all) in the store's order; raises `UserError` for an unknown line."""
    for line in lines:
        if line not in store.lines:
            raise UserError(f"store {store.path} has no line '{line}'; its lines are {', '.join(store.lines)}")
    codes = [store.lines.index(line) for line in lines] or range(len(store.lines))
    rows = np.flatnonzero(np.isin(store.pairs.line, list(codes)))
    if len(rows) == 0:
        raise UserError(f"store {store.path} has no pairs of {', '.join(lines)}; give a line that has some")
    return rows


def print_match(store: MatchedStore, model: ModelDescription, console: Console) -> None:
    """Say what the model expects and the store lacks."""
    notes = []
    if store.missing_tracks:
        notes.append(f"signal tracks taken as missing, because the input has none: {', '.join(store.missing_tracks)}")
    if store.unused_tracks:
        notes.append(f"signal tracks not used, because the model was trained without: {', '.join(store.unused_tracks)}")
    if store.missing_line_features:
        notes.append("line features taken as missing, because the input has none")
    if not (store.manifest.build and model.build):
        unsaid = "the pairs" if model.build else "the model" if store.manifest.build else "pairs and model"
        notes.append(f"the genome build of {unsaid} is not told, so whether the two agree is not checked")
    if model.calibration is None:
        notes.append(
            "no probabilities: the model has no calibration; run evaluate.py --run "
            f"{shlex.quote(f'runs/{model.origin.run}')} first"
        )
    for note in notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False)


def _write_record(
    out: Path,
    store: Store,
    model: ModelDescription,
    supports: Supports,
    settings: PredictionSettings,
    answers: int,
    shift: ShiftedTables | None,
) -> None:
    sizes = {store.lines[store.pairs.line[own[0]]]: len(own) for own in supports.sets}
    record: dict[str, Any] = {
        "rows": answers,
        "pairs": len(supports.rows),
        "lines": sorted(sizes),
        "store": store.checksum,
        "model": {"checksum": model.checksum, **model.origin.model_dump()},
        "calibration": model.calibration.model_dump() if model.calibration else None,
        "support": sizes,
        "draws": settings.draws,
        "seed": settings.seed,
        "prevalence_shift": shift.record() if shift else None,
    }
    write_durably(out.with_name(f"{out.name}.json"), json.dumps(record, indent=1).encode())
