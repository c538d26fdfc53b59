"""Score pairs of a cell line nobody measured.

    python distributed/predict.py --model models/NAME --pairs pairs.csv --genome hg19.fa --line A549 --out a549.tsv
    python distributed/predict.py --model models/NAME --store stores/NAME --line A549 --out a549.tsv --local

1. Open the model (an export, or a run's best checkpoint) and the pairs (a store, or tables that become one for now).
2. Draw support sets from these very pairs; no pair is scored with a support that shares an element with it.
3. Encode every element once, score every pair with every draw: as Ray Data tasks, or with --local in this process.
4. Write a table, a row per pair in the order of the input, in one rename, and OUT.json beside it that says how.

Labels are not read. Input is never written to; work files lie in a hidden folder beside OUT until the end.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from pydantic import Field
from rich.console import Console
from tqdm import tqdm

from data_pipeline.errors import UserError, command_line
from data_pipeline.settings import Settings, load, validate
from data_pipeline.store import Kind, Store, read_manifest
from data_pipeline.store_settings import StoreSettings
from data_pipeline.store_writer import FullDiskNamed, write_durably
from distributed.batch_scoring import Job, Supports, plan_supports, score_pairs
from distributed.deployment import Deployment, ModelDescription, open_export, open_run
from distributed.executors import Executor, in_process, on_ray
from distributed.matched_store import MatchedStore
from distributed.score_table import ScoreTable, TableWriter, require_suffix
from distributed.settings import ScoringSettings
from distributed.unlabelled import NO_WINDOWS, Format, PairTable, describe_table, ingest_unlabelled

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class PredictionSettings(Settings):
    """How pairs are scored."""

    draws: int = Field(5, ge=1, le=100)
    """D, support sets per pair; the score is the mean over them, the interval their smallest and largest."""
    support: int = Field(0, ge=0, le=4096)
    """m, pairs per support set; 0: as in training."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Chooses the supports."""


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
    """Score the pairs of `lines` (none: all) of a store into the table `out`; returns the number of pairs.

    `work` is an existing folder for files that all workers see. Raises `UserError` where the store does not fit the
    model or a line has too few pairs.
    """
    model = deployment.description
    store = MatchedStore.of(store_path.resolve(), model)
    print_match(store, model, console)
    rows = select_rows(store, lines)
    size = settings.support or model.support
    supports = plan_supports(store, rows, size, settings.draws, settings.seed)
    job = Job(work.resolve(), store.path, ScoringSettings(support_draws=settings.draws))
    table, done = ScoreTable(store, model.calibration), 0
    with TableWriter(out) as writer:
        for logits, neutral in score_pairs(deployment, store, supports, job, executor):
            writer.write(table.rows(rows[done : done + len(neutral)], logits, neutral))
            done += len(neutral)
        _write_record(out, store, model, supports, settings)
    return done


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
    if model.calibration is None:
        notes.append(
            f"no probabilities: the model has no calibration; run evaluate.py --run runs/{model.origin.run} first"
        )
    for note in notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False)


