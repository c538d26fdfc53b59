"""A whole search on a tiny store, killed with everything it started, and continued."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from tiny_search import OVERRIDES
from tiny_training import tiny_store

from bench.search_kills import kill_everything
from data_pipeline.settings import load
from distributed.settings import RunSettings

SEARCH = Path(__file__).resolve().parents[2] / "tune/search.py"
SPACE = """
parameters:
  optimiser.lr: {low: 1.0e-3, high: 1.0e-2, log: true}
  episodes.support: {choices: [8, 200]}  # no line can fill the second: those trials fail in the worker
sampler: sobol
start: false
folds: 1
seeds: 2
trials: 4
"""
SHORT = ["train.epochs=1", "train.max_steps=3", "train.checkpoint_every=1", "train.max_failures=0",
         "scoring.support_draws=1", "scoring.valid_pairs=60"]  # fmt: skip


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Ray's folder of this test alone; its sockets need a short path. Whatever still runs there is killed."""
    with tempfile.TemporaryDirectory(prefix="search-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
        kill_everything(Path(folder))


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.2)


def test_a_search_killed_with_everything_goes_on_and_repeats_no_finished_trial(
    tmp_path: Path, ray_folder: Path
) -> None:
    space, folder, log = tmp_path / "space.yaml", tmp_path / "runs/killed", tmp_path / "log"
    space.write_text(SPACE)
    tiny_store(tmp_path / "store")
    command = [sys.executable, str(SEARCH), "--space", str(space), "--store", str(tmp_path / "store"), "--runs",
               str(tmp_path / "runs"), "--name", "killed", "--concurrent", "2", *OVERRIDES, *SHORT]  # fmt: skip
    environment = os.environ | {"RAY_TMPDIR": str(ray_folder), "OMP_NUM_THREADS": "1"}

    def table() -> pd.DataFrame:
        return pd.read_parquet(folder / "trials.parquet")

    def half_way() -> bool:
        if not (folder / "trials.parquet").is_file():
            return False
        now = table()
        if now.empty or (now["state"] == "running").all():
            return False
        begun = now["number"][now["state"] == "running"]
        return any(any(folder.glob(f"runs/trial-{number:04d}/*/run.json")) for number in begun)

    with log.open("wb") as sink, subprocess.Popen(command, env=environment, stdout=sink, stderr=sink) as process:
        wait_until(half_way, process, log)
        kill_everything(ray_folder)
    before = table()
    ended = before[before["state"] != "running"]
    files = {file: file.stat().st_mtime_ns for name in ended["runs"] for run in name for file in run_files(folder, run)}

    resumed = subprocess.run([*command, "--resume"], env=environment, capture_output=True, text=True, timeout=600)

    assert resumed.returncode == 0, resumed.stderr
    after = table()
    assert list(after["number"]) == [0, 1, 2, 3]
    assert sorted(after["state"]) == ["complete", "complete", "failed", "failed"]
    assert all("too few pairs for an episode" in reason for reason in after[after["state"] == "failed"]["reason"])
    pd.testing.assert_frame_equal(after.loc[ended.index, before.columns], ended, check_dtype=False)
    assert {file: file.stat().st_mtime_ns for file in files} == files
    pd.testing.assert_series_equal(after["optimiser.lr"][: len(before)], before["optimiser.lr"])
    assert after["optimiser.lr"].nunique() == 4
    assert "best" in resumed.stdout
    assert load(RunSettings, [folder / "best.yaml"]).episodes.support == 8


def run_files(folder: Path, run: str) -> list[Path]:
    return [file for file in (folder / "runs" / run).rglob("*") if file.is_file()]
