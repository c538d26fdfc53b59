"""Score pairs of a cell line nobody measured.

    python distributed/predict.py --model models/NAME --pairs pairs.csv --genome hg19.fa --line A549 --out a549.tsv
    python distributed/predict.py --model models/NAME --store stores/NAME --line A549 --out a549.tsv --local

1. Open the model (an export, or a run's best checkpoint) and the pairs (a store, or tables that become one for now).
2. Draw support sets from these very pairs; no pair is scored with a support that shares an element with it.
3. Encode every element once, score every pair with every draw: as Ray Data tasks, or with --local in this process.
4. Write a table, a row per usable row of the input in its order, in one rename, and OUT.json beside it that says how.

Labels are not read. Input is never written to; work files lie in a hidden folder beside OUT until the end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from tqdm import tqdm

from data_pipeline.errors import UserError, command_line
from data_pipeline.settings import load, validate
from data_pipeline.store import Kind, Store, read_manifest
from data_pipeline.store_settings import StoreSettings
from distributed.deployment import Deployment, ModelDescription, open_export, open_run
from distributed.executors import in_process, on_ray
from distributed.prediction import PredictionSettings, predict
from distributed.score_table import require_suffix
from distributed.unlabelled import NO_WINDOWS, Format, PairTable, describe_table, ingest_unlabelled

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`, of a new name, that is removed at the end."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=f".{out.name}.work-", dir=out.parent)
    except OSError as error:
        raise UserError(
            f"cannot write to {out.parent}: {error.strerror}; give an --out in a writable folder"
        ) from error
    with folder as name:
        yield Path(name)


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


def one_line(lines: Sequence[str]) -> str:
    """The cell line of a table on the command line; raises `UserError` unless there is one."""
    if len(lines) != 1:
        raise UserError("--pairs is a table of one cell line; name it with one --line (tables of several: --yaml)")
    return lines[0]


def both_or_none(enhancers: Path | None, promoters: Path | None) -> tuple[Path, Path] | None:
    """The two sequence tables; raises `UserError` where only one is given."""
    if (enhancers is None) != (promoters is None):
        raise UserError("give --enhancer-sequences and --promoter-sequences together")
    return (enhancers, promoters) if enhancers and promoters else None


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
    max_bad: Annotated[float, typer.Option(help="Share of the rows of --pairs that may be rejected.")] = 0.02,
    yaml: Annotated[Path | None, typer.Option(help="Pairs as a store YAML of ingest (peaks, signals).")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the YAML's files; default: its own root.")] = None,
    draws: Annotated[int, typer.Option(help="Support sets per pair.")] = 5,
    support: Annotated[
        int, typer.Option(help="Pairs per support set; 0: what the line gives, to the model's bound.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Chooses the supports.")] = 0,
    local: Annotated[bool, typer.Option("--local", help="In this process, without Ray.")] = False,
    workers: Annotated[int, typer.Option(help="Ray tasks at a time; 0: one per GPU or CPU.", min=0)] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing --out.")] = False,
) -> None:
    """Score pairs of cell lines with an exported model or a run; labels are not read."""
    settings = validate(PredictionSettings, {"draws": draws, "support": support, "seed": seed}, "options")
    require_new(out, overwrite)
    console, lines = Console(), line or []
    description = None
    if [store, pairs, yaml].count(None) != 2:
        raise UserError("give the pairs with one of --store, --pairs and --yaml")
    if pairs:
        sequences = both_or_none(enhancer_sequences, promoter_sequences)
        table = PairTable(pairs, one_line(lines), genome or [], sequences, format, column or [], max_bad)
        description = describe_table(table)
    elif yaml:
        description = load(StoreSettings, [yaml])
    deployment = open_model(model, run)
    with work_folder(out) as work:
        if description:
            files, windows = root or Path(description.root), usable_windows(deployment.description)
            rejected = out.with_name(f"{out.name}.quarantine")
            source = ingest_unlabelled(description, windows, files, work / "store", rejected, console).path
        else:
            source = verified(store)  # type: ignore[arg-type]
        executor = in_process if local else on_ray(workers)
        count = predict(deployment, source, lines, out, work, settings, executor, console)
    if deployment.description.model.environment.labelled_support:
        console.print(
            "this model was trained with labelled support: it reads labels of support pairs where --store has them, "
            "and takes all others as unknown",
            soft_wrap=True,
            highlight=False,
        )
    console.print(f"{count} rows scored with {draws} support draws: {out}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    command_line(app)
