"""One prediction: a model, a store of pairs and a way to run, to a table of scores and a record of how it was made.

Labels are not read and the store is not written to. The table and the record become visible when all is written.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field
from rich.console import Console

from data_pipeline.durable import write_durably
from data_pipeline.episodes import SupportSize
from data_pipeline.errors import UserError
from data_pipeline.settings import Settings
from data_pipeline.store import Store
from distributed.formats import (
    Batch,
    Catalogue,
    Format,
    Outputs,
    Subject,
    opened,
    require_calibration,
    require_threshold,
)
from distributed.prediction.answers import Answers
from distributed.prediction.background import Signals, background_of, no_signals
from distributed.prediction.batch_scoring import Job, Scored, Supports, plan_supports, score_pairs
from distributed.prediction.deployment import Deployment, ModelDescription
from distributed.prediction.executors import Executor
from distributed.prediction.explanation import explained
from distributed.prediction.matched_store import MatchedStore
from distributed.prediction.prevalence_shift import ShiftedTables
from distributed.prediction.score_table import ScoreTable
from evaluation import ScoringSettings, smoothed


class PredictionSettings(Settings):
    """How pairs are scored."""

    draws: int = Field(5, ge=1, le=100)
    """D, support sets per pair; the score is the mean over them, the interval their smallest and largest."""
    support: int = Field(0, ge=0, le=4096)
    """m, pairs per support set; 0: as many as the line gives, up to the bound of the model."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Chooses the supports."""
    explain: bool = False
    """Whether the table also has what each logit is made of."""
    prevalence_shift: bool = False
    """Whether probabilities are shifted to the prevalence that a line's scores suggest, with a band between lines."""
    threshold: str = ""
    """At which probability a pair is called: `recall70`, `mcc`, a number, or nothing for the model's own."""


def predict(
    deployment: Deployment,
    store_path: Path,
    lines: Sequence[str],
    outputs: Outputs,
    work: Path,
    settings: PredictionSettings,
    executor: Executor,
    console: Console,
    signals: Signals = no_signals,
) -> int:
    """Score the pairs of `lines` (none: all) of a store into the files of `outputs`; returns the number of rows.

    `work` is a new folder that all workers see; its name is used once, because workers remember it. `signals` gives
    the tracks that loci are drawn with. Raises `UserError` where the store does not fit the model or the formats, a
    gene is not there, or a line has too few pairs.
    """
    model = deployment.description
    store = MatchedStore.of(store_path.resolve(), model)
    print_match(store, model, console)
    rows = select_rows(store, lines)
    threshold = threshold_in_use(model, settings.threshold)
    columns = explained(model) if settings.explain else []
    catalogue = Catalogue.of(store)
    table = ScoreTable(store, catalogue, model.calibration, threshold, columns)
    asked = bool(settings.threshold)
    job = Job(work.resolve(), store.path, ScoringSettings(support_draws=settings.draws), explain=settings.explain)
    background = background_of(deployment, store, job, threshold, settings.prevalence_shift, outputs, signals)
    subject = Subject(store, catalogue, rows, table.schema, threshold, asked, model.origin.run, background)
    formats = opened(outputs, subject)
    size = SupportSize.exactly(settings.support) if settings.support else model.support_in_use
    supports = plan_supports(store, rows, size, settings.draws, settings.seed)
    answers = Answers(store, rows, settings.draws, len(columns))
    shift = ShiftedTables(model.calibration, work) if settings.prevalence_shift else None
    with ExitStack() as stack:
        for own in formats:
            stack.enter_context(own)
        scores = score_pairs(deployment, store, supports, job, executor)
        if model.smooth_enhancer or model.smooth_promoter:
            scores = averaged(store, rows, scores, model.smooth_enhancer, model.smooth_promoter)
        ready = (answers.after(scored) for scored in scores)
        batches = (Batch(table.rows(own), own.rows) for own in ready)
        for batch in batches if shift is None else shifted(batches, shift):
            for own in formats:
                own.write(batch)
        _write_record(outputs, formats, store, model, supports, settings, threshold, answers.count, shift)
    return answers.count


def require_answers(deployment: Deployment, outputs: Outputs, asked: str) -> None:
    """Raise `UserError` where the model cannot give what is asked for, whatever the pairs are."""
    model = deployment.description
    require_calibration(outputs, model.calibration is not None, model.origin.run)
    threshold_in_use(model, asked)


def averaged(
    store: Store, rows: NDArray[np.int64], scores: Iterable[Scored], enhancer: int, promoter: int
) -> Iterator[Scored]:
    """`scores` of `rows` (k,), in the same parts, averaged line by line over neighbouring pairs.

    What adds up to a logit is averaged as well, so that it still does. All scores are in memory for that: 4 bytes per
    pair and draw, neutral score, or part of an explanation.
    """
    parts = list(scores)
    whole = [np.concatenate([getattr(part, name) for part in parts]) for name in ("logits", "neutral", "parts")]
    line = store.pairs.line[rows]
    for own in np.unique(line):
        mine = np.flatnonzero(line == own)
        for values in whole:
            if values[mine].size:
                values[mine] = smoothed(store, rows[mine], values[mine], enhancer, promoter)
    ends = np.cumsum([len(part.neutral) for part in parts])
    for end, part in zip(ends, parts, strict=True):
        yield Scored(*(values[end - len(part.neutral) : end] for values in whole))


def shifted(batches: Iterable[Batch], shift: ShiftedTables) -> Iterator[Batch]:
    """The same batches with shifted probabilities; their row numbers wait in memory, 8 bytes each."""
    rows: list[NDArray[np.int64]] = []

    def tables() -> Iterator[pa.Table]:
        for batch in batches:
            if len(batch.rows):
                rows.append(batch.rows)
                yield batch.table

    for place, table in enumerate(shift.of(tables())):
        yield Batch(table, rows[place])


def threshold_in_use(model: ModelDescription, asked: str) -> float | None:
    """The probability that the words `asked` mean for this model; None: it has no calibration, and nobody asked.

    Raises `UserError` where the words mean nothing, or nothing for this model.
    """
    wanted, frozen = require_threshold(asked), model.calibration
    again = f"run evaluate.py --run {shlex.quote(f'runs/{model.origin.run}')} and export it again"
    if frozen is None:
        if wanted is not None:
            raise UserError(f"--threshold is a probability, and the model has no calibration to give any; {again}")
        return None
    found = frozen.threshold_of(wanted) if isinstance(wanted, str) else frozen.threshold if wanted is None else wanted
    if found is None:
        raise UserError(
            f"the model's calibration has no threshold '{wanted}', because its run was evaluated by an earlier "
            f"version; {again}, or give --threshold a number"
        )
    return found


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
    if store.missing_landscapes:
        missing = ", ".join(store.missing_landscapes)
        notes.append(f"tracks of the profile taken as missing, because the input has no landscape of them: {missing}")
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
    outputs: Outputs,
    formats: Sequence[Format],
    store: Store,
    model: ModelDescription,
    supports: Supports,
    settings: PredictionSettings,
    threshold: float | None,
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
        "threshold": threshold,
        "files": [file.name for own in formats for file in own.files],
        "support": sizes,
        "draws": settings.draws,
        "seed": settings.seed,
        "prevalence_shift": shift.record() if shift else None,
    }
    write_durably(outputs.out.with_name(f"{outputs.out.name}.json"), json.dumps(record, indent=1).encode())
