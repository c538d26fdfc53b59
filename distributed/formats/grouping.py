"""Rows of many groups, told in any order, and then each group with all of its rows: a group-by that uses the disk.

Rows go to one of a fixed number of files by their group; at the end the files are read one after the other, so memory
is that of one file (a 64th of the rows, 30 bytes each) whatever the number of rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_pipeline.durable import FullDiskNamed

FILES = 64
ROW = np.dtype([("group", "<i8"), ("member", "<i4"), ("score", "<f8"), ("row", "<i8"), ("own", "?"), ("called", "?")])
"""Group, what the score is of within it, score, store row; whether it is a gene's own promoter, and whether called."""
Rows = NDArray[np.void]


class Grouping:
    """Takes rows, gives groups."""

    def __init__(self, beside: Path, opened: ExitStack) -> None:
        """Files lie in a hidden folder beside the file `beside`, until `opened` ends."""
        self._beside = beside
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix=f".{beside.name}.groups-", dir=beside.parent))
        self._files = [opened.enter_context((Path(folder) / f"{n:02d}").open("w+b")) for n in range(FILES)]

    def add(self, rows: Rows) -> None:
        """Take rows (i,) of dtype `ROW`."""
        place = rows["group"] % FILES
        order = np.argsort(place, kind="stable")
        ends = np.searchsorted(place[order], np.arange(FILES + 1))
        with FullDiskNamed(self._beside):
            for number in np.flatnonzero(np.diff(ends)):
                self._files[number].write(rows[order[ends[number] : ends[number + 1]]].tobytes())

    def groups(self) -> Iterator[tuple[Rows, NDArray[np.int64]]]:
        """Yield (rows, starts): the rows of some groups, sorted by group, and where each group begins.

        Of several rows of one member of a group only the highest is given; the first told of equals. It is `own` if
        any of them was.
        """
        for file in self._files:
            with FullDiskNamed(self._beside):
                file.flush()
            file.seek(0)
            rows = np.frombuffer(file.read(), dtype=ROW)
            if not len(rows):
                continue
            rows = rows[np.lexsort((-rows["score"], rows["member"], rows["group"]))]
            new = np.ones(len(rows), dtype=bool)
            new[1:] = (np.diff(rows["group"]) != 0) | (np.diff(rows["member"]) != 0)
            best = rows[new]
            best["own"] = np.logical_or.reduceat(rows["own"], np.flatnonzero(new))
            changed = np.ones(len(best), dtype=bool)
            changed[1:] = np.diff(best["group"]) != 0
            yield best, np.flatnonzero(changed)
