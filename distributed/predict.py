"""Score pairs of a cell line nobody measured.

    python distributed/predict.py --model models/NAME --pairs pairs.csv --genome hg19.fa --line A549 --out a549.tsv
    python distributed/predict.py --model models/NAME --store stores/NAME --line A549 --out a549.tsv --local

1. Open the model (an export, or a run's best checkpoint) and the pairs (a store, or tables that become one for now).
2. Draw support sets from these very pairs; no pair is scored with a support that shares an element with it.
3. Encode every element once, score every pair with every draw: as Ray Data tasks, or with --local in this process.
4. Write a table, a row per usable row of the input in its order, or another --format that a browser or a pipeline
   opens, each in one rename, and OUT.json beside it that says how.

Labels are not read. Input is never written to; work files lie in a hidden folder beside OUT until the end.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from data_pipeline.errors import UserError, command_line
from distributed.formats import OUTPUT_FORMATS
from distributed.prediction import Format

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="File to write; of several formats, what their names begin with.")],
    model: Annotated[Path | None, typer.Option(help="Exported model.")] = None,
    run: Annotated[Path | None, typer.Option(help="Run whose best checkpoint is used instead.")] = None,
    line: Annotated[list[str] | None, typer.Option(help="Cell line to score; default: all of the input.")] = None,
    store: Annotated[Path | None, typer.Option(help="Pairs as a store.")] = None,
    pairs: Annotated[Path | None, typer.Option(help="Pairs as a table of one line; see docs/predict.md.")] = None,
    genome: Annotated[list[Path] | None, typer.Option(help="FASTA for --pairs; may be repeated.")] = None,
    enhancer_sequences: Annotated[Path | None, typer.Option(help="Sequences by name for --pairs.")] = None,
    promoter_sequences: Annotated[Path | None, typer.Option(help="Sequences by name for --pairs.")] = None,
    format: Annotated[
        list[str] | None,
        typer.Option(help=f"What to write: {', '.join(OUTPUT_FORMATS)}; may be repeated; default: by suffix."),
    ] = None,
    locus: Annotated[
        list[str] | None,
        typer.Option(help="Gene (symbol or Ensembl id) whose locus is drawn, SVG and PNG; may be repeated."),
    ] = None,
    threshold: Annotated[
        str, typer.Option(help="Call pairs at recall70, mcc, or a probability; default: the model's own.")
    ] = "",
    pairs_format: Annotated[Format | None, typer.Option(help="What --pairs is; default: by suffix.")] = None,
    column: Annotated[list[str] | None, typer.Option(help="key=column of --pairs; may be repeated.")] = None,
    max_bad: Annotated[float, typer.Option(help="Share of the rows of --pairs that may be rejected.")] = 0.02,
    genes: Annotated[Path | None, typer.Option(help="Annotation of genes (BED, GTF) for --pairs.")] = None,
    build: Annotated[str, typer.Option(help="Genome build of --pairs, after --chain; must be the model's.")] = "",
    chain: Annotated[Path | None, typer.Option(help="Chain file that lifts --pairs to --build.")] = None,
    yaml: Annotated[Path | None, typer.Option(help="Pairs as a store YAML of ingest (peaks, signals).")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the YAML's files; default: its own root.")] = None,
    draws: Annotated[int, typer.Option(help="Support sets per pair.")] = 5,
    support: Annotated[
        int, typer.Option(help="Pairs per support set; 0: what the line gives, to the model's bound.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Chooses the supports.")] = 0,
    explain: Annotated[bool, typer.Option("--explain", help="Also what each logit is made of.")] = False,
    prevalence_shift: Annotated[
        bool,
        typer.Option("--prevalence-shift", help="Shift probabilities to the prevalence that the scores suggest."),
    ] = False,
    local: Annotated[bool, typer.Option("--local", help="In this process, without Ray.")] = False,
    workers: Annotated[int, typer.Option(help="Ray tasks at a time; 0: one per GPU or CPU.", min=0)] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing --out.")] = False,
) -> None:
    """Score pairs of cell lines with an exported model or a run; labels are not read."""
    from data_pipeline.settings_text import require_settings_text
    from data_pipeline.store_folder import require_store
    from distributed.formats import Outputs, require_threshold
    from distributed.run_folder import require_export, require_record

    outputs = Outputs.of(out, format or [], overwrite, locus or [])
    require_threshold(threshold)
    if explain and not {"parquet", "tsv"} & set(outputs.files):
        raise UserError("--explain adds columns to the formats parquet and tsv only; add one of them with --format")
    if [store, pairs, yaml].count(None) != 2:
        raise UserError("give the pairs with one of --store, --pairs and --yaml")
    if (model is None) == (run is None):
        raise UserError("give either --model (an exported model) or --run (a trained run)")
    if run:
        require_record("run", run, "run.json")
    if store:
        require_store(store)
    if model:
        require_export(model)
    if pairs and not pairs.is_file():
        raise UserError(f"table {pairs} does not exist (or is a folder); check --pairs")
    require_settings_text([yaml] if yaml else [])
    # These take seconds to import; --help and mistakes in the call are answered before.
    from rich.console import Console

    from data_pipeline.settings import load, validate
    from data_pipeline.sources import StoreSettings, signals_along
    from distributed.prediction import (
        PairTable,
        PredictionSettings,
        both_or_none,
        describe_table,
        in_process,
        ingest_unlabelled,
        no_signals,
        on_ray,
        one_line,
        open_model,
        predict,
        require_answers,
        usable_windows,
        verified,
        work_folder,
    )

    options = {"draws": draws, "support": support, "seed": seed, "explain": explain, "threshold": threshold}
    options |= {"prevalence_shift": prevalence_shift}
    settings = validate(PredictionSettings, options, "options")
    console, lines = Console(), line or []
    description, tracks = None, no_signals
    if pairs:
        sequences = both_or_none(enhancer_sequences, promoter_sequences)
        table = PairTable(
            pairs, one_line(lines), genome or [], sequences, pairs_format, column or [], max_bad, genes, build, chain
        )
        description = describe_table(table)
    elif yaml:
        description = load(StoreSettings, [yaml])
    deployment = open_model(model, run)
    require_answers(deployment, outputs, threshold)
    with work_folder(out) as work:
        if description:
            files, windows = root or Path(description.root), usable_windows(deployment.description)
            tracks = partial(signals_along, description, files)
            rejected = out.with_name(f"{out.name}.quarantine")
            source = ingest_unlabelled(description, windows, files, work / "store", rejected, console).path
        else:
            source = verified(store)  # type: ignore[arg-type]
        executor = in_process if local else on_ray(workers)
        count = predict(deployment, source, lines, outputs, work, settings, executor, console, tracks)
    if deployment.description.model.environment.labelled_support:
        console.print(
            "this model was trained with labelled support: it reads labels of support pairs where --store has them, "
            "and takes all others as unknown",
            soft_wrap=True,
            highlight=False,
        )
    written = ", ".join(
        [*map(str, outputs.files.values()), *(f"{outputs.stem}.{gene}.svg/.png" for gene in outputs.loci)]
    )
    console.print(f"{count} rows scored with {draws} support draws: {written}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    command_line(app)
