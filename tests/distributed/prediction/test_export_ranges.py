"""The ranges of the training lines: counted when a run is evaluated, carried by an export, absent in earlier ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from line_ranges import ranges
from tiny_models import evaluated, tiny_run
from tiny_training import tiny_fold, tiny_store

from data_pipeline.episodes.supports import SupportSize
from data_pipeline.errors import UserError
from data_pipeline.store.store import Store
from distributed.prediction.deployment import open_export, open_run, write_export
from evaluation.calibration import Calibration
from evaluation.line_page.freezing import freeze_ranges
from evaluation.line_page.ranges import RANGES
from evaluation.scoring import Scorer
from evaluation.settings import ScoringSettings


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("ranges") / "store", "signals=element")


@pytest.fixture
def run(store: Store, tmp_path: Path) -> Path:
    run = evaluated(tiny_run(tmp_path, store))
    (run / "report" / RANGES).write_text(ranges().model_dump_json())
    return run


def test_ranges_travel_with_the_model(run: Path, tmp_path: Path) -> None:
    write_export(open_run(run), tmp_path / "model")
    assert open_run(run).ranges == ranges()
    assert open_export(tmp_path / "model").ranges == ranges()
    # What is scored with is an export of an export.
    write_export(open_export(tmp_path / "model"), tmp_path / "again")
    assert open_export(tmp_path / "again").description == open_export(tmp_path / "model").description


def test_an_export_of_before_there_were_ranges_is_read(run: Path, tmp_path: Path) -> None:
    (run / "report" / RANGES).unlink()
    write_export(open_run(run), tmp_path / "model")
    assert not (tmp_path / "model" / RANGES).exists()
    assert open_export(tmp_path / "model").ranges is None


def test_ranges_of_an_earlier_checkpoint_say_nothing(run: Path) -> None:
    (run / "report/report.json").write_text(json.dumps({"context": {"checkpoint": "checkpoint_000000001"}}))
    assert open_run(run).ranges is None


def test_damaged_ranges_are_named(run: Path, tmp_path: Path) -> None:
    write_export(open_run(run), tmp_path / "model")
    (tmp_path / "model" / RANGES).write_text("{}")
    with pytest.raises(UserError, match=r"ranges\.json is missing or damaged \(its sha256 differs\)"):
        open_export(tmp_path / "model")
    (run / "report" / RANGES).write_text('{"lines": 1}')
    with pytest.raises(UserError, match=r"ranges\.json"):
        open_run(run)


def test_ranges_are_those_of_all_pairs_of_the_lines_scored_with_their_own_supports(store: Store, run: Path) -> None:
    fold, calibration = tiny_fold(store), Calibration(threshold=0.5, at_recall70=0.4)
    scorer = Scorer(open_run(run).build(), store, SupportSize(8, 8), ScoringSettings(support_draws=2))
    found = freeze_ranges(scorer, fold, 2, calibration, 10_000)
    line = fold.train_lines[0]
    rows = fold.rows(store, line)
    assert found.lines == [*fold.train_lines, fold.valid_line]
    assert found.pairs[line] == len(rows)
    assert [own.threshold for own in found.links] == [0.4, 0.5]
    logits = scorer.score_line(rows, rows, 2, 4).logits.mean(axis=1)
    assert found.logit.mean[line] == pytest.approx(float(logits.mean()), rel=1e-3)
    called = calibration.apply(logits) >= 0.4
    assert found.links[0].called[line] == pytest.approx(called.mean(), abs=1e-4)
    _, count = np.unique(store.pairs.promoter[rows], return_counts=True)
    assert found.considered.mean[line] == pytest.approx(count.mean(), rel=1e-4)
    assert sum(found.considered.shares[line]) == pytest.approx(1, abs=1e-3)
    column = store.signals(rows)[:, 0]
    assert found.signals[store.signal_names[0]].mean[line] == pytest.approx(float(column.mean()), rel=1e-3)
    assert len(found.environment[line]) == len(found.support_sd) > 0
    assert max(found.support_sd) > 0
    fewer = freeze_ranges(scorer, fold, 2, calibration, 60)
    assert 60 <= fewer.pairs[line] < len(rows)
    assert fewer.considered.mean[line] >= 1
