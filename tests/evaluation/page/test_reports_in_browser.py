"""The reports that the commands write are pages that do in a browser what a page must."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsers import check_page
from rich.console import Console
from tiny_ablation import ablation, record, variant
from tiny_models import tiny_run
from tiny_training import tiny_store

from distributed.fold_evaluation import evaluate
from evaluation.quadrants import EvaluationSettings
from tune.ablation.summary import hand_out

pytestmark = pytest.mark.browser


def test_the_report_of_an_evaluation_is_such_a_page(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, tiny_store(tmp_path / "store"))
    evaluate(run, run / "report", EvaluationSettings(draws=50), 60, Console(quiet=True))
    check_page(run / "report/report.html")


def test_the_report_of_an_ablation_is_such_a_page(tmp_path: Path) -> None:
    made = record(variant("weak"), variant("a-name-as-long-as-a-name-may-ever-be-40x", against="weak"))
    signals = dict(zip((own.name for own in made.variants), (1.0, 0.3, 0.6), strict=True))
    folder = ablation(tmp_path / "one", made, signals)
    hand_out(folder, Console(quiet=True), 100)
    check_page(folder / "report.html")
