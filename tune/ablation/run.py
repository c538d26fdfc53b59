"""One run of an ablation: train a variant on a fold with a seed, then judge it on the test line.

Beside the average precision of the model stand, on the same pairs, that of U_I alone and that under supports of wrong
lines; and from the run's own records what every mechanism did: its gradient against the task's, the spread of the
gates, the alarms. Supports and thinning are those of distributed/evaluate.py, whose report of the run so has the same
figures.
Cost: that of the run, and two scorings of the test line.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from data_pipeline.durable import write_durably
from data_pipeline.episodes import Fold, draw_supports, resolve_fold
from data_pipeline.errors import UserError
from data_pipeline.settings import Settings, validate
from data_pipeline.store import Store
from distributed.fit import fit
from distributed.fold_evaluation import groups_of, load_model, predict_groups
from distributed.run_folder import ALARMS, STEPS, best_checkpoint, read_lines, read_records, word_of
from distributed.settings import RunSettings
from evaluation import Scorer, average_precision, environment_can_rank, gain_under_one_support
from model.episode_model import EpisodeModel
from tune.search_space import reason_of, train_run

LATE = 0.5
"""Share of a run's steps, at its end, that a mechanism's activity is averaged over."""
ACTIVITY = ("gradient_ratio/", "loss/", "gate/sd", "resistance/sd", "shift/sd", "environment/scale")
"""Step records that say what mechanisms did."""
THEOREM = "theorem"
"""Figure of a run whose environment cannot rank: how far it does all the same."""
DRAW, WRONG = "logit_draw_", "logit_wrong_"
"""Columns of predictions: logits per support draw, and per wrong line's support."""


class Cell(Settings):
    """What one run is: variant, fold, seed."""

    variant: str
    """Name of the variant."""
    test_line: str
    """Line it is judged on."""
    valid_line: str
    """Line that stops it and chooses its checkpoint."""
    seed: int
    """`train.seed`."""

    @property
    def run(self) -> str:
        """Name of the run."""
        lines = (word_of(line, 20) for line in (self.test_line, self.valid_line))
        return "-".join((self.variant, *lines, str(self.seed)))


class Outcome(Settings):
    """How a run ended, and what it showed."""

    cell: Cell
    """The run."""
    state: Literal["complete", "failed"]
    """Whether it can be compared."""
    reason: str = ""
    """Why it failed."""
    seconds: float = 0.0
    """Wall-clock time of training and judging, in the process that finished it."""
    steps: int = 0
    """Steps trained."""
    valid_ap: float = 0.0
    """Best average precision on the validation line."""
    figures: dict[str, float] = Field(default_factory=dict)
    """`FIGURE/QUADRANT` of the test line; a figure that does not exist is left out."""
    activity: dict[str, float] = Field(default_factory=dict)
    """Mean of step records over the late steps."""
    alarms: list[str] = Field(default_factory=list)
    """Alarms that turned on and responses that acted, each once."""


class CellTask(Settings):
    """What a run needs; it travels to where the run is driven from as JSON values."""

    cell: Cell
    """Which run."""
    settings: dict[str, Any]
    """Its settings."""
    store: str
    """Absolute path of the store."""
    checksum: str
    """Its checksum."""
    runs: str
    """Absolute path of the folder of runs."""
    predictions: str
    """Absolute path of the folder of predictions."""
    pairs: int
    """Most pairs judged per quadrant."""
    device: Literal["cpu", "cuda"]
    """Where workers compute."""


def run_cell(content: dict[str, Any], train: Callable[..., None] = fit) -> dict[str, Any]:
    """What Ray runs: a `CellTask` to an `Outcome`, both as JSON values; whatever ends the run is its reason."""
    task = validate(CellTask, content, "ablation")
    try:
        return finish(task, train).model_dump(mode="json")
    except Exception as error:  # the other runs go on, and the table tells
        return Outcome(cell=task.cell, state="failed", reason=reason_of(error)).model_dump(mode="json")


def finish(task: CellTask, train: Callable[..., None] = fit) -> Outcome:
    """Train the run to its end, write its predictions, and say what it showed."""
    began = time.perf_counter()
    settings = validate(RunSettings, task.settings, "ablation")
    store_path = Path(task.store)
    run, state = train_run(Path(task.runs), task.cell.run, store_path, task.checksum, settings, task.device, train)
    store = Store.open(store_path)
    predictions, can_rank = judge(run, store, settings, task.pairs)
    write_durably(Path(task.predictions) / f"{task.cell.run}.parquet", predictions.to_parquet(index=False))
    bayes = store.manifest.truth.get("lines", {}).get(task.cell.test_line, {}).get("bayes_average_precision")
    return Outcome(
        cell=task.cell,
        state="complete",
        seconds=time.perf_counter() - began,
        steps=state.step,
        valid_ap=state.best_score,
        figures=figures(predictions, can_rank) | ({} if bayes is None else {"bayes": float(bayes)}),
        activity=activity(read_records(run / STEPS)),
        alarms=alarms(read_lines(run / ALARMS)),
    )


