"""Activity by contact: what the field scores with where it has an accessible, acetylated element and a distance.

Activity of an enhancer in a line is the geometric mean of its accessibility and its H3K27ac, contact the power law of
the distance (d / 5 kb + 1)^-0.87. Their product is untrained; ABC is the product over its sum over the elements of the
promoter's neighbourhood (Fulco et al. 2019, Nature Genetics 51, 1664), here all pairs of the line with this promoter
that the store holds: elements that the source left out are missing from the sum. Where the store has an ABC column
among its context, made of all elements, that one is taken.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from evaluation.rivals.pairs import NotApplicable, PairData

ACCESSIBLE = ("dnase", "dhs", "atac")
ACETYLATED = ("h3k27ac",)
SCALE, EXPONENT = 5_000.0, -0.87
"""Of the power law: bp, and the exponent of ABC's power-law contact."""


def activity_by_distance(train: PairData, test: PairData) -> NDArray[np.float64]:
    """Activity of the enhancer times the power law of the distance; nothing is trained."""
    return _product(test)


def activity_by_contact(train: PairData, test: PairData) -> NDArray[np.float64]:
    """ABC score: activity times the power law, over its sum over all elements listed for the promoter in the line."""
    ready = [column for column, name in enumerate(test.signal_names) if {"context", "abc"} <= set(_words(name))]
    if ready:
        return _filled(test.signals[:, ready[0]])
    own, everything = _product(test), test if test.around is None else test.around()
    width = int(max(test.promoter.max(initial=0), everything.promoter.max(initial=0))) + 1
    sums = np.bincount(everything.line * width + everything.promoter, weights=_product(everything))
    of_own = sums[test.line * width + test.promoter]
    return np.divide(own, of_own, out=np.zeros_like(own), where=of_own > 0)


def _product(pairs: PairData) -> NDArray[np.float64]:
    """(N,) activity times contact; 0 where a number is missing, as a method without a read there says."""
    if not (pairs.distance >= 0).any():
        raise NotApplicable("no pair of the test set has a known distance")
    contact = (np.where(pairs.distance >= 0, pairs.distance, np.inf) / SCALE + 1.0) ** EXPONENT
    return _activity(pairs) * contact


def _activity(pairs: PairData) -> NDArray[np.float64]:
    """(N,) geometric mean of the enhancer's accessibility and H3K27ac, or the one of them that there is."""
    columns = [_at_the_enhancer(pairs.signal_names, marks) for marks in (ACCESSIBLE, ACETYLATED)]
    found = [column for column in columns if column is not None and not np.isnan(pairs.signals[:, column]).all()]
    if not found:
        raise NotApplicable("no signal at the enhancer is called DNase, DHS, ATAC or H3K27ac")
    return np.asarray(np.prod([_filled(pairs.signals[:, column]) for column in found], axis=0) ** (1 / len(found)))


def _at_the_enhancer(names: tuple[str, ...], marks: tuple[str, ...]) -> int | None:
    """The column of the first of `marks` read at the enhancer; one whose name says no place is read at the element."""
    words = [_words(name) for name in names]
    for mark in marks:
        named = [column for column, own in enumerate(words) if any(mark in word for word in own)]
        elsewhere = {"promoter", "prom", "window", "tss", "context"}
        here = [column for column in named if not elsewhere & set(words[column])]
        said = [column for column in here if {"enhancer", "enh"} & set(words[column])]
        if said or here:
            return (said or here)[0]
    return None


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", name.lower())


def _filled(values: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.maximum(np.nan_to_num(values.astype(np.float64)), 0.0)
