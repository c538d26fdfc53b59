"""Train one fold: Ray Train workers, DeepSpeed, resumable at any step.

    python distributed/train.py --store stores/simulated --test-line L7 --valid-line L6 --workers 2 optimiser.lr=5e-4

Run it again with --resume after a crash: it goes on with the next episode, on another number of workers if you like.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from data_pipeline.errors import command_line, continued_by

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    store: Annotated[Path, typer.Option(help="Store to train on.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as key.sub=value.")] = None,
    test_line: Annotated[str | None, typer.Option(help="Line whose labels only the final report may see.")] = None,
    valid_line: Annotated[str | None, typer.Option(help="Line for early stopping and thresholds.")] = None,
    workers: Annotated[int, typer.Option(help="Training workers; 0: as the settings say.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the run; default: test line and time.")] = "",
    runs: Annotated[Path, typer.Option(help="Folder of runs; on a cluster one that all hosts see.")] = Path("runs"),
    config: Annotated[list[Path] | None, typer.Option(help="YAML presets, later ones win.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
) -> None:
    """Train one fold and print where its best checkpoint is."""
    from data_pipeline.settings_text import require_settings_text
    from data_pipeline.store_folder import require_store
    from distributed.command_checks import require_keys, require_unclaimed

    require_settings_text(config or [], overrides or [])
    require_keys(config or [], overrides or [])
    require_store(store)
    require_unclaimed("run", runs, name, resume, "run.json")
    # These take seconds to import; --help and mistakes in the call are answered before.
    from data_pipeline.settings import load
    from distributed.settings import RunSettings

    options = {"fold.test_line": test_line, "fold.valid_line": valid_line, "workers.count": workers or None}
    settings = load(RunSettings, config or [], overrides or [], options)
    for sentence in settings.objective.unread():
        print(f"warning: {sentence}", file=sys.stderr)

    from distributed.fold_training import train
    from distributed.run_folder import best_checkpoint, name_of_now, read_state, ways_on

    name = name or name_of_now(settings.fold.test_line)
    with continued_by(lambda: ways_on("run", runs / name)):
        run = train(settings, store, runs, name, resume)
    best = best_checkpoint(run)
    state = read_state(best)
    print(f"run        {run}")
    print(f"best       {best.name}, validation average precision {state.score:.4f} on {settings.fold.valid_line}")
    print(f"evaluate   {shlex.join(['python', 'distributed/evaluate.py', '--run', str(run)])}", flush=True)


if __name__ == "__main__":
    command_line(app)
