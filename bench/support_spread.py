"""How much the draw of one support set decides: average precision with single supports of several sizes, many draws.

    python bench/support_spread.py --run runs/NAME --out bench/results/support_spread.json      # minutes on two cores

For the validation line and the test line of the run's fold, on the stretches of genome held out from both, it prints
mean, spread and worst average precision over draws per size, for the rule of data_pipeline/episodes/supports.py
(support and query share no element) and, to see what the rule is worth, for supports of any pairs of the line, the
query's own ones among them. --every-checkpoint asks the same of each checkpoint the run kept on the validation line
(train with `train.keep_best=100` to keep all): the spread there against the differences between epochs is what early
stopping sees.
Every pair of a line goes through the trunk once.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from data_pipeline.episodes import SupportSize, Zone, draw_supports
from data_pipeline.errors import UserError, command_line
from distributed.fold_evaluation import TrainedRun, load_model, open_run
from distributed.run_folder import checkpoints
from evaluation import Scorer, average_precision
from model.episode_model import EpisodeModel

SIZES = (8, 32, 128, 256, 1024)
Floats = NDArray[np.float64]


class Line:
    """The labelled pairs of one line in one zone, ready to be scored with any support of the line."""

    def __init__(self, trained: TrainedRun, model: EpisodeModel, line: str, zone: Zone) -> None:
        """Put all pairs of the line through the trunk."""
        store = trained.store
        self.store, self.scorer = store, Scorer(model, store, SupportSize.exactly(1), trained.settings.scoring)
        self.pool, rows = trained.fold.rows(store, line), trained.fold.rows(store, line, zone)
        self.rows = rows[store.pairs.label[rows] >= 0]
        self.labels = store.pairs.label[self.rows]
        self.h = self.scorer.pair_features(self.pool)

    def features(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(k, d) pair features of `rows` of the line."""
        return self.h[np.searchsorted(self.pool, rows)]

    def logits(self, support: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(k,) logits of `rows` with one support."""
        return self.scorer.heads(self.features(support), self.features(rows), support, rows)[0]

    def neutral(self) -> float:
        """Average precision of U_I alone."""
        one = self.pool[:1]
        return average_precision(
            self.labels, self.scorer.heads(self.features(one), self.features(self.rows), one, self.rows)[1]
        )

    def apart(self, size: int, draw: int) -> float:
        """Average precision with one support by the rule of use."""
        logits = np.empty(len(self.rows), dtype=np.float32)
        for part in draw_supports(self.store, self.rows, self.pool, SupportSize.exactly(size), 1, draw):
            logits[part.positions] = self.logits(part.supports[0], self.rows[part.positions])
        return average_precision(self.labels, logits)

    def any(self, size: int, draw: int) -> float:
        """Average precision with one support of any pairs of the line."""
        support = np.sort(np.random.default_rng(draw).choice(self.pool, size=size, replace=False))
        return average_precision(self.labels, self.logits(support, self.rows))


def summary(values: list[float]) -> dict[str, float]:
    """Mean, spread and worst of average precisions."""
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)), "worst": min(values)}


def spread(line: Line, sizes: list[int], draws: int) -> dict[str, Any]:
    """`neutral`, and per rule and size the summary over `draws` supports."""
    found: dict[str, Any] = {"pairs": len(line.rows), "neutral": line.neutral()}
    for rule, score in (("apart", line.apart), ("any", line.any)):
        found[rule] = {size: summary([score(size, draw) for draw in range(draws)]) for size in sizes}
    return found


def by_checkpoint(trained: TrainedRun, run: Path, sizes: list[int], draws: int) -> dict[str, Any]:
    """Of every checkpoint at an epoch's end the spread on the validation line, and how often each would be chosen."""
    kept = [(folder, state) for folder, state in checkpoints(run) if state.score >= 0]
    scores: dict[int, dict[int, list[float]]] = {size: {} for size in sizes}
    for folder, state in kept:
        model, _ = load_model(folder, trained.store, trained.fold)
        line = Line(trained, model, trained.fold.valid_line, trained.fold.choosing_zone)
        for size in sizes:
            scores[size][state.step] = [line.apart(size, draw) for draw in range(draws)]
    # One draw decides about all checkpoints in a run, because validation draws the same supports each time.
    chosen = {
        size: Counter(max(own, key=lambda step: own[step][draw]) for draw in range(draws))
        for size, own in scores.items()
    }
    return {
        "spread": {size: {step: summary(own) for step, own in steps.items()} for size, steps in scores.items()},
        "chosen": {size: dict(counts) for size, counts in chosen.items()},
    }


def show(found: dict[str, Any], console: Console) -> None:
    """Print the spread of every line and, where it was asked for, of every checkpoint."""
    for rule, title in (("apart", "no element shared with the query"), ("any", "any pairs of the line")):
        table = Table(title=f"average precision with one support: {title} (mean ± sd over draws, worst)")
        for name in ("line", "U_I alone", *(f"m = {size}" for size in found["sizes"])):
            table.add_column(name, justify="right")
        for line, own in found["lines"].items():
            table.add_row(line, f"{own['neutral']:.3f}", *map(_cell, own[rule].values()))
        console.print(table)
    if "checkpoints" in found:
        table = Table(title="validation line by checkpoint: one support (mean ± sd, worst), draws that would choose it")
        for name in ("step", *(f"m = {size}" for size in found["sizes"])):
            table.add_column(name, justify="right")
        own = found["checkpoints"]
        for step in next(iter(own["spread"].values())):
            cells = [f"{_cell(own['spread'][m][step])}; {own['chosen'][m].get(step, 0)}" for m in found["sizes"]]
            table.add_row(str(step), *cells)
        console.print(table)


def _cell(own: dict[str, float]) -> str:
    return f"{own['mean']:.3f} ± {own['sd']:.3f}, {own['worst']:.3f}"


def main(
    run: Annotated[Path, typer.Option(help="Folder of a trained run.")],
    out: Annotated[Path | None, typer.Option(help="Add the figures to this JSON file, under --name.")] = None,
    name: Annotated[str, typer.Option(help="Name of the entry; default: the run's.")] = "",
    draws: Annotated[int, typer.Option(help="Single supports per size.", min=2)] = 20,
    every_checkpoint: Annotated[bool, typer.Option("--every-checkpoint", help="Ask each checkpoint kept.")] = False,
) -> None:
    """Print how average precision spreads over single supports of several sizes."""
    trained, console = open_run(run), Console(width=160)
    fold = trained.fold
    if fold.choosing_zone == "train":
        raise UserError(f"run {run} holds out no stretch for validation; train with fold.valid_fraction above 0")
    asked: list[tuple[str, Zone]] = [(fold.valid_line, "valid"), (fold.test_line, "test")]
    lines = {line: spread(Line(trained, trained.model, line, zone), list(SIZES), draws) for line, zone in asked}
    found = {
        "checkpoint": trained.checkpoint.name,
        "episodes.support": trained.settings.episodes.support,
        "sizes": list(SIZES),
        "draws": draws,
        "lines": lines,
    }
    if every_checkpoint:
        found["checkpoints"] = by_checkpoint(trained, run, list(SIZES), draws)
    show(found, console)
    if out:
        earlier = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(earlier | {name or run.resolve().name: found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    command_line(lambda: typer.run(main))
