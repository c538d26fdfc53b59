"""A whole ablation on a tiny store: trained, judged, compared, and resumed without repeating anything."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_training import TINY_RUN, tiny_store

from tune.ablation.run import DRAW, WRONG

ABLATE = Path(__file__).resolve().parents[3] / "tune/ablate.py"
VARIANTS = """
variants:
  - {name: no-environment, description: z_E is zero, overrides: [model.environment.encoder=none]}
  - {name: signals-off, overrides: [model.environment.local=false], needs: [signals]}
"""
SHORT = ["train.epochs=1", "train.max_steps=6", "train.checkpoint_every=0", "scoring.valid_pairs=60",
         "scoring.monitor_pairs=0", "objective.balance.every=1", "objective.curriculum.warm_epochs=0",
         "objective.curriculum.ramp_epochs=0", "objective.terms.grl.start=0", "objective.terms.corr.start=0",
         "optimiser.warmup_steps=0", "optimiser.lr=1e-2"]  # fmt: skip


def run(folder: Path, *more: str) -> str:
    places = ["--store", str(folder / "store"), "--variants", str(folder / "spec.yaml"), "--runs", str(folder / "runs")]
    asked = ["--folds", "sim4:sim3", "--name", "one", *more, *TINY_RUN, *SHORT]
    command = [sys.executable, str(ABLATE), *places, *asked]
    with tempfile.TemporaryDirectory(prefix="ablate-", ignore_cleanup_errors=True) as ray_folder:
        environment = os.environ | {"RAY_TMPDIR": ray_folder, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An ablation that ended, and what it printed."""
    folder = tmp_path_factory.mktemp("ablation")
    tiny_store(folder / "store")
    (folder / "spec.yaml").write_text(VARIANTS)
    return folder, run(folder)


def test_one_command_trains_judges_and_compares(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    table = pd.read_parquet(folder / "runs/one/runs.parquet").set_index("variant")
    assert list(table.index) == ["default", "no-environment"]
    assert set(table["state"]) == {"complete"}
    assert table["steps"].tolist() == [6, 6]
    # Measured in every run; 0 where the adversary is at chance and asks for nothing.
    assert table["gradient_ratio/grl"].ge(0).all()
    alone = table.loc["no-environment"]
    assert alone["ap/unseen_chrom"] == pytest.approx(alone["u/unseen_chrom"], abs=1e-3)
    assert alone["right/unseen_chrom"] == pytest.approx(alone["wrong/unseen_chrom"], abs=1e-3)
    assert "left out: signals-off, the store has no signals" in printed
    assert "2 complete" in printed
    assert {"table.md", "report.html", "comparison.json"} <= {file.name for file in (folder / "runs/one").iterdir()}


def test_a_run_of_an_ablation_is_judged_under_its_own_and_under_wrong_supports(finished: tuple[Path, str]) -> None:
    table = pd.read_parquet(finished[0] / "runs/one/outcomes/default-sim4-sim3-0.parquet")
    right = table[[name for name in table if name.startswith(DRAW)]].to_numpy()
    wrong = table[[name for name in table if name.startswith(WRONG)]].to_numpy()
    assert set(table["line"]) == {"sim4"}
    assert right.shape == wrong.shape == (len(table), 2)
    assert not np.allclose(right, wrong, atol=1e-6)


def test_resuming_a_finished_ablation_repeats_nothing(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    table = (folder / "runs/one/table.md").read_bytes()
    files = {file: file.stat().st_mtime_ns for part in ("runs", "outcomes")
             for file in (folder / "runs/one" / part).rglob("*") if file.is_file()}  # fmt: skip
    run(folder, "--resume")
    assert {file: file.stat().st_mtime_ns for file in files} == files
    assert (folder / "runs/one/table.md").read_bytes() == table
