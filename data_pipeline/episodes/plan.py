"""The plan: which episodes every step of training sees, computed, not observed.

An epoch is a fixed sequence of global steps of G episodes. Each episode takes one training line, n query pairs from
the next stretch of that line's shuffled pairs, and m support pairs that share neither a pair nor an element with the
query. Everything is a pure function of (store checksum, fold, seed, epoch): any step can be computed without the ones
before it, worker r of W takes episodes r, r+W, ... of a step, and the set of episodes in a step does not depend on W.
So a run can stop anywhere and go on with the next episode, on another number of workers.

The number of support pairs may vary from step to step, so that the model knows small supports and large ones. It is the
same in all episodes of a step, because they are one tensor (E, m+n), and so for all workers. A handful of sizes, powers
of two by default: each is one more shape to compile and to allocate for, and between neighbours little changes.

Cost: a shuffle per line and epoch, and about 50 microseconds per episode.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from data_pipeline.episodes.folds import Fold
from data_pipeline.errors import UserError
from data_pipeline.settings import Settings
from data_pipeline.store import Store

_LINES, _QUERY, _SUPPORT, _SIZE = range(4)
"""Purposes of random streams; one number each, so that no two streams are the same."""
_CHECKED_TURNS = 32
"""Episodes per line that are drawn at the start, to find a line that cannot fill them before training does."""
_SPARE = 1.25
"""Times the pairs of a support that have to be there for it in the episodes checked, for the sake of all others."""
_LARGEST, _MOST_SIZES = 4096, 8


def _support_sizes(value: Any) -> int | list[int]:
    sizes = value if isinstance(value, list | tuple) else [value]
    known = all(isinstance(size, int | float) and not isinstance(size, bool) for size in sizes)
    if not known or not 1 <= len(sizes) <= _MOST_SIZES or not all(size in range(1, _LARGEST + 1) for size in sizes):
        raise ValueError(f"give a whole number from 1 to {_LARGEST}, or a list of at most {_MOST_SIZES} of them")
    found = sorted({int(size) for size in sizes})
    return found if isinstance(value, list | tuple) else found[0]


class EpisodeSettings(Settings):
    """Size of episodes and of steps."""

    support: Annotated[int | list[int], BeforeValidator(_support_sizes)] = Field(default=[8, 16, 32, 64, 128])
    """m, unlabelled support pairs per episode: a number, or a list of at most 8 of which each step takes one at random.
    Sizes of a list that a training line cannot give are left out. In use it is `scoring.support` that counts."""
    query: int = Field(64, ge=2, le=4096)
    """n, query pairs per episode."""
    per_step: int = Field(0, ge=0, le=4096)
    """G, episodes per optimiser step; 0: one per training line, or two where that makes the number even."""
    steps_per_epoch: int = Field(0, ge=0)
    """Optimiser steps per epoch; 0: as many as use each training pair about once as a query."""

    @property
    def support_sizes(self) -> tuple[int, ...]:
        """The sizes asked for, ascending."""
        return tuple(self.support) if isinstance(self.support, list) else (self.support,)


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
        for index in range(count):
            self._check_line(index)
        self.supports = self._given_sizes()
        """Support sizes that steps take, ascending: those of the settings that every line can give."""
        pairs = sum(len(rows) for rows in self._rows)
        self.steps_per_epoch = settings.steps_per_epoch or -(-pairs // (self.episodes_per_step * settings.query))
        self._lines_of_epoch = lru_cache(maxsize=4)(self._draw_lines)
        self._sizes_of_epoch = lru_cache(maxsize=4)(self._draw_sizes)
        self._shuffle = lru_cache(maxsize=4 * len(self.lines))(self._draw_shuffle)

    def epoch_of(self, step: int) -> int:
        """Epoch (0-based) of global step `step` (0-based)."""
        return step // self.steps_per_epoch

    def support_of(self, step: int) -> int:
        """m, the support pairs of every episode of global step `step`."""
        epoch, within = divmod(step, self.steps_per_epoch)
        return self.supports[int(self._sizes_of_epoch(epoch)[within])]

    def episode(self, step: int, slot: int) -> Episode:
        """Episode `slot` (0 <= slot < G) of global step `step`."""
        epoch, within = divmod(step, self.steps_per_epoch)
        lines, turns = self._lines_of_epoch(epoch)
        line, turn = int(lines[within, slot]), int(turns[within, slot])
        query = self._query(epoch, line, turn)
        support = self._support(epoch, line, turn, query, self.support_of(step))
        return Episode(line, np.concatenate([support, query]))

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

    def _draw_sizes(self, epoch: int) -> NDArray[np.int64]:
        """(steps,) index into `supports` of each step of an epoch."""
        return self._stream(_SIZE, epoch).integers(len(self.supports), size=self.steps_per_epoch)

    def _draw_shuffle(self, epoch: int, line: int, lap: int) -> NDArray[np.int64]:
        return self._stream(_QUERY, epoch, line, lap).permutation(self._rows[line])

    def _query(self, epoch: int, line: int, turn: int) -> NDArray[np.int64]:
        size, pairs = self.settings.query, len(self._rows[line])
        per_lap = pairs // size
        lap, place = divmod(turn, per_lap)
        return self._shuffle(epoch, line, lap)[place * size : (place + 1) * size]

    def _support(self, epoch: int, line: int, turn: int, query: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        rng = self._stream(_SUPPORT, epoch, line, turn)
        rows = draw_apart(rng, self._rows[line], query, size, self._enhancer, self._promoter)
        if rows is None:
            raise UserError(self._too_few(self.lines[line], len(self._rows[line]), size))
        return rows

    def _check_line(self, index: int) -> None:
        """Raise `UserError` if line number `index` cannot fill the smallest episode."""
        pairs, smallest = len(self._rows[index]), self.settings.support_sizes[0]
        if pairs < smallest + self.settings.query:
            raise UserError(self._too_few(self.lines[index], pairs, smallest))
        for turn, query in enumerate(self._first_queries(index)):
            self._support(0, index, turn, query, smallest)

    def _given_sizes(self) -> tuple[int, ...]:
        smallest, *others = self.settings.support_sizes
        return smallest, *(size for size in others if all(map(self._gives(size), range(len(self.lines)))))

    def _gives(self, size: int) -> Callable[[int], bool]:
        """Whether the line of a number has pairs to spare for supports of `size`."""
        wanted = math.ceil(_SPARE * size)
        rng = self._stream(_SIZE)
        return lambda line: all(
            draw_apart(rng, self._rows[line], query, wanted, self._enhancer, self._promoter) is not None
            for query in self._first_queries(line)
        )

    def _first_queries(self, line: int) -> list[NDArray[np.int64]]:
        size, shuffle = self.settings.query, self._draw_shuffle(0, line, 0)
        return [shuffle[turn * size : (turn + 1) * size] for turn in range(min(len(shuffle) // size, _CHECKED_TURNS))]

    def _too_few(self, line: str, pairs: int, size: int) -> str:
        return (
            f"line '{line}' has too few pairs for an episode: its {pairs} training pairs do not hold a support of "
            f"{size} and a query of {self.settings.query} that share no element; lower "
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
        apart = pairs_apart(candidates, others, enhancer, promoter)
        if len(apart) >= count:
            return rng.choice(apart, size=count, replace=False)
    return None


def pairs_apart(
    pool: NDArray[np.int64], others: NDArray[np.int64], enhancer: NDArray[np.int32], promoter: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Rows of `pool` that share no element with rows `others`, in its order; the columns as in `draw_apart`."""
    shares = np.isin(enhancer[pool], enhancer[others]) | np.isin(promoter[pool], promoter[others])
    return pool[~shares]
