"""Ablate: every variant over folds and seeds, each an ordinary training (the work of tune/ablate.py)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import ray
from ray.exceptions import RayError
from tqdm import tqdm

from data_pipeline.episodes import Plan, resolve_fold
from data_pipeline.errors import UserError
from data_pipeline.store import Store
from distributed.cluster import SPARE_CPUS
from distributed.crew import Crew
from distributed.fold_training import check_model
from distributed.run_folder import held
from distributed.settings import RunSettings
from tune.ablation.folds import Folds
from tune.ablation.identity import (
    OUTCOMES,
    RUNS,
    AblationRecord,
    VariantRecord,
    check_ablation,
    claim_ablation,
    read_outcomes,
    write_outcome,
)
from tune.ablation.run import Cell, CellTask, Outcome, run_cell
from tune.ablation.summary import write_runs
from tune.ablation.variants import DEFAULT, Variant, differences, unmet
from tune.scheduling import trial_capacity
from tune.search_space import economical


def ablate(
    record: AblationRecord, settings: dict[str, RunSettings], store: Store, folder: Path, resume: bool, concurrent: int
) -> None:
    """Run what is not finished of `record` in `folder`; `settings` by variant.

    Raises `UserError` before anything is started; a run that fails is noted and the others go on.
    """
    check_ablation(folder, resume, record)
    ended = read_outcomes(folder, record.cells())
    finished = {run: outcome for run, outcome in ended.items() if outcome.state == "complete"}
    remaining = [cell for cell in record.cells() if cell.run not in finished]
    check_variants(store, remaining, settings)
    device: Literal["cpu", "cuda"] = "cpu"
    if remaining:
        concurrent, device = trial_capacity(settings[DEFAULT], concurrent)
    claim_ablation(folder, resume, record)
    tasks = [
        CellTask(
            cell=cell,
            settings=cell_settings(economical(settings[cell.variant]), cell).model_dump(mode="json"),
            store=str(store.path),
            checksum=store.checksum,
            runs=str((folder / RUNS).resolve()),
            predictions=str((folder / OUTCOMES).resolve()),
            pairs=record.pairs,
            device=device,
        )
        for cell in remaining
    ]
    with held(folder), Progress(folder.name, len(record.cells()), len(finished)) as progress:
        for outcome in in_parallel(tasks, concurrent):
            write_outcome(folder, outcome)
            write_runs(folder, record)
            progress.show(outcome)


def in_parallel(tasks: Sequence[CellTask], concurrent: int) -> Iterator[Outcome]:
    """Outcomes of `tasks` as they end, `concurrent` at a time, begun in their order.

    Each of as many places has workers that stay from one task to the next; a place that dies costs its task and is made
    anew.
    """
    make: Any = ray.remote(num_cpus=SPARE_CPUS)(Place)
    waiting, running = list(tasks), dict[Any, tuple[Any, Cell]]()
    free: list[Any] = [make.remote() for _ in range(min(concurrent, len(tasks)))]
    while waiting or running:
        while waiting and free:
            task, place = waiting.pop(0), free.pop()
            running[place.run.remote(task.model_dump(mode="json"))] = (place, task.cell)
        (done, *_), _ = ray.wait(list(running))
        place, cell = running.pop(done)
        try:
            outcome = Outcome.model_validate(ray.get(done))
        except RayError:
            reason = "the run's process died, perhaps for want of memory; see the logs of Ray"
            outcome, place = Outcome(cell=cell, state="failed", reason=reason), make.remote()
        free.append(place)
        yield outcome


class Place:
    """Where runs are driven from, one after the other, as an actor."""

    def __init__(self) -> None:
        """Without workers yet; the first run starts them."""
        self._crew: Crew | None = None

    def run(self, content: dict[str, Any]) -> dict[str, Any]:
        """`run_cell` with the workers of this place."""
        self._crew = self._crew or Crew(Path(content["runs"]).parent / "workers")
        return run_cell(content, self._crew.fit)


def cell_settings(settings: RunSettings, cell: Cell) -> RunSettings:
    """`settings` for one fold and seed; named training lines lose the lines that this fold leaves out."""
    left_out = (cell.test_line, cell.valid_line)
    inside = [line for line in settings.fold.train_lines if line not in left_out]
    fold = {"test_line": cell.test_line, "valid_line": cell.valid_line, "train_lines": inside}
    return settings.model_copy(
        update={
            "fold": settings.fold.model_copy(update=fold),
            "train": settings.train.model_copy(update={"seed": cell.seed}),
        }
    )


def check_variants(store: Store, cells: Sequence[Cell], settings: dict[str, RunSettings]) -> None:
    """Raise `UserError` for what would fail in every run: variants are tried on one fold, the base on all."""
    seen = set()
    for cell in cells:
        place = (cell.variant, cell.test_line, cell.valid_line) if cell.variant == DEFAULT else cell.variant
        if place in seen:
            continue
        seen.add(place)
        own = cell_settings(settings[cell.variant], cell)
        try:
            fold = resolve_fold(store, own.fold)
            Plan(store, fold, own.episodes, own.train.seed).slots(0, own.workers.count)
            check_model(store, fold, own)
        except UserError as error:
            raise UserError(f"variant '{cell.variant}': {error}") from error


class Progress:
    """A line on the terminal (plain lines in a log): runs ended, time left."""

    def __init__(self, name: str, total: int, finished: int) -> None:
        """Begin at `finished` runs of `total`."""
        self._failed = 0
        tty = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=finished,
            unit="run",
            desc=name,
            dynamic_ncols=True,
            mininterval=0.5 if tty else 15.0,
            smoothing=0,
        )

    def __enter__(self) -> Progress:
        """Begin."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the line."""
        self._bar.close()

    def show(self, outcome: Outcome) -> None:
        """Count a run that ended, and say why if it failed."""
        if outcome.state == "failed":
            self._failed += 1
            self._bar.write(f"failed     {outcome.cell.run}: {outcome.reason}", file=sys.stderr)
        self._bar.set_postfix({"failed": self._failed} if self._failed else {}, refresh=False)
        self._bar.update(1)


def describe(
    variants: Sequence[Variant],
    settings: dict[str, RunSettings],
    store: Store,
    folds: Folds,
    seeds: list[int],
    most: int,
) -> AblationRecord:
    """What is asked, resolved on `store`."""
    base = settings[DEFAULT]
    records = {DEFAULT: VariantRecord(name=DEFAULT, description="the base settings")}
    rival = {variant.name: variant.against for variant in variants} | {DEFAULT: DEFAULT}
    for variant in variants:
        own, against = settings[variant.name], variant.against
        while against != DEFAULT and settings[against] == settings[rival[against]]:
            against = rival[against]  # it is not run, being what this one is
        records[variant.name] = VariantRecord(
            name=variant.name,
            description=variant.description,
            against=against,
            changes={key: value for key, (_, value) in differences(base, own).items()},
            left_out=unmet(variant, store) or (f"it is what {against} is already" if own == settings[against] else ""),
        )
    return AblationRecord(
        store=str(store.path),
        store_checksum=store.checksum,
        base=base.model_dump(mode="json"),
        variants=list(records.values()),
        folds=folds,
        seeds=seeds,
        pairs=most,
    )
