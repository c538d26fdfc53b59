"""How far a line is from the training lines, on numbers that can be counted on one's fingers."""

from __future__ import annotations

import numpy as np
import pytest
from line_ranges import TRACKS, ranges, seen_line

from evaluation.line_page.likeness import (
    environment_likeness,
    ks,
    likeness,
    signal_likeness,
    spread_likeness,
    track_likeness,
)
from evaluation.line_page.ranges import Counts, counts_of, quantile_cuts


def test_values_are_counted_from_a_cut_on_and_missing_ones_apart() -> None:
    counts = Counts([1.0, 2.0])
    for part in ([0.5, 1.0, np.nan], [1.5, 2.0, 7.0, np.inf]):
        counts.add(np.array(part))
    assert counts.bins.tolist() == [1, 2, 2]
    assert (counts.total, counts.count, counts.known) == (7, 5, 5 / 7)
    assert counts.mean == pytest.approx(12 / 5)


def test_batches_of_any_size_count_the_same() -> None:
    values = np.random.default_rng(0).normal(size=100)
    whole, parts = counts_of([-1.0, 0.0, 1.0], values), Counts([-1.0, 0.0, 1.0])
    for first in range(0, 100, 7):
        parts.add(values[first : first + 7])
    assert parts.bins.tolist() == whole.bins.tolist()


def test_ks_is_the_largest_difference_of_cumulated_shares() -> None:
    assert ks([0.5, 0.5, 0.0], [0.0, 0.5, 0.5]) == pytest.approx(0.5)
    assert ks([0.2, 0.8], [0.2, 0.8]) == 0.0


def test_cuts_hold_like_shares_of_lines_of_any_size() -> None:
    small, large = np.arange(10, dtype=np.float32), np.arange(100, 10_100, dtype=np.float32)
    cuts = quantile_cuts([small, large, np.array([np.nan], dtype=np.float32)], 4)
    assert cuts[0] < 10 <= cuts[1] <= 100 < cuts[2]


def test_a_line_is_outside_if_it_is_farther_than_any_training_line() -> None:
    place = {"a": 0.0, "b": 1.0, "c": 3.0, "held": 1.5}

    def judged(at: float) -> bool | None:
        own = place | {"new": at}
        return likeness(["a", "b", "c"], "held", lambda x, y: abs(own[x] - own[y]), "new").outside

    assert [judged(at) for at in (0.5, 4.9, 5.1, -2.5)] == [False, False, True, True]


def test_with_one_training_line_nothing_is_said() -> None:
    own = likeness(["a"], "held", lambda x, y: 1.0, "new")
    assert (own.distance, own.nearest, own.outside) == (1.0, "a", None)


def test_signals_are_compared_over_the_tracks_that_a_line_has() -> None:
    own = ranges()
    alike = signal_likeness(own, seen_line(own=own).signals)
    assert (alike.distance, alike.nearest, alike.outside) == (0.0, "GM12878", False)
    assert alike.among == pytest.approx({"K562": 0.0, "GM12878": 0.0, "HeLa": 0.5})
    far = signal_likeness(own, seen_line(signals=(5, 5, 5, 5), own=own).signals)
    assert far.distance == pytest.approx(1.0)
    assert far.outside
    nothing = signal_likeness(own, seen_line(signals=(np.nan,) * 4, own=own).signals)
    assert np.isnan(nothing.distance)
    assert nothing.outside is None


def test_tracks_are_given_the_most_unlike_first() -> None:
    own = ranges()
    seen = seen_line(own=own)
    seen.signals[TRACKS[1]].add(np.full(4, 9.0))
    found = track_likeness(own, seen.signals)
    assert [one.track for one in found] == [TRACKS[1], TRACKS[0]]
    assert found[0].likeness.distance == pytest.approx(0.5)
    assert found[0].train_means == (0.5, 1.0)


def test_the_environment_is_measured_in_its_spread_between_supports() -> None:
    own = ranges()
    found = environment_likeness(own, np.array([[0.45, 0.45], [0.55, 0.55]]))
    assert found.distance == pytest.approx(2.0)
    assert found.nearest == "HeLa"
    assert found.among == pytest.approx({"K562": 1.0, "GM12878": 1.0, "HeLa": 2.0})
    assert environment_likeness(own, np.full((1, 2), 0.6)).outside


def test_an_environment_that_no_support_moves_is_not_compared() -> None:
    own = ranges().model_copy(update={"support_sd": [0.0, 0.0]})
    assert not environment_likeness(own, np.zeros((1, 2))).nearest


def test_one_number_is_compared_like_the_others() -> None:
    own = ranges()
    assert spread_likeness(own, own.distance, counts_of(own.distance.cuts, np.full(3, 4e6))).outside
