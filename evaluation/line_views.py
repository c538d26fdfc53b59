"""What a trained model makes of every cell line of its fold: z_E per support set, w R of the gates, z_I of its pairs.

Read off the forward passes of ordinary scoring, so that what is verified is what predicts. Cost: `PAIRS` pairs and
`DRAWS` support sets per line through the trunk; a minute for a dozen lines on two cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipeline.episodes import Fold, draw_supports
from data_pipeline.store import Store
from evaluation.scoring import Gather, LineScores, Scorer
from evaluation.settings import AsksForScores
from model.episode_model import EpisodeModel
from model.scores import Scores

PAIRS = 1000
"""Pairs of a line whose z_I is looked at."""
DRAWS, FEW = 60, 50
"""Support sets drawn per line, and pairs scored with each."""
SEED = 3

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LineView:
    """One cell line as the model sees it."""

    line: str
    trained: bool
    """Whether it is a training line."""
    environment: Floats
    """(draws, dE) z_E of each support set."""
    drive: Floats
    """(K,) w R, what opens and closes the gates; means over support sets and pairs."""
    invariant: Floats
    """(n, dI) z_I of pairs on held-out chromosomes, or of all where none are held out."""
    rows: NDArray[np.int64]
    """(n,) their row numbers in the store."""


def view_lines(
    model: EpisodeModel, store: Store, fold: Fold, settings: AsksForScores, pairs: int = PAIRS, draws: int = DRAWS
) -> list[LineView]:
    """Views of the training lines, the validation line and the test line, in this order."""
    scorer = Scorer(model, store, settings.support_in_use, settings.scoring)
    return [
        _view(scorer, fold, line, line in fold.train_lines, pairs, draws)
        for line in dict.fromkeys((*fold.train_lines, fold.valid_line, fold.test_line))
    ]


def _view(scorer: Scorer, fold: Fold, line: str, trained: bool, pairs: int, draws: int) -> LineView:
    pool, held_out = fold.rows(scorer.store, line), fold.rows(scorer.store, line, "test")
    rows = held_out if len(held_out) else pool
    rows = rows[np.linspace(0, len(rows) - 1, min(pairs, len(rows))).astype(np.int64)]
    _, invariant = with_invariants(scorer, rows, pool, SEED)
    with _seen_scores(scorer.model) as seen:
        scores = scorer.score_line(rows[:: -(-len(rows) // FEW)], pool, draws, SEED)
    follow = scorer.model.energy.modulation.drive
    drive = np.stack([_numbers(follow(one.resistance)[0].mean(dim=0)) for one in seen])
    return LineView(line, trained, scores.environment.astype(np.float64), drive.mean(axis=0), invariant, rows)


def with_invariants(
    scorer: Scorer,
    rows: NDArray[np.int64],
    pool: NDArray[np.int64],
    seed: int,
    share: tuple[int, int, Gather] | None = None,
) -> tuple[LineScores, Floats]:
    """Scores of pairs `rows` (k,) of one line with one support draw, and their z_I (k, dI), row for row."""
    with _seen_scores(scorer.model) as seen:
        scores = scorer.score_line(rows, pool, 1, seed, share)
    # Supports serve the pairs in another order than they were asked for.
    served = draw_supports(scorer.store, rows, pool, scorer.support, 1, seed)
    served_first = np.concatenate([_numbers(one.invariant[0]) for one in seen])
    invariant = np.empty_like(served_first)
    invariant[np.concatenate([part.positions for part in served])] = served_first
    return scores, invariant


@contextmanager
def _seen_scores(model: EpisodeModel) -> Iterator[list[Scores]]:
    """The scores of every episode the model's energy computes meanwhile."""
    seen: list[Scores] = []
    handle = model.energy.register_forward_hook(lambda module, inputs, scores: seen.append(scores))
    try:
        yield seen
    finally:
        handle.remove()


def _numbers(tensor: Any) -> Floats:
    found: Floats = tensor.detach().cpu().double().numpy()
    return found
