"""CTCF between and around the elements of a pair: what would have to be crossed, and what is stronger.

Loops are extruded until a strong CTCF site stops them. Whether something between E and P is stronger than either is a
comparison, which means over windows cannot make. "loc" is the mass of three 10 kb bins.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from data_pipeline.context.scene import BIN, NEIGHBOURHOOD, Column, Scene, along, signal

AROUND = 25
"""Bins looked at behind the enhancer and beyond the promoter (250 kb)."""
FAR = 50
"""Bins within which a stronger one is looked for."""
COLUMNS = tuple(Column(name, ("CTCF",)) for name in (
    "at_promoter", "at_enhancer", "weaker_end", "ends_together", "above_75", "above_90", "strongest_between",
    "stronger_than_promoter", "stronger_than_enhancer", "promoter_over_strongest", "enhancer_over_strongest",
    "strongest_beyond_promoter", "strongest_behind_enhancer", "steps_to_stronger_beyond_promoter",
    "steps_to_stronger_before_promoter", "steps_to_stronger_behind_enhancer", "promoter_rank", "enhancer_rank",
))  # fmt: skip


def barriers(scene: Scene) -> NDArray[np.float64]:
    """(k, 18) numbers of each pair, in the order of `COLUMNS`."""
    mass = scene.landscape.bins(BIN)[:, signal("CTCF")]
    local = np.convolve(mass, np.ones(3), mode="same")
    used = local[local > 0]
    middling, high = np.quantile(used, [0.75, 0.9]) if used.size else (0.0, 0.0)
    places = scene.places
    e, p = places.centre // BIN, places.tss // BIN
    at_e, at_p = _at(local, e), _at(local, p)
    index = along(places, FAR, BIN)
    steps = np.abs(places.tss // BIN - places.centre // BIN)[:, None]
    column = np.arange(index.shape[1]) - FAR
    value = _at(local, index)
    between = (column > 0) & (column < steps)
    inside = np.where(between, value, 0.0)
    strongest = inside.max(axis=1, initial=0.0)
    beyond = np.where((column > steps) & (column <= steps + AROUND), value, 0.0).max(axis=1)
    behind = np.where((column < 0) & (column >= -AROUND), value, 0.0).max(axis=1)
    over_p, over_e = value > at_p[:, None], value > at_e[:, None]
    return np.stack(
        [
            at_p, at_e, np.minimum(at_p, at_e), np.sqrt(np.maximum(at_p * at_e, 0.0)),
            (inside > middling).sum(axis=1), (inside > high).sum(axis=1), strongest,
            (between & over_p).sum(axis=1), (between & over_e).sum(axis=1),
            at_p / (strongest + at_p + 1e-9), at_e / (strongest + at_e + 1e-9),
            beyond, behind,
            _first(over_p & (column > steps), column - steps),
            _first(over_p & (column < steps), steps - column),
            _first(over_e & (column < 0), np.broadcast_to(-column, value.shape)),
            _rank(local, p, at_p), _rank(local, e, at_e),
        ],
        axis=1,
    )  # fmt: skip


def _at(local: NDArray[np.float64], index: NDArray[np.int64]) -> NDArray[np.float64]:
    """`local` at bins `index`, 0 outside of the landscape."""
    there = (index >= 0) & (index < len(local))
    return np.where(there, local[np.where(there, index, 0)], 0.0)


def _first(hit: NDArray[np.bool_], steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """(k,) fewest steps to a bin that is hit, `FAR` where none is nearer."""
    return np.where(hit, np.minimum(steps, FAR), FAR).min(axis=1)


def _rank(local: NDArray[np.float64], place: NDArray[np.int64], value: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k,) share of the bins within the neighbourhood of bin `place` that are weaker than `value`."""
    reach = NEIGHBOURHOOD // BIN
    index = place[:, None] + np.arange(-reach, reach + 1)
    # A landscape ends with its last signal and not with the chromosome, so what is behind its end counts as 0.
    there = index >= 0
    weaker = there & (_at(local, index) < value[:, None])
    return cast(NDArray[np.float64], weaker.sum(axis=1) / there.sum(axis=1))
