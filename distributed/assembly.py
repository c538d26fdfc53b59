"""What a run is assembled from: the module for a store, its number of steps, its validation pairs.

Shared by the driver, which checks a run before it starts it, by the workers and by evaluation; no engine is needed.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from data_pipeline.episodes import Fold, Plan
from data_pipeline.errors import UserError, listed
from data_pipeline.store import Store, assays_of, group_of
from distributed.exchange import gather_episodes
from distributed.settings import RunSettings
from model.objective import TrainingModule

STATISTICS_ROWS = 200_000
"""Most training pairs looked at for the statistics of signals."""


def build_module(store: Store, fold: Fold, settings: RunSettings) -> TrainingModule:
    """The training module for `store`, with statistics and class counts of the training pairs in its buffers."""
    module = TrainingModule(
        settings.model,
        settings.objective,
        signals=len(store.signal_names),
        line_features=store.line_features.shape[1],
        lines=len(fold.train_lines),
        seed=settings.train.seed,
        gather=gather_episodes,
    )
    rows = np.concatenate([fold.rows(store, line, "train") for line in fold.train_lines])
    labels = store.pairs.label[rows]
    module.task.set_class_counts(int((labels == 1).sum()), int((labels == 0).sum()))
    sample = rows[:: -(-len(rows) // STATISTICS_ROWS)]
    model, names = module.model, store.signal_names
    model.withhold(torch.from_numpy(left_out(names, settings.model.signals.leave_out)))
    model.set_assays(torch.from_numpy(needed_assays(names)))
    model.fit_signals(torch.from_numpy(store.signals(sample)))
    lines = store.line_features[[store.lines.index(line) for line in fold.train_lines]]
    module.model.fit_line_features(torch.from_numpy(lines))
    module.set_lines(fold.train_lines, torch.from_numpy(lines))
    return module


def left_out(tracks: list[str], names: list[str]) -> NDArray[np.bool_]:
    """(S,) tracks that `names` leave out; raises `UserError` for a name that no track answers to."""
    answers = [{track, group_of(track), track.partition(":")[0], *assays_of(track)} for track in tracks]
    for name in names:
        if not any(name in own for own in answers):
            raise UserError(
                f"model.signals.leave_out names '{name}', and the store's signals know no such assay, group or track; "
                f"they have {listed(sorted(set().union(*answers) - set(tracks)))}"
            )
    return np.array([bool(own & set(names)) for own in answers], dtype=bool)


def needed_assays(tracks: list[str]) -> NDArray[np.bool_]:
    """(A, S) which of the assays that `tracks` speak of each of them needs."""
    assays = sorted({assay for track in tracks for assay in assays_of(track)})
    return np.array([[assay in assays_of(track) for track in tracks] for assay in assays], dtype=bool).reshape(
        len(assays), len(tracks)
    )


def total_steps(plan: Plan, settings: RunSettings) -> int:
    """Most steps a run takes."""
    steps = settings.train.epochs * plan.steps_per_epoch
    return min(steps, settings.train.max_steps) if settings.train.max_steps else steps


def validation_rows(store: Store, fold: Fold, most: int) -> NDArray[np.int64]:
    """Labelled pairs of the validation line in the zone meant for choosing, thinned evenly to `most`."""
    rows = fold.rows(store, fold.valid_line, fold.choosing_zone)
    rows = rows[store.pairs.label[rows] >= 0]
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)] if len(rows) else rows
