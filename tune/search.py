"""Search settings: Ray Tune and Optuna over trials whose score is the macro average precision on validation lines.

    python tune/search.py --space lambda

Each trial trains the inner folds of one point of the space: every line but the test line is the validation line once.
What the space brings with it (a simulated store, presets) stands back behind --store and --config. In the end there is
a report of the region of settings that do as well as the best. Killed at any moment, the search goes on with --resume:
what is finished is not repeated. See docs/search.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_pipeline.errors import UserError, command_line, continued_by

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings of the runs as key.sub=value, of the search as search.key=value."),
    ] = None,
    space: Annotated[str, typer.Option(help="Preset of configs/search, or a YAML file.")] = "lambda",
    store: Annotated[Path | None, typer.Option(help="Store to train on; default: the simulated one.")] = None,
    test_line: Annotated[str | None, typer.Option(help="Line that no trial touches.")] = None,
    trials: Annotated[int, typer.Option(help="Trials in all; 0: as the space says.")] = 0,
    workers: Annotated[int, typer.Option(help="Training workers per run; 0: as the settings say.")] = 0,
    concurrent: Annotated[int, typer.Option(help="Trials at a time; 0: as many as fit.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the search; default: test line and time.")] = "",
    runs: Annotated[Path, typer.Option(help="Folder of runs; on a cluster one that all hosts see.")] = Path("runs"),
    config: Annotated[
        list[Path] | None, typer.Option(help="YAML presets of the runs, later ones win; without --store: the space's.")
    ] = None,
    storage: Annotated[str, typer.Option(help="URL of a database for the study; default: a journal file.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run and how long it takes.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted search, or add trials.")] = False,
) -> None:
    """Search a space and report the region in which settings do as well as the best."""
    from data_pipeline.settings_text import require_settings_text
    from data_pipeline.store_folder import require_store
    from distributed.command_checks import require_keys, require_unclaimed
    from tune.command_words import space_file
    from tune.search_space import load_space, presets_of, run_words, simulated_store

    require_settings_text([*(config or []), space_file(space)], overrides or [])
    require_keys(config or [], overrides or [], searched=True)
    given = list(overrides or [])
    own = [item.removeprefix("search.") for item in given if item.startswith("search.")]
    chosen = load_space(space, own + [f"trials={trials}"] * bool(trials))
    path = store or simulated_store(chosen, space)
    # A model cut to size for the simulated store is no default for another one.
    presets = config or (presets_of(chosen, space) if store is None else [])
    if store is not None or path.exists():
        require_store(path)
    require_unclaimed("search", runs, name, resume, "search.json")
    # These take seconds to import; --help and mistakes in the call are answered before.
    from data_pipeline.settings import load
    from distributed.settings import RunSettings

    options = {"fold.test_line": test_line, "workers.count": workers or None}
    words = [item for item in given if not item.startswith("search.")]
    settings = load(RunSettings, presets, [*run_words(chosen), *words], options)

    import optuna
    from rich.console import Console

    from distributed.run_folder import name_of_now, ways_on
    from tune.dry_run import rehearse
    from tune.handing_out import hand_out
    from tune.identity import read_search
    from tune.searching import make_store, search

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    console = Console(soft_wrap=True)
    if not path.exists():
        make_store(chosen, path, console)
    if dry_run:
        rehearse(chosen, settings, path, concurrent, console)
        return
    folder = runs / (name or name_of_now(f"search-{settings.fold.test_line}"))
    console.print(f"search     {folder}")
    with continued_by(lambda: ways_on("search", folder)):
        study = search(chosen, settings, path, folder, resume, concurrent, storage)
    hand_out(study, settings, folder, read_search(folder).lines, console)
    if study.remaining():
        raise UserError(
            f"the search was interrupted with {study.remaining()} trials to go; {ways_on('search', folder)}"
        )


if __name__ == "__main__":
    command_line(app)
