"""From scores of distinct pairs to an answer for every row of the input, in the order of the input.

A pair that the input has several times is scored once and answered each time, under the names of its row. Memory is
(draws + 1) x 4 bytes per pair and 8 per row; rows are handed on as soon as their pair is scored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_pipeline.store import Kind, Store

Rows = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32], dict[Kind, list[str]] | None]


class Answers:
    """Takes scores of a store's pairs in order and gives scores of input rows in order."""

    def __init__(self, store: Store, rows: NDArray[np.int64], draws: int) -> None:
        """`rows` (k,) are the store rows that will be scored, in that order, with `draws` draws each."""
        self._rows = rows
        self._logits = np.empty((len(rows), draws), dtype=np.float32)
        self._neutral = np.empty(len(rows), dtype=np.float32)
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

    def after(self, logits: NDArray[np.float32], neutral: NDArray[np.float32]) -> Rows:
        """Take `logits` (j, draws) and `neutral` (j,) of the next j pairs; returns the input rows that became ready.

        These are store rows (i,), logits (i, draws), neutral (i,), and the names of the elements as the rows gave them.
        """
        stop = self._scored + len(neutral)
        self._logits[self._scored : stop], self._neutral[self._scored : stop] = logits, neutral
        first, last = self._given, int(np.searchsorted(self._needs, stop))
        self._scored, self._given = stop, last
        place = self._place[first:last]
        names = None if self._names is None else {kind: own[first:last] for kind, own in self._names.items()}
        return self._rows[place], self._logits[place], self._neutral[place], names
