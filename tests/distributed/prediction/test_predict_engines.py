"""The two ways to run a prediction: they give the same numbers, and one of them needs no Ray."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import ray
from rich.console import Console
from tiny_models import evaluated, tiny_run
from tiny_training import tiny_store

from data_pipeline.errors import UserError
from distributed.formats import Outputs
from distributed.prediction.deployment import open_export, open_run, write_export
from distributed.prediction.executors import Arrays, Executor, Part, in_process, on_ray
from distributed.prediction.job import PredictionSettings, predict

# Ray Data 2.60 warns about settings of its own as soon as it is used.
pytestmark = pytest.mark.filterwarnings(r"ignore:`\w+` is deprecated")

WITHOUT_RAY = """
import sys
from distributed.predict import app
app(sys.argv[1:], standalone_mode=False)
loaded = {"ray", "deepspeed"} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("engines")
    store = tiny_store(place / "store")
    write_export(open_run(evaluated(tiny_run(place / "runs", store))), place / "model")
    return place


@pytest.fixture(scope="module")
def ray_executor() -> Iterator[Executor]:
    yield on_ray(2)
    ray.shutdown()


def scored(place: Path, folder: Path, executor: Executor) -> pd.DataFrame:
    (folder / "work").mkdir(parents=True)
    model, settings = open_export(place / "model"), PredictionSettings(draws=3)
    out = folder / "scores.parquet"
    predict(model, place / "store", ["sim4"], Outputs.of(out), folder / "work", settings, executor, Console(quiet=True))
    return pd.read_parquet(out)


def test_ray_and_local_give_the_same_table(place: Path, tmp_path: Path, ray_executor: Executor) -> None:
    local, remote = scored(place, tmp_path / "local", in_process), scored(place, tmp_path / "ray", ray_executor)
    pd.testing.assert_frame_equal(remote, local, atol=1e-5)


def doubling() -> Part:
    """A function that workers need not import; it fails as a user's mistake would at part 99."""

    def double(part: int) -> Arrays:
        if part == 99:
            raise UserError("the disk is full")
        return {"part": np.array([2 * part, 2 * part + 1])}

    return double


def test_ray_yields_parts_in_order(ray_executor: Executor) -> None:
    found = [int(value) for arrays in ray_executor(doubling(), 40) for value in arrays["part"]]
    assert found == list(range(80))


def test_mistake_in_a_ray_task_keeps_its_sentence(ray_executor: Executor) -> None:
    with pytest.raises(UserError) as caught:
        list(ray_executor(doubling(), 100))
    assert str(caught.value) == "the disk is full"


def test_local_prediction_loads_neither_ray_nor_deepspeed(place: Path, tmp_path: Path) -> None:
    options = ["--model", place / "model", "--store", place / "store", "--line", "sim4", "--out", tmp_path / "s.tsv"]
    command = [sys.executable, "-c", WITHOUT_RAY, *map(str, options), "--local"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(tmp_path / "s.tsv", sep="\t")) == 240
