"""Ablate: the default and every variant of it over folds and seeds, judged on unseen lines, in one table.

    python tune/ablate.py --store stores/simulated --variants configs/ablation/components.yaml \\
        --config configs/train/simulated.yaml --test-lines sim10,sim11,sim12 --seeds 0,1 --name components

Each run is an ordinary Ray Train + DeepSpeed run; as many as fit run at a time. Killed at any moment, the ablation goes
on with --resume: what is finished is not repeated, and a run that failed is tried again. See docs/ablation.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_pipeline.errors import command_line, continued_by

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


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
    from data_pipeline.settings_text import require_settings_text
    from data_pipeline.store_folder import require_store
    from distributed.command_checks import require_keys, require_unclaimed
    from tune.command_words import names_of, seeds_of, variants_file

    chosen_seeds = seeds_of(seeds)
    require_settings_text([*(config or []), variants_file(variants)], overrides or [])
    require_keys(config or [], overrides or [])
    require_store(store)
    require_unclaimed("ablation", runs, name, resume, "ablation.json")
    # These take seconds to import; --help and mistakes in the call are answered before.
    from tune.ablation import DEFAULT, distinct, load_variants, resolve

    given = list(overrides or []) + [f"workers.count={workers}"] * bool(workers)
    chosen = load_variants(variants, names_of(only))
    settings = {DEFAULT: resolve(None, config or [], given)}
    settings |= {variant.name: resolve(variant, config or [], given) for variant in chosen}
    chosen = distinct(chosen, settings)
    settings = {name: settings[name] for name in (DEFAULT, *(variant.name for variant in chosen))}

    from rich.console import Console

    from distributed.fold_training import open_verified
    from distributed.run_folder import name_of_now, ways_on
    from tune.ablation import ablate, choose_folds, describe, hand_out

    folder = runs / (name or name_of_now(variants.stem))
    opened = open_verified(store)
    asked = choose_folds(opened, settings[DEFAULT], folds or [], test_lines or [])
    record = describe(chosen, settings, opened, asked, chosen_seeds, pairs_per_quadrant)
    console = Console(width=140)
    console.print(f"ablation   {folder}")
    with continued_by(lambda: ways_on("ablation", folder)):
        ablate(record, settings, opened, folder, resume, concurrent)
    hand_out(folder, console)


if __name__ == "__main__":
    command_line(app)
