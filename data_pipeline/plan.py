"""The plan: which episodes every step of training sees, computed, not observed.

An epoch is a fixed sequence of global steps of G episodes. Each episode takes one training line, n query pairs from
the next stretch of that line's shuffled pairs, and m support pairs that share neither a pair nor an element with the
query. Everything is a pure function of (store checksum, fold, seed, epoch): any step can be computed without the ones
before it, worker r of W takes episodes r, r+W, ... of a step, and the set of episodes in a step does not depend on W.
So a run can stop anywhere and go on with the next episode, on another number of workers.

Cost: a shuffle per line and epoch, and about 50 microseconds per episode.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_pipeline.errors import UserError
from data_pipeline.folds import Fold
from data_pipeline.settings import Settings
from data_pipeline.store import Store

_LINES, _QUERY, _SUPPORT = range(3)
"""Purposes of random streams; one number each, so that no two streams are the same."""
_CHECKED_TURNS = 32
"""Episodes per line that are drawn at the start, to find a line that cannot fill them before training does."""


class EpisodeSettings(Settings):
    """Size of episodes and of steps."""

    support: int = Field(32, ge=1, le=4096)
    """m, unlabelled support pairs per episode."""
    query: int = Field(64, ge=2, le=4096)
    """n, query pairs per episode."""
    per_step: int = Field(0, ge=0, le=4096)
    """G, episodes per optimiser step; 0: one per training line, or two where that makes the number even."""
    steps_per_epoch: int = Field(0, ge=0)
    """Optimiser steps per epoch; 0: as many as use each training pair about once as a query."""


@dataclass(frozen=True)
class Episode:
    """One episode as row numbers of the store."""

    line: int
    """Index of the line among the fold's training lines."""
    rows: NDArray[np.int64]
    """(m+n,) row numbers, support first."""


class Plan:
    """The episodes of every step of a run."""

    def __init__(self, store: Store, fold: Fold, settings: EpisodeSettings, seed: int) -> None:
        """Prepare the plan; raises `UserError` where a line cannot fill an episode."""
        self.settings = settings
        self.lines = fold.train_lines
        # An odd number of lines takes two episodes of each, so that two workers can share a step.
        count = len(fold.train_lines)
        self.episodes_per_step = settings.per_step or (count if count % 2 == 0 else 2 * count)
        digest = hashlib.sha256(f"{store.checksum}/{fold.identity}/{seed}/{settings.model_dump_json()}".encode())
        self.identity = digest.hexdigest()[:16]
        """Equal for equal plans; a checkpoint carries it."""
        self._key = int.from_bytes(digest.digest()[:8], "little")
        self._enhancer, self._promoter = store.pairs.enhancer, store.pairs.promoter
        labelled = store.pairs.label >= 0
        self._rows = [rows[labelled[rows]] for rows in (fold.rows(store, line, "train") for line in self.lines)]
        for index, line in enumerate(self.lines):
            self._check_line(index, line)
        pairs = sum(len(rows) for rows in self._rows)
        self.steps_per_epoch = settings.steps_per_epoch or -(-pairs // (self.episodes_per_step * settings.query))
        self._lines_of_epoch = lru_cache(maxsize=4)(self._draw_lines)
        self._shuffle = lru_cache(maxsize=4 * len(self.lines))(self._draw_shuffle)

    def epoch_of(self, step: int) -> int:
        """Epoch (0-based) of global step `step` (0-based)."""
        return step // self.steps_per_epoch

    def episode(self, step: int, slot: int) -> Episode:
        """Episode `slot` (0 <= slot < G) of global step `step`."""
        epoch, within = divmod(step, self.steps_per_epoch)
        lines, turns = self._lines_of_epoch(epoch)
        line, turn = int(lines[within, slot]), int(turns[within, slot])
        query = self._query(epoch, line, turn)
        return Episode(line, np.concatenate([self._support(epoch, line, turn, query), query]))

    def slots(self, rank: int, world: int) -> range:
        """Slots of a step that worker `rank` of `world` takes; raises `UserError` if G is not a multiple of `world`."""
        if self.episodes_per_step % world:
            raise UserError(
                f"{self.episodes_per_step} episodes per step cannot be shared equally by {world} workers; "
                "set episodes.per_step to a multiple of the number of workers"
            )
        return range(rank, self.episodes_per_step, world)

    def _draw_lines(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Line of each (step, slot) of an epoch, and how often that line came before in the epoch."""
        count, per_step = len(self.lines), self.episodes_per_step
        rng = self._stream(_LINES, epoch)
        rounds = -(-per_step // count)
        order = np.argsort(rng.random((self.steps_per_epoch, rounds, count)), axis=2)
        lines = order.reshape(self.steps_per_epoch, rounds * count)[:, :per_step]
        flat, turns = lines.reshape(-1), np.empty(lines.size, dtype=np.int64)
        for line in range(count):
            where = np.flatnonzero(flat == line)
            turns[where] = np.arange(len(where))
        return lines, turns.reshape(lines.shape)

    def _draw_shuffle(self, epoch: int, line: int, lap: int) -> NDArray[np.int64]:
        return self._stream(_QUERY, epoch, line, lap).permutation(self._rows[line])

    def _query(self, epoch: int, line: int, turn: int) -> NDArray[np.int64]:
        size, pairs = self.settings.query, len(self._rows[line])
        per_lap = pairs // size
        lap, place = divmod(turn, per_lap)
        return self._shuffle(epoch, line, lap)[place * size : (place + 1) * size]

    def _support(self, epoch: int, line: int, turn: int, query: NDArray[np.int64]) -> NDArray[np.int64]:
        rng = self._stream(_SUPPORT, epoch, line, turn)
        rows = draw_apart(rng, self._rows[line], query, self.settings.support, self._enhancer, self._promoter)
        if rows is None:
            raise UserError(self._too_few(self.lines[line], len(self._rows[line])))
        return rows

    def _check_line(self, index: int, line: str) -> None:
        pairs = len(self._rows[index])
        if pairs < self.settings.support + self.settings.query:
            raise UserError(self._too_few(line, pairs))
        size, shuffle = self.settings.query, self._draw_shuffle(0, index, 0)
        for turn in range(min(pairs // size, _CHECKED_TURNS)):
            self._support(0, index, turn, shuffle[turn * size : (turn + 1) * size])

    def _too_few(self, line: str, pairs: int) -> str:
        return (
            f"line '{line}' has too few pairs for an episode: its {pairs} training pairs do not hold a support of "
            f"{self.settings.support} and a query of {self.settings.query} that share no element; lower "
            "episodes.support or episodes.query, hold out less, or leave the line out with fold.train_lines"
        )

    def _stream(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self._key, *purpose])


def draw_apart(
    rng: np.random.Generator,
    pool: NDArray[np.int64],
    others: NDArray[np.int64],
    count: int,
    enhancer: NDArray[np.int32],
    promoter: NDArray[np.int32],
) -> NDArray[np.int64] | None:
    """Draw `count` rows of `pool` without replacement that share no element with rows `others`; None if too few.

    `enhancer` and `promoter` are the store's (N,) columns. A few candidates are tried first, because that is enough
    for large pools; the whole pool only where it is not.
    """
    taken = rng.choice(pool, size=min(4 * count, len(pool)), replace=False)
    for candidates in (taken, pool):
        shares = np.isin(enhancer[candidates], enhancer[others]) | np.isin(promoter[candidates], promoter[others])
        apart = candidates[~shares]
        if len(apart) >= count:
            return rng.choice(apart, size=count, replace=False)
    return None
