"""Gathers what the predictions R90-R93 are tested on for one run: other runs, a search, the truth of a simulated store.

The tests themselves are in evaluation/falsifiable.py. Several runs of one store (seeds) add their gates to those of the
run; everything else is about the run alone. Raises `UserError` for a run or search that does not belong to the store.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logit

from data_pipeline.errors import UserError
from data_pipeline.settings import validate
from data_pipeline.simulator import read_truth
from data_pipeline.store import Store
from distributed.run_folder import EPOCHS, read_records
from evaluation import (
    LineView,
    Verdict,
    factors_are_recovered,
    gates_are_bimodal,
    invariant_tells_nothing,
    unseen_lie_inside,
    weights_are_sensitive,
)
from model.balancing import acting_fields
from model.objective import ObjectiveSettings

TRIALS, RECORD, RUNS = "trials.parquet", "search.json", "runs"
"""A search's table of trials, its settings and its folder of runs."""
TERMS = "objective.terms."
WITHIN = (1e-7, 1 - 1e-7)
"""Half gains that single precision tells from 0 and 1."""


def verify_run(
    views: Sequence[LineView], more_gates: Sequence[NDArray[np.float64]], store: Store, search: Path | None
) -> list[dict[str, Any]]:
    """The verdicts on R90-R93 as plain values, and on a simulated store that on the planted factors.

    `views` of the run's lines, `more_gates` (V,) what drives the gates of other runs, `search` the folder of a search
    or None.
    """
    truth = read_truth(store, "lines") if store.manifest.truth else None
    place = [store.lines.index(view.line) for view in views]
    latent = None if truth is None else truth.full("latent")[place].astype(np.float64)
    # A gate 2 sigmoid(w R) equals the planted gain at this w R.
    drive = None if truth is None else logit(np.clip(truth.full("gain")[place].astype(np.float64) / 2, *WITHIN))
    trained = np.array([view.trained for view in views])
    environments = [view.environment for view in views]
    known, new = (_stacked(environments, trained == side) for side in (True, False))
    gates = np.concatenate([*[view.drive for view in views], *more_gates])
    verdicts = [
        gates_are_bimodal(gates, None if drive is None else drive.ravel()),
        _independence([view for view in views if view.trained], store, planted=truth is not None),
        unseen_lie_inside(known, new, None if latent is None else (latent[trained], latent[~trained])),
        *weights_are_sensitive(pd.DataFrame() if search is None else read_trials(search)),
    ]
    if latent is not None:
        verdicts.append(factors_are_recovered(np.stack([own.mean(axis=0) for own in environments]), latent))
    return [asdict(verdict) for verdict in verdicts]


def _stacked(environments: list[NDArray[np.float64]], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.stack([environments[index] for index in np.flatnonzero(chosen)])


def _independence(views: list[LineView], store: Store, planted: bool) -> Verdict:
    codes = np.concatenate([view.invariant for view in views])
    rows = np.concatenate([view.rows for view in views])
    line = np.repeat(np.arange(len(views)), [len(view.rows) for view in views])
    environment = np.stack([view.environment.mean(axis=0) for view in views])
    deciding = None
    if planted:
        matches = read_truth(store, "pairs").full("match")[rows].astype(np.float64)
        deciding = np.column_stack([matches, np.log(store.pairs.distance[rows].astype(np.float64))])
    return invariant_tells_nothing(codes, line, store.pairs.promoter[rows], environment, deciding)


def read_trials(search: Path) -> pd.DataFrame:
    """The finished trials of a search as `weights_are_sensitive` reads them; raises `UserError`."""
    if not (search / TRIALS).is_file():
        raise UserError(
            f"{search} is no folder of a search: it has no {TRIALS}; give the folder that tune/search.py made"
        )
    table = pd.read_parquet(search / TRIALS)
    table = table[table["state"] == "complete"]
    searched = [name for name in table.columns if name.startswith(TERMS) and name.endswith((".weight", ".ratio"))]
    objectives = [_objective(search, row) for row in table.to_dict("records")]
    found = pd.DataFrame({"score": table["score"]})
    for name in searched:
        term, kind = name.removeprefix(TERMS).rsplit(".", 1)
        found[f"{kind}/{term}"] = table[name].astype(float)
        found[f"share/{term}"] = [_last(search, runs, f"gradient_ratio/{term}") for runs in table["runs"]]
        # A mean weight of exactly 0 in the last epoch: the term had not started when the runs ended.
        begun = [_last(search, runs, f"weight/{term}") != 0 for runs in table["runs"]]
        found[f"acts/{kind}/{term}"] = [
            own and getattr(objective.terms, term).on and kind in acting_fields(objective.balance.mode)
            for own, objective in zip(begun, objectives, strict=True)
        ]
    return found


def _objective(search: Path, trial: dict[Hashable, Any]) -> ObjectiveSettings:
    """What the runs of a trial minimised: what all runs share, with the trial's point."""
    file = search / RECORD
    if not file.is_file():
        raise UserError(f"{search} is no folder of a search: it has no {RECORD}; give the folder tune/search.py made")
    tree = json.loads(file.read_text(encoding="utf-8"))["run"]
    for name, value in trial.items():
        *branches, leaf = str(name).split(".")
        if branches[:1] == ["objective"]:
            node = tree
            for branch in branches:
                node = node[branch]
            node[leaf] = value.item() if isinstance(value, np.generic) else value
    return validate(ObjectiveSettings, tree["objective"], str(file))


def _last(search: Path, runs: Sequence[str], figure: str) -> float:
    """Mean over a trial's runs of the last epoch's mean of a step's `figure`; NaN where nobody recorded it."""
    key = f"mean/{figure}"
    epochs = [read_records(search / RUNS / run / EPOCHS) for run in runs]
    # A validation within an epoch has no means.
    last = [float(table[key].dropna().iloc[-1]) for table in epochs if key in table and table[key].notna().any()]
    return float(np.mean(last)) if last else float("nan")
