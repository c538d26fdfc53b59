"""What a search says it would run and cost."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import ray
from rich.console import Console
from tiny_search import run_settings, search_settings
from tiny_training import tiny_store

from tune.dry_run import rehearse

# Ray Data warns of options of its own when it copies its settings to a worker.
pytestmark = pytest.mark.filterwarnings(r"ignore:`\w+` is deprecated")


def test_trials_concurrency_and_time_are_said_from_measured_steps_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tiny_store(tmp_path / "store")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    said = io.StringIO()
    search = search_settings(trials=5, folds=2, seeds=3, confirm=2)
    settings = run_settings("train.epochs=2", "episodes.steps_per_epoch=20", "engine.threads=1", "stream.tasks=0")
    try:
        rehearse(search, settings, store.path, 1, Console(file=said, width=200))
    finally:
        ray.shutdown()
    text = said.getvalue()
    assert "searched   optimiser.lr: 0.0001 to 0.01, evenly in the logarithm" in text
    assert re.search(r"a run      40 steps of 0\.\d+ s, 2 validations of", text)
    assert "2 folds x 3 seeds = 6 runs" in text
    assert "the search 5 trials and 12 runs to try points again, 1 at a time on cpu: " in text
    assert list(here.iterdir()) == []
