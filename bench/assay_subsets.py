"""What a line with fewer assays loses: scores of the same models when a line has only some of them.

    python bench/assay_subsets.py --store stores/real_context --seeds 3 --out bench/results/assay_subsets.json

Trained on GM12878 and HeLa-S3 outside a fold's chromosomes, with assays dropped at random (`model.signals.dropout`);
tested on IMR90 and NHEK within them, as in bench/peer_folds.py. Each row takes all signals and columns of context away
that need an assay outside its subset, in the support as in the query. `trained on all` is the model of no dropout, for
what the training with gaps costs where there are none, and gains where there are. AP and eq are means over folds, of
the mean logit over the seeds; intervals are percentiles of a bootstrap that draws chromosomes within folds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from peer_folds import FOLDS, LINES, Asked, figures, pairs_of, settings_of
from rich.console import Console
from rich.table import Table

from data_pipeline.errors import command_line
from data_pipeline.store import assays_of
from distributed.crew import Crew
from distributed.fold_evaluation import Group, open_run, predict_groups
from distributed.fold_training import train

ORDER = ("DNase", "H3K27ac", "CTCF", "H3K4me3", "H3K4me1", "H3K27me3", "H3K36me3", "H3K9me3")
"""In the order in which laboratories have them; each row of the table has one more."""
TRAINED = {"with gaps": "model.signals.dropout=0.3", "on all": "model.signals.dropout=0"}


def subset_scores(store: Path, runs: Path, line: str, fold: int, seeds: int, asked: Asked) -> pd.DataFrame:
    """The test pairs of one fold with a column of mean logits per training and number of assays."""
    columns: dict[str, np.ndarray[Any, Any]] = {}
    for trained_how, override in TRAINED.items():
        own = Asked(asked.config, [*asked.overrides, override], asked.crew)
        for seed in range(seeds):
            name = f"{line}-fold{fold + 1}-{trained_how.replace(' ', '-')}-seed{seed}"
            settings = settings_of(line, fold, seed, own)
            run = open_run(train(settings, store, runs, name, resume=(runs / name).exists(), by=asked.crew.fit))
            rows = run.fold.rows(run.store, line, "test")
            for count in range(len(ORDER) + 1):
                gone = [not set(assays_of(track)) <= set(ORDER[:count]) for track in run.store.signal_names]
                run.model.withheld = torch.tensor(gone)
                group = Group(line, "test", "unseen_line/unseen_chrom", rows)
                logits = predict_groups(run.model, run.store, run.fold, [group], run.settings)["logit"]
                key = f"{trained_how}/{count}"
                columns[key] = columns.get(key, np.zeros(len(rows))) + logits.to_numpy(np.float64) / seeds
    return pairs_of(run.store, rows, fold).assign(**columns)


def main(
    store: Annotated[Path, typer.Option(help="Store made from configs/stores/real_context.yaml.")],
    out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the runs; finished ones are not repeated.")] = Path(
        "runs/assays"
    ),
    seeds: Annotated[int, typer.Option(help="Seeds per fold and training.", min=1)] = 1,
    config: Annotated[str, typer.Option(help="Preset of the runs.")] = "configs/train/context.yaml",
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as key.sub=value.")] = None,
) -> None:
    """Train with and without gaps, and print the scores of every subset."""
    asked = Asked(config, overrides or [], Crew(runs / "workers"))
    table = Table(title="Unseen line and unseen chromosomes, AP / eq", title_justify="left")
    for name in ("assays of the line", *(f"{line}, trained {how}" for line in LINES for how in TRAINED)):
        table.add_column(name)
    found = {
        line: figures(pd.concat([subset_scores(store, runs, line, f, seeds, asked) for f in range(len(FOLDS))],
                                ignore_index=True))
        for line in LINES
    }  # fmt: skip
    asked.crew.close()
    for count in range(len(ORDER) + 1):
        cells = [found[line]["scores"][f"{how}/{count}"] for line in LINES for how in TRAINED]
        label = "none (places and genes)" if count == 0 else ("+ " if count > 1 else "") + ORDER[count - 1]
        table.add_row(label, *(f"{own['ap']:.3f} / {own['eq']:.3f}" for own in cells))
    Console(width=150).print(table)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"order": ORDER, "lines": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    command_line(app)
