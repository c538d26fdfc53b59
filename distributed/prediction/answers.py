"""From scores of distinct pairs to an answer for every row of the input, in the order of the input.

A pair that the input has several times is scored once and answered each time, under the names of its row. Memory is
(draws + 1 + parts) x 4 bytes per pair and 8 per row; rows are handed on as soon as their pair is scored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_pipeline.store import Kind, Store
from distributed.prediction.batch_scoring import Scored


@dataclass(frozen=True)
class Rows:
    """Scores of i rows of the input."""

    rows: NDArray[np.int64]
    """(i,) store rows."""
    scored: Scored
    """Their scores."""
    names: dict[Kind, list[str]] | None
    """Of the elements as the rows gave them; None: as the store has them."""


class Answers:
    """Takes scores of a store's pairs in order and gives scores of input rows in order."""

    def __init__(self, store: Store, rows: NDArray[np.int64], draws: int, parts: int = 0) -> None:
        """`rows` (k,) are the store rows that will be scored, in that order, with `draws` draws and `parts` each."""
        self._rows = rows
        self._logits = np.empty((len(rows), draws), dtype=np.float32)
        self._neutral = np.empty(len(rows), dtype=np.float32)
        self._parts = np.empty((len(rows), parts), dtype=np.float32)
        self._names: dict[Kind, list[str]] | None = None
        self._place = np.arange(len(rows))
        if (asked := store.input_rows()) is not None:
            pair, enhancer, promoter = asked
            place_of = np.full(len(store.pairs), -1)
            place_of[rows] = np.arange(len(rows))
            wanted = np.flatnonzero(place_of[pair] >= 0)
            self._place = place_of[pair[wanted]]
            self._names = {"enhancer": [enhancer[i] for i in wanted], "promoter": [promoter[i] for i in wanted]}
        self._needs = np.maximum.accumulate(self._place)
        self._scored = self._given = 0

    @property
    def count(self) -> int:
        """Rows of the input that get an answer."""
        return len(self._place)

    def after(self, scored: Scored) -> Rows:
        """Take the scores of the next j pairs; returns the input rows that became ready."""
        stop = self._scored + len(scored.neutral)
        new = slice(self._scored, stop)
        self._logits[new], self._neutral[new], self._parts[new] = scored.logits, scored.neutral, scored.parts
        first, last = self._given, int(np.searchsorted(self._needs, stop))
        self._scored, self._given = stop, last
        place = self._place[first:last]
        names = None if self._names is None else {kind: own[first:last] for kind, own in self._names.items()}
        return Rows(self._rows[place], Scored(self._logits[place], self._neutral[place], self._parts[place]), names)