def judge(run: Path, store: Store, settings: RunSettings, most: int) -> tuple[pd.DataFrame, bool]:
    """Predictions of the best checkpoint of `run` for the test line, wrong lines' supports beside the right ones.

    And whether its environment can change a ranking inside a line at all.
    """
    fold = resolve_fold(store, settings.fold)
    model, _ = load_model(best_checkpoint(run), store, fold)
    groups = [group for group in groups_of(store, fold, most) if group.line == fold.test_line]
    if not groups:
        raise UserError(f"test line '{fold.test_line}' has no labelled pair to be judged on")
    predictions = predict_groups(model, store, fold, groups, settings)
    wrong = wrong_supports(model, store, fold, predictions["row"].to_numpy(), settings)
    columns = {f"{WRONG}{index}": wrong[:, index] for index in range(wrong.shape[1])}
    predictions = pd.concat([predictions, pd.DataFrame(columns, index=predictions.index)], axis=1)
    return predictions, environment_can_rank(model)


def wrong_supports(
    model: EpisodeModel, store: Store, fold: Fold, rows: NDArray[np.int64], settings: RunSettings
) -> NDArray[np.float32]:
    """(k, lines) logits of pairs `rows` with the support of a training line in place of their own.

    As many training lines as there are support draws, spread evenly over them.
    """
    scorer = Scorer(model, store, settings.support_in_use, settings.scoring)
    lines = fold.train_lines
    chosen = np.unique(np.linspace(0, len(lines) - 1, min(settings.scoring.support_draws, len(lines))).astype(int))
    pools = [fold.rows(store, lines[index]) for index in chosen]
    plans = [draw_supports(store, rows, pool, scorer.support, 1, 1) for pool in pools]
    needed = np.unique(np.concatenate([rows, *[part.supports[0] for plan in plans for part in plan]]))
    h = scorer.pair_features(needed)
    logits = np.empty((len(rows), len(plans)), dtype=np.float32)
    for column, plan in enumerate(plans):
        for part in plan:
            support, query = part.supports[0], rows[part.positions]
            own = h[np.searchsorted(needed, support)], h[np.searchsorted(needed, query)]
            logits[part.positions, column] = scorer.heads(*own, support, query)[0]
    return logits


def figures(predictions: pd.DataFrame, can_rank: bool = True) -> dict[str, float]:
    """`ap`, `u`, `right`, `wrong`, `prevalence`, `pairs` of each quadrant.

    `ap` is of the mean logit of all draws; `right` and `wrong` take one support at a time, and so are comparable. Where
    the environment cannot rank, `theorem` is the model's lead over U_I on the pairs that one support serves: 0 by
    algorithms.md 0.1. Other pairs have another support, so another offset.
    """
    found: dict[str, float] = {}
    for quadrant, group in predictions.groupby("quadrant", observed=True):
        labels = group["label"].to_numpy()
        place = short(str(quadrant))
        found |= {
            f"ap/{place}": average_precision(labels, group["logit"]),
            f"u/{place}": average_precision(labels, group["u"]),
            f"right/{place}": _mean_ap(labels, group, DRAW),
            f"wrong/{place}": _mean_ap(labels, group, WRONG),
            f"prevalence/{place}": float(labels.mean()),
            f"pairs/{place}": float(len(group)),
        }
        if not can_rank:
            columns = (group[name].to_numpy() for name in (f"{DRAW}0", "u", "alike"))
            found[f"{THEOREM}/{place}"] = gain_under_one_support(labels, *columns)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def short(quadrant: str) -> str:
    """A quadrant of the test line, `unseen_line/unseen_chrom`, without what all of them share."""
    return quadrant.split("/")[1]


def activity(steps: pd.DataFrame) -> dict[str, float]:
    """Means of the records in `ACTIVITY` over the late steps of a run's `steps`."""
    if steps.empty:
        return {}
    last = steps[steps["step"] >= (1 - LATE) * (steps["step"].max() + 1)]
    means = {str(name): float(last[name].mean()) for name in last if str(name).startswith(ACTIVITY)}
    return {name: value for name, value in means.items() if math.isfinite(value)}


def alarms(records: list[dict[str, Any]]) -> list[str]:
    """What a run's alarm records say happened: `alarm/place`, and `R103` for a response that acted; each once."""
    named = [
        record["requirement"] if "response" in record else f"{record['alarm']}/{record['place']}".rstrip("/")
        for record in records
        if (record["acted"] if "response" in record else record["on"])
    ]
    return list(dict.fromkeys(named))


def _mean_ap(labels: NDArray[Any], group: pd.DataFrame, prefix: str) -> float:
    columns = [name for name in group if str(name).startswith(prefix)]
    return float(np.mean([average_precision(labels, group[name]) for name in columns])) if columns else math.nan
