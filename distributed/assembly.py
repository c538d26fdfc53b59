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
PROFILE_ROWS = 4_000
"""Most training pairs whose profiles are looked at for theirs: each has a hundred columns."""


def unfitted_module(store: Store, fold: Fold, settings: RunSettings) -> TrainingModule:
    """The training module for `store` before it has seen a pair: for who puts the state of another into it."""
    module = TrainingModule(
        settings.model,
        settings.objective,
        signals=len(store.signal_names),
        line_features=store.line_features.shape[1],
        lines=len(fold.train_lines),
        seed=settings.train.seed,
        gather=gather_episodes,
        tracks=len(store.landscape_names),
    )
    module.model.set_assays(torch.from_numpy(needed_assays(looked_at(store, settings))))
    module.set_lines(fold.train_lines, torch.from_numpy(_line_features(store, fold)))
    return module


def build_module(store: Store, fold: Fold, settings: RunSettings) -> TrainingModule:
    """The training module for `store`, with statistics and class counts of the training pairs in its buffers.

    Raises `UserError` where `signals.leave_out` names what the store does not have.
    """
    module = unfitted_module(store, fold, settings)
    rows = np.concatenate([fold.rows(store, line, "train") for line in fold.train_lines])
    labels = store.pairs.label[rows]
    module.task.set_class_counts(int((labels == 1).sum()), int((labels == 0).sum()))
    sample = rows[:: -(-len(rows) // STATISTICS_ROWS)]
    module.model.withhold(torch.from_numpy(left_out(looked_at(store, settings), settings.model.signals.leave_out)))
    module.model.fit_signals(torch.from_numpy(store.signals(sample)))
    if shape := settings.model.environment.profile.shape:
        few = rows[:: -(-len(rows) // PROFILE_ROWS)]
        module.model.fit_profile(torch.from_numpy(store.profile(few, shape)))
    module.model.fit_line_features(torch.from_numpy(_line_features(store, fold)))
    return module


def _line_features(store: Store, fold: Fold) -> NDArray[np.float32]:
    """(C, F) feature vectors of the training lines."""
    return store.line_features[[store.lines.index(line) for line in fold.train_lines]]


def looked_at(store: Store, settings: RunSettings) -> list[str]:
    """(S,) signals of the store, and (S + W,) with the tracks of its landscapes where profiles are read."""
    profile = settings.model.environment.profile.on
    return store.signal_names + [f"landscape:{name}" for name in store.landscape_names if profile]


def left_out(tracks: list[str], names: list[str]) -> NDArray[np.bool_]:
    """(S,) tracks that `names` leave out, in whatever case; raises `UserError` for a name that no track answers to."""
    answers = [{track, group_of(track), track.partition(":")[0], *assays_of(track)} for track in tracks]
    folded = [{own.casefold() for own in given} for given in answers]
    for name in names:
        if not any(name.casefold() in own for own in folded):
            raise UserError(
                f"model.signals.leave_out names '{name}', and the store's signals know no such assay, group or track; "
                f"they have {listed(sorted(set().union(*answers) - set(tracks)))}"
            )
    wanted = {name.casefold() for name in names}
    return np.array([bool(own & wanted) for own in folded], dtype=bool)


def needed_assays(tracks: list[str]) -> NDArray[np.bool_]:
    """(A, S) which of the assays that `tracks` speak of each of them needs; H3K27AC of a file is H3K27ac of context."""
    needs = [{assay.casefold() for assay in assays_of(track)} for track in tracks]
    assays = sorted(set().union(*needs))
    return np.array([[assay in own for own in needs] for assay in assays], dtype=bool).reshape(len(assays), len(tracks))


def total_steps(plan: Plan, settings: RunSettings) -> int:
    """Most steps a run takes."""
    steps = settings.train.epochs * plan.steps_per_epoch
    return min(steps, settings.train.max_steps) if settings.train.max_steps else steps


def judged_next(plan: Plan, settings: RunSettings, step: int) -> int:
    """The step before which a run that is at `step` is judged next: an epoch's end, its own, or one within."""
    every = settings.train.validate_every
    epoch_end = (plan.epoch_of(step) + 1) * plan.steps_per_epoch
    return min(epoch_end, (step // every + 1) * every if every else epoch_end, total_steps(plan, settings))


def judgements(plan: Plan, settings: RunSettings) -> int:
    """Most validations of a run."""
    count, step = 0, 0
    while step < total_steps(plan, settings):
        count, step = count + 1, judged_next(plan, settings, step)
    return count


def validation_rows(store: Store, fold: Fold, most: int) -> NDArray[np.int64]:
    """Labelled pairs of the validation line in the zone meant for choosing, thinned evenly to `most`."""
    rows = fold.rows(store, fold.valid_line, fold.choosing_zone)
    rows = rows[store.pairs.label[rows] >= 0]
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)] if len(rows) else rows
