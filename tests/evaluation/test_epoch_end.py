"""Claims about the figures of an epoch's end that need a model and a store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tiny_training import tiny_fold, tiny_settings, tiny_store

from distributed.assembly import build_module
from distributed.run_folder.checkpoint import Identity, TrainingState
from evaluation.epoch_end import epoch_figures
from evaluation.metrics import average_precision
from evaluation.scoring import Gather, Scorer


def test_one_channel_ranks_as_u_alone_whatever_support_set_served_a_pair(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "store")
    fold, settings = tiny_fold(store), tiny_settings("model.energy.channels=1", "scoring.support_draws=1")
    torch.manual_seed(0)
    model = build_module(store, fold, settings).model
    # As if trained: environments far apart, so that pairs with different support sets have different offsets.
    for parameter in model.support.parameters():
        parameter.data *= 5.0
    # All pairs of the line: no support is apart from all of them.
    rows = fold.rows(store, fold.valid_line)
    figures = epoch_figures(model, store, fold, settings, rows, (0, 1, lambda own, total: own))
    assert figures["valid/environment_gain_of_one_channel"] == 0.0
    scorer = Scorer(model, store, settings.support_in_use, settings.scoring)
    scores = scorer.score_line(rows, fold.rows(store, fold.valid_line), 1, 0)
    labels = store.pairs.label[rows]
    mixed = average_precision(labels, scores.logits[:, 0]) - average_precision(labels, scores.neutral)
    assert 0 < np.count_nonzero(scores.alike) < len(rows)
    assert abs(mixed) > 1e-3


def fresh() -> TrainingState:
    return TrainingState(
        step=10, identity=Identity(store="", fold="", plan=""), inputs={}, train_lines=[], signal_names=[], settings={}
    )


def test_training_stops_after_as_many_epochs_without_gain_as_it_was_given_patience() -> None:
    state = fresh()
    ends = []
    for score in (0.5, 0.4, 0.6, 0.6, 0.5, 0.55):
        state = state.judged(score, patience=3, steps=100)
        ends.append((state.epochs_without_gain, state.finished))
    assert ends == [(0, False), (1, False), (0, False), (1, False), (2, False), (3, True)]
    assert (state.best_score, state.score) == (0.6, 0.55)
    assert not state.judged(0.1, patience=0, steps=100).finished
    assert state.judged(0.9, patience=0, steps=10).finished


def test_epochs_that_are_no_candidates_are_neither_the_best_nor_patience() -> None:
    state, ends = fresh(), []
    for score, candidate in ((0.9, False), (0.8, False), (0.5, True), (0.4, True), (0.6, True)):
        state = state.judged(score, patience=2, steps=100, candidate=candidate)
        ends.append((state.best_score, state.epochs_without_gain))
    assert ends == [(0.9, 0), (0.8, 0), (0.5, 0), (0.5, 1), (0.6, 0)]
    assert not state.finished


def test_context_is_compared_with_the_support_of_several_training_lines(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "store", "lines=5")
    fold = tiny_fold(store, test_line="sim5", valid_line="sim4")
    settings = tiny_settings("scoring.support_draws=1")
    torch.manual_seed(0)
    model = build_module(store, fold, settings).model
    for parameter in model.support.parameters():
        parameter.data *= 5.0
    rows = fold.rows(store, fold.valid_line)
    alone: tuple[int, int, Gather] = (0, 1, lambda own, total: own)

    def lead(lines: tuple[str, ...]) -> float:
        named = replace(fold, train_lines=lines)
        return epoch_figures(model, store, named, settings, rows, alone)["valid/context_gain"]

    several = ("sim1", "sim2", "sim3")
    # Every line takes part: another in the place of any of them is another figure.
    changed = [(*several[:place], "sim5", *several[place + 1 :]) for place in range(3)]
    assert len({lead(lines) for lines in (several, *changed)}) == 4
    assert lead(("sim4",)) == 0.0
