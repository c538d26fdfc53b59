"""The groups of context columns, and all of them for many pairs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_pipeline.context import activity, barriers, flanks, gene_order, promoter_rank
from data_pipeline.context.scene import BIN, Column, Scene

CHUNK = 1 << 13
"""Pairs at a time, at most."""
CELLS = 1 << 22
"""Bins of all pairs at a time, at most: some hundred megabytes, however far apart the elements are."""


@dataclass(frozen=True)
class Group:
    """Columns that are made together, and left out together in an ablation."""

    columns: tuple[Column, ...]
    make: Callable[[Scene], NDArray[np.float64]]
    """The columns (k, c) of k pairs."""


GROUPS: dict[str, Group] = {
    "barriers": Group(barriers.COLUMNS, barriers.barriers),
    "order": Group(gene_order.COLUMNS, gene_order.gene_order),
    "promoter": Group(promoter_rank.COLUMNS, promoter_rank.promoter_rank),
    "flanks": Group(flanks.COLUMNS, flanks.flanks),
    "activity": Group(activity.COLUMNS, activity.activity),
}
"""The groups by name; a new one is a module, an entry here, its name in `names`, and a test."""


def column_names(groups: Collection[str]) -> list[str]:
    """Names of the columns of `groups`: `GROUP/COLUMN`, with the assays they need behind, as in `flanks/... [CTCF]`."""
    return [
        f"{name}/{column.name}" + (f" [{'+'.join(column.assays)}]" if column.assays else "")
        for name in groups
        for column in GROUPS[name].columns
    ]


def context_columns(
    scene: Scene, groups: Collection[str], measured: Collection[str], chunk: int = CHUNK, cells: int = CELLS
) -> NDArray[np.float32]:
    """(k, columns) context of the scene's pairs, in the order of `column_names`.

    Columns that need an assay outside `measured` are NaN. At most `chunk` pairs and `cells` bins are worked on at a
    time, which changes memory and no number.
    """
    distance = scene.places.distance
    # Pairs of like distance together, because their bins are one matrix; the first is the longest.
    order = np.argsort(-distance, kind="stable")
    columns = [column for name in groups for column in GROUPS[name].columns]
    result = np.empty((len(order), len(columns)), dtype=np.float32)
    first = 0
    while first < len(order):
        bins = int(distance[order[first]]) // BIN + 1
        rows = order[first : first + min(chunk, max(cells // bins, 1))]
        part = scene.take(rows)
        result[rows] = np.concatenate([GROUPS[name].make(part) for name in groups], axis=1)
        first += len(rows)
    unknown = [index for index, column in enumerate(columns) if not set(column.assays) <= set(measured)]
    result[:, unknown] = np.nan
    return result
