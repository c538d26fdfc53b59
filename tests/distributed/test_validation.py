"""A run that is judged within its epochs: what it records, when it stops, and that it resumes to the same bits."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import ray
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from tiny_training import tiny_settings, tiny_store

from data_pipeline.settings import validate
from distributed.cluster import join_ray
from distributed.run_folder.checkpoint import FILES, best_checkpoint, checkpoints, load_checkpoint
from distributed.run_folder.records import EPOCHS, STEPS, read_records
from distributed.settings import RunSettings

if TYPE_CHECKING:
    from data_pipeline.episodes.batch import EpisodeBatch
    from distributed.loop import Training

# Ray Data warns of options of its own when it copies its settings to a worker.
pytestmark = pytest.mark.filterwarnings(r"ignore:`\w+` is deprecated")
COMMON = (
    *("train.epochs=2", "episodes.steps_per_epoch=3", "train.patience=0", "train.keep_best=100"),
    *("train.checkpoint_every=1", "model.signals.encoding=piecewise", "model.signals.dropout=0.4"),
)
OFTEN = (*COMMON, "train.validate_every=2")
IMPATIENT = (*COMMON, "train.validate_every=1", "train.patience=1", "optimiser.lr=1e-12")
RUNS = {"seldom": COMMON, "often": OFTEN, "broken": OFTEN, "impatient": IMPATIENT}
BREAKS_AT = 5
"""Step at which a run breaks off, between two validations."""


def train_all(config: dict[str, Any]) -> None:
    """One after the other; the one that breaks off goes on from its latest checkpoint."""
    from distributed.engine import start_process_group
    from distributed.loop import Training, Worker, latest_checkpoint

    start_process_group(cuda=False, timeout=600)
    torch.set_num_threads(1)
    worker = Worker(0, 1, torch.device("cpu"))
    for name, settings in config["runs"].items():
        run = Path(config["folder"]) / name
        run.mkdir()
        checked = validate(RunSettings, settings, name)
        training = Training(checked, Path(config["store"]), run, None, worker)
        if name == "broken":
            break_off(training, config["breaks_at"])
            training = Training(checked, Path(config["store"]), run, latest_checkpoint(run, worker), worker)
        training.run()


def break_off(training: Training, step: int) -> None:
    """Run `training` until it is at `step`."""
    take = training._step

    def until(batch: EpisodeBatch, wait: float) -> None:
        if training.state.step == step:
            raise InterruptedError
        take(batch, wait)

    training._step = until  # type: ignore[method-assign]
    with contextlib.suppress(InterruptedError):
        training.run()
    assert training.state.step == step


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of `RUNS`."""
    folder = tmp_path_factory.mktemp("validation")
    store = tiny_store(folder / "store", "signals=pair")
    join_ray(cpus=3)
    # The worker cannot import a test.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    own = {name: tiny_settings(*words).model_dump(mode="json") for name, words in RUNS.items()}
    config = {"runs": own, "store": str(store.path), "folder": str(folder), "breaks_at": BREAKS_AT}
    try:
        TorchTrainer(
            train_all,
            train_loop_config=config,
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ScalingConfig(num_workers=1),
            run_config=RunConfig(name="ray", storage_path=str(folder)),
        ).fit()
        yield folder
    finally:
        ray.shutdown()


def test_it_is_judged_every_so_many_steps_and_at_the_end_of_epochs(runs: Path) -> None:
    records = read_records(runs / "often" / EPOCHS)
    assert records["step"].to_list() == [1, 2, 3, 5]
    assert records["epoch"].to_list() == [0, 0, 1, 1]
    assert records["valid/average_precision"].notna().all()
    scored = {state.step: state.score for _, state in checkpoints(runs / "often") if state.score >= 0}
    assert list(scored.values()) == records["valid/average_precision"].to_list()
    assert list(scored) == [2, 3, 4, 6]


def test_the_best_of_all_of_them_is_the_runs_best(runs: Path) -> None:
    _, last = checkpoints(runs / "often")[-1]
    scores = read_records(runs / "often" / EPOCHS)["valid/average_precision"]
    assert last.best_score == scores.max()
    best = load_checkpoint(best_checkpoint(runs / "often"))[2]
    assert best.score == scores.max()


def test_means_over_an_epoch_are_those_of_all_its_steps_and_stand_at_its_end_alone(runs: Path) -> None:
    often, seldom = (read_records(runs / name / EPOCHS).set_index("step") for name in ("often", "seldom"))
    assert often["mean/loss/task"].dropna().index.to_list() == seldom.index.to_list() == [2, 5]
    shared = [name for name in seldom if not str(name).endswith("seconds")]
    assert often.loc[[2, 5], shared].equals(seldom[shared])


def test_to_be_judged_changes_no_step(runs: Path) -> None:
    often, seldom = (checkpoints(runs / name)[-1][0] for name in ("often", "seldom"))
    for name in FILES:
        assert (often / name).read_bytes() == (seldom / name).read_bytes(), name


def test_resumed_within_an_epoch_it_ends_with_the_same_bits_and_records(runs: Path) -> None:
    (broken, state), (whole, wanted) = (checkpoints(runs / name)[-1] for name in ("broken", "often"))
    assert state == wanted
    for name in FILES:
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name
    for records in (STEPS, EPOCHS):
        found, expected = (read_records(runs / name / records) for name in ("broken", "often"))
        shared = [name for name in expected if "second" not in str(name)]
        assert found[shared].equals(expected[shared])


def test_patience_counts_validations_and_a_run_that_stops_within_an_epoch_is_watched_once_more(runs: Path) -> None:
    _, state = checkpoints(runs / "impatient")[-1]
    assert (state.step, state.finished, state.epochs_without_gain) == (2, True, 1)
    records = read_records(runs / "impatient" / EPOCHS)
    assert records["step"].to_list() == [0, 1]
    assert records["mean/loss/task"].notna().to_list() == [False, True]
    assert len(state.watch.history) == 1
