"""A landscape as bins to store: mean densities, TSSs, and the bins of the pairs' elements."""

from __future__ import annotations

import numpy as np

from data_pipeline.context.landscape import Landscape
from data_pipeline.context.landscape_bins import TRACKS, binned
from data_pipeline.context.names import MARKS
from data_pipeline.context.scene import Places, Scene

CTCF, DNASE, TSS = (TRACKS.index(name) for name in ("CTCF", "DNase", "TSS"))


def scene() -> Scene:
    """CTCF of 2 over [25 kb, 40 kb), DNase of 1 over [25 kb, 85 kb); E at 31 kb, P at 12 kb and at 93 kb."""
    points = np.array([25_000, 40_000, 85_000])
    integral = np.zeros((3, len(MARKS)))
    integral[:, CTCF], integral[:, DNASE] = [0, 30_000, 30_000], [0, 15_000, 60_000]
    start, tss = np.array([30_000, 30_000]), np.array([12_000, 93_000])
    places = Places(start, start + 2000, tss - 100, tss + 100, tss)
    return Scene(places, Landscape(points, integral), np.array([12_000, 31_000, 39_999, 40_000]))


def test_bins_hold_mean_densities_and_the_number_of_tsss() -> None:
    bins = binned(scene(), ["CTCF", "DNase"], annotated=True)
    assert bins.first == 1
    assert bins.values.dtype == np.float32
    np.testing.assert_allclose(bins.values[:, CTCF], [0, 1, 2, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(bins.values[:, DNASE], [0, 0.5, 1, 1, 1, 1, 1, 0.5, 0])
    np.testing.assert_allclose(bins.values[:, TSS], [1, 0, 2, 1, 0, 0, 0, 0, 0])


def test_pairs_know_their_bins_and_which_way_the_promoter_lies() -> None:
    bins = binned(scene(), MARKS, annotated=True)
    assert bins.enhancer.tolist() == [2, 2]
    assert bins.promoter.tolist() == [0, 8]
    assert bins.outward.tolist() == [-1, 1]


def test_what_was_not_measured_or_annotated_is_unknown() -> None:
    bins = binned(scene(), ["CTCF"], annotated=False)
    assert np.isfinite(bins.values[:, CTCF]).all()
    assert np.isnan(np.delete(bins.values, CTCF, axis=1)).all()
