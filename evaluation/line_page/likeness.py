"""How unlike the training lines a line is: in signals, in the environment the model infers, in what is asked about.

Two lines are as far apart in a number as their distributions are (Kolmogorov-Smirnov: the largest difference between
the shares below any value, 0 to 1), in signals as the mean over tracks, and in the environment as z_E in units of its
spread between support sets of one line. A line lies outside if it is farther from the training line nearest to it than
any training line is from the one nearest to that: with few training lines a rough yardstick, and said as such.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.line_page.ranges import Counts, LineRanges, Spread

LEAST_KNOWN = 0.01
"""A track that fewer of a line's pairs have says nothing about the line."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Likeness:
    """How far a line is from the training line nearest to it, beside how far these are from one another."""

    distance: float
    """From the nearest training line; NaN where nothing can be compared."""
    nearest: str
    """That line; empty where nothing can be compared."""
    among: dict[str, float]
    """Of each training line, from the nearest other one; empty with fewer than two."""
    held_out: float
    """Of the validation line; NaN where nothing can be compared."""

    @property
    def outside(self) -> bool | None:
        """Whether the line is farther out than any training line; None where that cannot be said."""
        if not self.among or not np.isfinite(self.distance):
            return None
        return self.distance > max(self.among.values())


NOTHING = Likeness(float("nan"), "", {}, float("nan"))


@dataclass(frozen=True)
class TrackLikeness:
    """One track of a line, held against the training lines."""

    track: str
    likeness: Likeness
    mean: float
    """Of the line."""
    train_means: tuple[float, float]
    """The lowest and the highest of the training lines that have the track."""


def ks(one: Sequence[float] | Floats, other: Sequence[float] | Floats) -> float:
    """Largest difference between the cumulated shares (B,) of two lines at any cut."""
    return float(np.abs(np.cumsum(one) - np.cumsum(other)).max())


def likeness(train_lines: Sequence[str], held_out: str, apart: Callable[[str, str], float], line: str) -> Likeness:
    """The likeness of `line`, where `apart` gives the distance of any two lines, NaN where there is none."""

    def nearest(own: str, others: Sequence[str]) -> tuple[float, str]:
        found = [(apart(own, other), other) for other in others]
        known = [(distance, other) for distance, other in found if np.isfinite(distance)]
        return min(known, default=(float("nan"), ""))

    distance, name = nearest(line, train_lines)
    among = {own: nearest(own, [other for other in train_lines if other != own])[0] for own in train_lines}
    known = {own: far for own, far in among.items() if np.isfinite(far)}
    return Likeness(distance, name, known, nearest(held_out, train_lines)[0])


def spread_likeness(ranges: LineRanges, spread: Spread, counts: Counts) -> Likeness:
    """The likeness of a line in one number, counted with the cuts of `spread`."""
    return likeness(ranges.train_lines, ranges.held_out, _apart(spread, counts), _NEW)


def track_likeness(ranges: LineRanges, counted: Mapping[str, Counts]) -> list[TrackLikeness]:
    """The likeness of a line in each track that it and a training line have, the most unlike first."""
    found = []
    for track, counts in counted.items():
        spread = ranges.signals[track]
        means = [spread.mean[own] for own in ranges.train_lines if spread.known[own] >= LEAST_KNOWN]
        if means and counts.known >= LEAST_KNOWN:
            own = spread_likeness(ranges, spread, counts)
            found.append(TrackLikeness(track, own, counts.mean, (min(means), max(means))))
    return sorted(found, key=lambda one: (-one.likeness.distance, one.track))


def signal_likeness(ranges: LineRanges, counted: Mapping[str, Counts]) -> Likeness:
    """The likeness of a line in all tracks that it has: means over the tracks that two lines have both."""
    tracks = [_apart(ranges.signals[track], own) for track, own in counted.items() if own.known >= LEAST_KNOWN]

    def apart(one: str, other: str) -> float:
        known = [far for track in tracks if np.isfinite(far := track(one, other))]
        return float(np.mean(known)) if known else float("nan")

    return likeness(ranges.train_lines, ranges.held_out, apart, _NEW)


def environment_likeness(ranges: LineRanges, environment: Floats) -> Likeness:
    """The likeness of a line whose supports give z_E `environment` (s, dE); nothing for a model without one."""
    places = {line: np.array(own) for line, own in ranges.environment.items()} | {_NEW: environment.mean(axis=0)}
    scale = np.array(ranges.support_sd)
    if len(scale) != environment.shape[1] or not scale.any():
        return NOTHING
    # A component that supports hardly move would count without bound; a hundredth of the usual is as good as still.
    scale = np.maximum(scale, scale.mean() / 100)

    def apart(one: str, other: str) -> float:
        return float(np.sqrt(np.mean(((places[one] - places[other]) / scale) ** 2)))

    return likeness(ranges.train_lines, ranges.held_out, apart, _NEW)


_NEW = "\0"
"""Key of the line that is held against the others, a name that no line has."""


def _apart(spread: Spread, counts: Counts) -> Callable[[str, str], float]:
    shares = {line: np.array(own) for line, own in spread.shares.items() if spread.known[line] >= LEAST_KNOWN}
    if counts.known >= LEAST_KNOWN:
        shares[_NEW] = counts.shares
    return lambda one, other: ks(shares[one], shares[other]) if {one, other} <= shares.keys() else float("nan")