def _write_record(
    out: Path, store: Store, model: ModelDescription, supports: Supports, settings: PredictionSettings
) -> None:
    lines = sorted({store.lines[code] for code in np.unique(store.pairs.line[supports.rows])})
    record: dict[str, Any] = {
        "pairs": len(supports.rows),
        "lines": lines,
        "store": store.checksum,
        "model": {"checksum": model.checksum, **model.origin.model_dump()},
        "calibration": model.calibration.model_dump() if model.calibration else None,
        "support": supports.sets.shape[1],
        "draws": settings.draws,
        "seed": settings.seed,
    }
    write_durably(out.with_name(f"{out.name}.json"), json.dumps(record, indent=1).encode())


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out` that is removed at the end."""
    folder = out.with_name(f".{out.name}.work-{os.getpid()}")
    try:
        with FullDiskNamed(folder):
            folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"cannot write to {out.parent}: {error.strerror}; give an --out in a writable folder"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def open_model(model: Path | None, run: Path | None) -> Deployment:
    """The exported model, or the run's best checkpoint; raises `UserError` unless one of them is given."""
    if (model is None) == (run is None):
        raise UserError("give either --model (an exported model) or --run (a trained run)")
    return open_export(model) if model else open_run(run)  # type: ignore[arg-type]


def require_new(out: Path, overwrite: bool) -> None:
    """Raise `UserError` if `out` cannot become the table."""
    require_suffix(out)
    if out.is_dir() or (out.exists() and not overwrite):
        raise UserError(f"{out} exists already; give another --out, or --overwrite to replace it")


def verified(store: Path) -> Path:
    """`store` after checking every file's sha256, with a progress bar."""
    size = sum(record.bytes for record in read_manifest(store).files.values())
    with tqdm(total=size, unit="B", unit_scale=True, desc="verify store", leave=False) as bar:
        return Store.open(store, verify="full", progress=bar.update).path


def pair_table(
    file: Path,
    lines: Sequence[str],
    genome: Sequence[Path],
    sequences: Sequence[Path],
    kind: Format | None,
    columns: Sequence[str],
) -> StoreSettings:
    """The store description of a table on the command line; raises `UserError` where the options do not make one."""
    if len(lines) != 1:
        raise UserError("--pairs is a table of one cell line; name it with one --line (tables of several: --yaml)")
    if len(sequences) == 1:
        raise UserError("give --enhancer-sequences and --promoter-sequences together")
    given = (sequences[0], sequences[1]) if sequences else None
    return describe_table(PairTable(file, lines[0], genome, given, kind, columns))


def usable_windows(model: ModelDescription) -> dict[Kind, int]:
    """Bases to store per element for this model; none where it reads no sequence."""
    return model.windows if model.model.trunk.shape else NO_WINDOWS


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Table to write: .parquet or .tsv.")],
    model: Annotated[Path | None, typer.Option(help="Exported model.")] = None,
    run: Annotated[Path | None, typer.Option(help="Run whose best checkpoint is used instead.")] = None,
    line: Annotated[list[str] | None, typer.Option(help="Cell line to score; default: all of the input.")] = None,
    store: Annotated[Path | None, typer.Option(help="Pairs as a store.")] = None,
    pairs: Annotated[Path | None, typer.Option(help="Pairs as a table of one line; see docs/predict.md.")] = None,
    genome: Annotated[list[Path] | None, typer.Option(help="FASTA for --pairs; may be repeated.")] = None,
    enhancer_sequences: Annotated[Path | None, typer.Option(help="Sequences by name for --pairs.")] = None,
    promoter_sequences: Annotated[Path | None, typer.Option(help="Sequences by name for --pairs.")] = None,
    format: Annotated[Format | None, typer.Option(help="What --pairs is; default: by suffix.")] = None,
    column: Annotated[list[str] | None, typer.Option(help="key=column of --pairs; may be repeated.")] = None,
    yaml: Annotated[Path | None, typer.Option(help="Pairs as a store YAML of ingest (peaks, signals).")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the YAML's files; default: its own root.")] = None,
    draws: Annotated[int, typer.Option(help="Support sets per pair.")] = 5,
    support: Annotated[int, typer.Option(help="Pairs per support set; 0: as in training.")] = 0,
    seed: Annotated[int, typer.Option(help="Chooses the supports.")] = 0,
    local: Annotated[bool, typer.Option("--local", help="In this process, without Ray.")] = False,
    workers: Annotated[int, typer.Option(help="Ray tasks at a time; 0: one per GPU or CPU.", min=0)] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing --out.")] = False,
) -> None:
    """Score pairs of cell lines with an exported model or a run; labels are not read."""
    if [store, pairs, yaml].count(None) != 2:
        raise UserError("give the pairs with one of --store, --pairs and --yaml")
    settings = validate(PredictionSettings, {"draws": draws, "support": support, "seed": seed}, "options")
    require_new(out, overwrite)
    console, lines = Console(), line or []
    deployment = open_model(model, run)
    with work_folder(out) as work:
        if store:
            path = verified(store)
        else:
            sequences = [file for file in (enhancer_sequences, promoter_sequences) if file]
            description = (
                load(StoreSettings, [yaml])
                if yaml
                else pair_table(pairs, lines, genome or [], sequences, format, column or [])  # type: ignore[arg-type]
            )
            windows, beside = usable_windows(deployment.description), out.with_name(f"{out.name}.quarantine")
            own_root = root or Path(description.root)
            path = ingest_unlabelled(description, windows, own_root, work / "store", beside, console).path
        executor = in_process if local else on_ray(workers)
        count = predict(deployment, path, lines, out, work, settings, executor, console)
    console.print(f"{count} pairs scored with {draws} support draws: {out}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    command_line(app)
