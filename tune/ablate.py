"""Ablate: the default and every variant of it over folds and seeds, judged on unseen lines, in one table.

    python tune/ablate.py --store stores/simulated --variants configs/ablation/components.yaml \\
        --config configs/train/simulated.yaml --test-lines sim10,sim11,sim12 --seeds 0,1 --name components

Each run is an ordinary Ray Train + DeepSpeed run; as many as fit run at a time. Killed at any moment, the ablation goes
on with --resume: what is finished is not repeated, and a run that failed is tried again. See docs/ablation.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import ray
import typer
from ray.exceptions import RayError
from rich.console import Console
from tqdm import tqdm

from data_pipeline.errors import UserError, command_line, continued_by
from data_pipeline.folds import resolve_fold
from data_pipeline.plan import Plan
from data_pipeline.store import Store
from distributed.cluster import SPARE_CPUS
from distributed.identities import name_of_now, ways_on
from distributed.runs import held
from distributed.settings import RunSettings
from distributed.train import check_model, open_verified
from tune.ablation_folds import Folds, choose_folds
from tune.ablation_identity import (
    OUTCOMES,
    RUNS,
    AblationRecord,
    VariantRecord,
    check_ablation,
    claim_ablation,
    read_outcomes,
    write_outcome,
)
from tune.ablation_report import hand_out, write_runs
from tune.ablation_run import Cell, CellTask, Outcome, run_cell
from tune.scheduling import trial_capacity
from tune.trial import economical
from tune.variants import DEFAULT, Variant, differences, load_variants, resolve, unmet

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


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
    """Outcomes of `tasks` as they end, `concurrent` at a time, begun in their order."""
    remote = ray.remote(num_cpus=SPARE_CPUS, max_retries=0)(run_cell)
    waiting, running = list(tasks), dict[Any, Cell]()
    while waiting or running:
        while waiting and len(running) < concurrent:
            task = waiting.pop(0)
            running[remote.remote(task.model_dump(mode="json"))] = task.cell
        (done, *_), _ = ray.wait(list(running))
        cell = running.pop(done)
        try:
            yield Outcome.model_validate(ray.get(done))
        except RayError:
            reason = "the run's process died, perhaps for want of memory; see the logs of Ray"
            yield Outcome(cell=cell, state="failed", reason=reason)


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


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(item) for item in text.split(",")]
    except ValueError as error:
        raise UserError(f"--seeds {text} is not a list of whole numbers, for example 0,1,2") from error
    if len(set(numbers)) < len(numbers):
        raise UserError(f"--seeds {text} names a seed twice; equal runs would count as two")
    return numbers


def _names(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


@app.command()
def main(
    store: Annotated[Path, typer.Option(help="Store to train on.")],
    variants: Annotated[Path, typer.Option(help="YAML file of variants, for example of configs/ablation.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Base settings as key=value.")] = None,
    config: Annotated[list[Path] | None, typer.Option(help="YAML presets of the base, later ones win.")] = None,
    only: Annotated[str, typer.Option(help="Names of variants to run, by comma; default: all.")] = "",
    folds: Annotated[list[str] | None, typer.Option(help="Folds as TEST:VALID, by comma; may be repeated.")] = None,
    test_lines: Annotated[
        list[str] | None, typer.Option(help="Test lines by comma; validation lines are chosen; may be repeated.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds by comma.")] = "0",
    workers: Annotated[int, typer.Option(help="Training workers per run; 0: as the settings say.")] = 0,
    concurrent: Annotated[int, typer.Option(help="Runs at a time; 0: as many as fit.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the ablation; default: file of variants and time.")] = "",
    runs: Annotated[Path, typer.Option(help="Folder of runs; on a cluster one that all hosts see.")] = Path("runs"),
    pairs_per_quadrant: Annotated[int, typer.Option(help="Most test pairs judged per quadrant.", min=50)] = 20_000,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an ablation, or add variants and seeds.")] = False,
) -> None:
    """Run an ablation and print its table."""
    given = list(overrides or []) + [f"workers.count={workers}"] * bool(workers)
    chosen = load_variants(variants, _names(only))
    settings = {DEFAULT: resolve(None, config or [], given)}
    settings |= {variant.name: resolve(variant, config or [], given) for variant in chosen}
    if resume and not name:
        raise UserError("--resume needs the --name of the ablation to continue")
    folder = runs / (name or name_of_now(variants.stem))
    opened = open_verified(store)
    asked = choose_folds(opened, settings[DEFAULT], folds or [], test_lines or [])
    record = describe(chosen, settings, opened, asked, _numbers(seeds), pairs_per_quadrant)
    console = Console(width=140)
    console.print(f"ablation   {folder}")
    with continued_by(lambda: ways_on("ablation", folder)):
        ablate(record, settings, opened, folder, resume, concurrent)
    hand_out(folder, console)


if __name__ == "__main__":
    command_line(app)
