"""Search settings: Ray Tune and Optuna over trials whose score is the macro average precision on validation lines.

    python tune/search.py --space lambda --store stores/simulated --config configs/train/simulated.yaml --trials 8

Each trial trains the inner folds of one point of the space: every line but the test line is the validation line once.
Killed at any moment, the search goes on with --resume: what is finished is not repeated. See docs/search.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_pipeline.errors import UserError, command_line, continued_by

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    store: Annotated[Path, typer.Option(help="Store to train on.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings of the runs as key.sub=value, of the search as search.key=value."),
    ] = None,
    space: Annotated[str, typer.Option(help="Preset of configs/search, or a YAML file.")] = "lambda",
    test_line: Annotated[str | None, typer.Option(help="Line that no trial touches.")] = None,
    trials: Annotated[int, typer.Option(help="Trials in all; 0: as the space says.")] = 0,
    workers: Annotated[int, typer.Option(help="Training workers per run; 0: as the settings say.")] = 0,
    concurrent: Annotated[int, typer.Option(help="Trials at a time; 0: as many as fit.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the search; default: test line and time.")] = "",
    runs: Annotated[Path, typer.Option(help="Folder of runs; on a cluster one that all hosts see.")] = Path("runs"),
    config: Annotated[list[Path] | None, typer.Option(help="YAML presets of the runs, later ones win.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted search, or add trials.")] = False,
) -> None:
    """Search a space and print the best settings."""
    from data_pipeline.settings_text import require_settings_text
    from data_pipeline.store_folder import require_store
    from distributed.command_checks import require_keys, require_unclaimed
    from tune.command_words import space_file

    require_settings_text([*(config or []), space_file(space)], overrides or [])
    require_keys(config or [], overrides or [], searched=True)
    require_store(store)
    require_unclaimed("search", runs, name, resume, "search.json")
    # These take seconds to import; --help and mistakes in the call are answered before.
    from data_pipeline.settings import load
    from distributed.settings import RunSettings
    from tune.search_space import load_space

    given = list(overrides or [])
    own = [item.removeprefix("search.") for item in given if item.startswith("search.")]
    chosen = load_space(space, own + [f"trials={trials}"] * bool(trials))
    options = {"fold.test_line": test_line, "workers.count": workers or None}
    words = [item for item in given if not item.startswith("search.")]
    settings = load(RunSettings, config or [], words, options)

    import optuna
    from rich.console import Console

    from distributed.run_folder import name_of_now, ways_on
    from tune.identity import read_search
    from tune.searching import hand_out, search

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = runs / (name or name_of_now(f"search-{settings.fold.test_line}"))
    console = Console(soft_wrap=True)
    console.print(f"search     {folder}")
    with continued_by(lambda: ways_on("search", folder)):
        study = search(chosen, settings, store, folder, resume, concurrent)
    lines = read_search(folder).lines
    hand_out(study, settings, folder, lines, console)
    if study.remaining():
        raise UserError(
            f"the search was interrupted with {study.remaining()} trials to go; {ways_on('search', folder)}"
        )


if __name__ == "__main__":
    command_line(app)
