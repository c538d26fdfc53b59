"""Support sets for scoring a cell line: who tells the model about the environment of which pair.

Outside training a line has one support set per draw, and every pair must be scored with a support that shares neither
the pair nor an element with it. The pairs that clash with a draw's first support get a second one, drawn apart from all
of them (cross-fitting), so that all pairs are scored in every draw.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from data_pipeline.errors import UserError
from data_pipeline.plan import draw_apart
from data_pipeline.store import Store


def draw_supports(
    store: Store, rows: NDArray[np.int64], pool: NDArray[np.int64], size: int, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """One draw: (support (size,) rows of `pool`, positions in `rows` it serves); the positions partition `rows`.

    Raises `UserError` if `pool` cannot give a support apart from some of the rows.
    """
    rng = np.random.default_rng([seed, len(rows), len(pool)])
    if len(pool) < size:
        raise UserError(f"{len(pool)} pairs cannot give a support set of {size}; lower episodes.support or add pairs")
    support = np.sort(rng.choice(pool, size=size, replace=False))
    shares = _shares_element(store, rows, support)
    served = [(support, np.flatnonzero(~shares))] if not shares.all() else []
    return served + list(_apart(store, rng, rows, np.flatnonzero(shares), pool, size))


def support_labels(store: Store, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Labels of support pairs `rows` (...,) as 1, 0 or NaN (unknown): for the labelled protocol, and nothing else."""
    labels = store.pairs.label[rows].astype(np.float32)
    labels[labels < 0] = np.nan
    return labels


def _apart(
    store: Store,
    rng: np.random.Generator,
    rows: NDArray[np.int64],
    positions: NDArray[np.int64],
    pool: NDArray[np.int64],
    size: int,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Supports for `positions`, halving them while no support is apart from all at once."""
    if len(positions) == 0:
        return
    support = draw_apart(rng, pool, rows[positions], size, store.pairs.enhancer, store.pairs.promoter)
    if support is not None:
        yield np.sort(support), positions
    elif len(positions) == 1:
        line = store.lines[store.pairs.line[rows[positions[0]]]]
        raise UserError(
            f"line '{line}' has too few pairs: none of its {len(pool)} pairs leaves {size} that share no element with "
            f"pair number {rows[positions[0]]}; lower episodes.support or add pairs of other elements"
        )
    else:
        half = len(positions) // 2
        yield from _apart(store, rng, rows, positions[:half], pool, size)
        yield from _apart(store, rng, rows, positions[half:], pool, size)


def _shares_element(store: Store, rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
    enhancer, promoter = store.pairs.enhancer, store.pairs.promoter
    return np.isin(enhancer[rows], enhancer[others]) | np.isin(promoter[rows], promoter[others])
