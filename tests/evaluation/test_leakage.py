"""Claims about the one probe that reads the line off z_I, in training and in the verdict on R91."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_training import tiny_fold, tiny_settings, tiny_store

from data_pipeline.episodes.supports import SupportSize, draw_supports
from distributed.assembly import build_module, validation_rows
from evaluation.epoch_end import epoch_figures
from evaluation.leakage import line_information, read_line
from evaluation.line_views import with_invariants
from evaluation.scoring import Scorer

Floats = NDArray[np.float64]
LINES = 10


def codes_of_promoters(shift: float, pairs: int = 3) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Codes (n, 32), lines and promoters: each promoter has a code of its own and `pairs` pairs, all in one line.

    Nothing but the promoter decides the code, except for `shift` times the line's direction.
    """
    rng = np.random.default_rng(0)
    promoter = np.repeat(np.arange(1000 // pairs), pairs)
    line = promoter % LINES
    codes = rng.normal(size=(promoter.max() + 1, 32))[promoter] + 0.05 * rng.normal(size=(len(promoter), 32))
    return codes + shift * rng.normal(size=(LINES, 32))[line], line, promoter


def test_codes_of_promoters_that_stand_in_one_line_only_tell_nothing_of_it() -> None:
    found = read_line(*codes_of_promoters(shift=0.0))
    # The alarm rings at .13; split by pairs the same codes read .25 above chance.
    assert abs(found.above_chance) < 0.05
    assert found.nats < 0.05


def test_a_line_that_is_in_the_codes_is_read_as_accuracy_and_as_information() -> None:
    found = read_line(*codes_of_promoters(shift=0.7))
    assert 0.3 < found.above_chance < 1 - 1 / LINES
    assert 0.8 < found.nats < math.log(LINES)


def test_accuracy_is_counted_from_chance() -> None:
    line = np.arange(600) % 3
    certain = read_line(10.0 * np.eye(3)[line], line, np.arange(600))
    assert certain.above_chance == pytest.approx(2 / 3)
    nothing = read_line(np.ones((600, 3)), line, np.arange(600))
    assert nothing.above_chance == pytest.approx(0.0)


def test_a_line_with_most_of_the_pairs_is_no_leak() -> None:
    rng = np.random.default_rng(0)
    line = (rng.random(1000) < 0.1).astype(np.int64)
    blind = read_line(rng.normal(size=(1000, 4)), line, np.arange(1000))
    assert abs(blind.above_chance) < 0.05
    # Always the larger line is right nine times of ten, and tells nothing.
    assert blind.nats < 0.02


@pytest.mark.parametrize("count", [2, 8, 25])
def test_too_few_pairs_to_teach_a_probe_with_tell_nothing_and_break_nothing(count: int) -> None:
    found = read_line(np.random.default_rng(0).normal(size=(count, 4)), np.arange(count) % 2, np.arange(count) % 5)
    assert math.isfinite(found.nats)
    assert -0.5 <= found.above_chance <= 0.5


def test_the_verdict_reads_what_the_monitor_reads() -> None:
    codes, line, promoter = codes_of_promoters(shift=0.7)
    nats, low, high = line_information(codes, line, promoter)
    assert nats == read_line(codes, line, promoter).nats
    assert low < nats < high


def test_the_leakage_of_a_running_training_is_split_by_promoter_and_counted_from_chance(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "store", "lines=6", "pairs_per_line=400")
    fold, settings = tiny_fold(store), tiny_settings("scoring.monitor_pairs=800")
    torch.manual_seed(0)
    model = build_module(store, fold, settings).model
    rows = validation_rows(store, fold, 50)
    scorer = Scorer(model, store, settings.support_in_use, settings.scoring)
    codes, line, promoter = [], [], []
    for index, name in enumerate(fold.train_lines):
        pool = fold.rows(store, name, "train")
        chosen = pool[np.linspace(0, len(pool) - 1, min(800 // len(fold.train_lines), len(pool))).astype(np.int64)]
        codes.append(with_invariants(scorer, chosen, pool, 0)[1])
        line.append(np.full(len(chosen), index))
        promoter.append(store.pairs.promoter[chosen])
    expected = read_line(np.concatenate(codes), np.concatenate(line), np.concatenate(promoter))
    figures = epoch_figures(model, store, fold, settings, rows, (0, 1, lambda own, total: own))
    assert figures["leakage/above_chance"] == pytest.approx(expected.above_chance)
    assert figures["leakage/nats"] == pytest.approx(expected.nats)
    for parameter in model.invariant.parameters():
        torch.nn.init.zeros_(parameter)
    figures = epoch_figures(model, store, fold, settings, rows, (0, 1, lambda own, total: own))
    assert figures["leakage/above_chance"] == pytest.approx(0.0, abs=0.05)


def test_codes_stand_in_the_order_of_their_pairs(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "store")
    fold, settings = tiny_fold(store), tiny_settings()
    torch.manual_seed(0)
    scorer = Scorer(build_module(store, fold, settings).model, store, SupportSize.exactly(8), settings.scoring)
    pool = fold.rows(store, fold.train_lines[0])
    rows = pool  # so many that no support is apart from all of them
    served = [part.positions for part in draw_supports(store, rows, pool, SupportSize.exactly(8), 1, 3)]
    assert not np.array_equal(np.concatenate(served), np.arange(len(rows)))
    whole = with_invariants(scorer, rows, pool, 3)[1]
    one = with_invariants(scorer, rows[7:8], pool, 3)[1]
    assert whole[7] == pytest.approx(one[0], abs=1e-5)
