"""Do the falsifiable predictions come out as planted? Worlds in which each is true, and worlds in which it is not.

    python bench/planted_predictions.py --out bench/results/planted_predictions.json

Every world is simulated, trained on through distributed/train.py and verified as a report does; only the world decides
what is true. R90 is planted with one factor and one channel, because gates are known up to a mixing of channels: the
same energy has factorisations with and without two modes. R93 is about searches and has no planted side.
Cost: some minutes a world on one core.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from data_pipeline.errors import UserError, command_line
from distributed.fold_evaluation import open_run, verified
from evaluation import strict

ROOT = Path(__file__).resolve().parents[1]
SIMULATED = ROOT / "configs/train/simulated.yaml"
SMALL = ("--config", str(ROOT / "configs/simulate/ablation.yaml"))
ONE_FACTOR = (
    *("lines=60", "interpolated_lines=0", "pairs_per_line=1000", "enhancers=12000"),
    *("promoters=4500", "factors=1", "motif.copies=4", "enrichment=2.5"),
)
# Ranking inside a line cannot see one gate, so it may not choose an epoch from before the gate acts.
ONE_GATE = (
    *("model.energy.channels=1", "model.energy.use_distance=false", "episodes.per_step=12"),
    *("objective.curriculum.warm_epochs=0", "objective.curriculum.ramp_epochs=0"),
    *("fold.test_line=sim60", "fold.valid_line=sim59", "train.epochs=3"),
)
FOUR_EPOCHS = ("train.epochs=4",)


@dataclass(frozen=True)
class World:
    """A store and how it is trained on."""

    says: str
    """What is planted."""
    simulate: tuple[str, ...]
    """Settings of data_pipeline/simulate.py."""
    train: tuple[str, ...]
    """Settings of distributed/train.py over configs/train/simulated.yaml."""
    asked: tuple[str, ...]
    """Predictions it was made for; the others are answered as well."""


WORLDS = {
    "switches": World(
        "a factor is on or off in a line, and elements show it",
        # In one dimension the sphere of latents is two points.
        (*ONE_FACTOR, "latent_dimension=1", "activity_contrast=8"), ONE_GATE, ("R90", "R91"),
    ),
    "dimmer": World(
        "a factor's activity varies evenly between lines",
        (*ONE_FACTOR, "latent_dimension=3", "activity_contrast=1"), ONE_GATE, ("R90",),
    ),
    "same_elements": World("all lines use elements alike", (*SMALL, "enrichment=0"), FOUR_EPOCHS, ("R91",)),
    "inside": World(
        "test and validation line are mixtures of training lines", SMALL, FOUR_EPOCHS, ("R92", "recovery")
    ),
    "outside": World(
        "test and validation line are unlike all others", (*SMALL, "interpolated_lines=0"),
        (*FOUR_EPOCHS, "fold.test_line=sim2", "fold.valid_line=sim8"), ("R92", "recovery"),
    ),
}  # fmt: skip


def run_script(script: str, words: list[str]) -> None:
    """Run a script of the project; its output is shown only if it fails."""
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"{shlex.join([script, *words])} failed: {done.stderr.strip()[-2000:]}")


def verdicts(world: World, folder: Path, workers: int) -> list[dict[str, Any]]:
    """Simulate, train, verify."""
    store, runs = folder / "store", folder / "runs"
    run_script("data_pipeline/simulate.py", ["--out", str(store), *world.simulate])
    run = ["--store", str(store), "--runs", str(runs), "--name", "run", "--workers", str(workers)]
    run_script("distributed/train.py", ["--config", str(SIMULATED), *run, *world.train])
    return verified(open_run(runs / "run"), [], None)


def main(
    worlds: Annotated[str, typer.Option(help="Worlds by comma; default: all.")] = ",".join(WORLDS),
    out: Annotated[Path | None, typer.Option(help="Write the verdicts here as JSON.")] = None,
    workers: Annotated[int, typer.Option(help="Training workers.", min=1)] = 1,
) -> None:
    """Print prediction, what is planted, and what came out, world by world."""
    names = [name for name in worlds.split(",") if name]
    unknown = [name for name in names if name not in WORLDS]
    if unknown or not names:
        raise UserError(f"there is no world '{unknown[0] if unknown else worlds}'; there are {', '.join(WORLDS)}")
    console = Console(width=140)
    table = Table("world", "prediction", "planted", "came out", "statistic")
    found: dict[str, Any] = {}
    for name in names:
        console.print(f"{name}: {WORLDS[name].says}")
        with tempfile.TemporaryDirectory() as folder:
            own = verdicts(WORLDS[name], Path(folder), workers)
        asked = [verdict for verdict in own if verdict["requirement"] in WORLDS[name].asked]
        found[name] = {"says": WORLDS[name].says, "verdicts": own}
        for verdict in asked:
            row = (verdict["requirement"], verdict["expected"], verdict["outcome"])
            table.add_row(name, *row, f"{verdict['says']}; {verdict['planted']}")
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(strict(found), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    console.print(table)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    command_line(app)
