"""What a run is assembled from: the module for a store, its number of steps, its validation pairs.

Shared by the driver, which checks a run before it starts it, by the workers and by evaluation; no engine is needed.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from data_pipeline.episodes import Fold, Plan
from data_pipeline.store import Store
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
    module.model.fit_signals(torch.from_numpy(store.signals(sample)))
    lines = store.line_features[[store.lines.index(line) for line in fold.train_lines]]
    module.model.fit_line_features(torch.from_numpy(lines))
    module.set_lines(fold.train_lines, torch.from_numpy(lines))
    return module


def total_steps(plan: Plan, settings: RunSettings) -> int:
    """Most steps a run takes."""
    steps = settings.train.epochs * plan.steps_per_epoch
    return min(steps, settings.train.max_steps) if settings.train.max_steps else steps


def validation_rows(store: Store, fold: Fold, most: int) -> NDArray[np.int64]:
    """Labelled pairs of the validation line in the zone meant for choosing, thinned evenly to `most`."""
    rows = fold.rows(store, fold.valid_line, fold.choosing_zone)
    rows = rows[store.pairs.label[rows] >= 0]
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)] if len(rows) else rows
