"""A run that is made longer on resume is the longer run, bit for bit, or is refused with a sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from tiny_training import tiny_plan, tiny_settings, tiny_store

from data_pipeline.episodes.plan import Plan
from data_pipeline.errors import UserError
from data_pipeline.settings import validate
from data_pipeline.store.store import Store
from distributed.cluster import join_ray
from distributed.run_folder.checkpoint import FILES, Identity, TrainingState, checkpoints
from distributed.run_folder.length import continued
from distributed.settings import RunSettings

# Ray Data warns of options of its own when it copies its settings to a worker.
pytestmark = pytest.mark.filterwarnings(r"ignore:`\w+` is deprecated")
PER_EPOCH = 3
RUN = Path("runs/first")


def settings_of(epochs: int, *overrides: str) -> RunSettings:
    words = [f"train.epochs={epochs}", f"episodes.steps_per_epoch={PER_EPOCH}", "optimiser.schedule=constant"]
    return tiny_settings(*words, "train.patience=0", *overrides)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("length") / "store")


@pytest.fixture(scope="module")
def plan(store: Store) -> Plan:
    return tiny_plan(store, steps_per_epoch=PER_EPOCH)


def state_at(step: int, **changes: Any) -> TrainingState:
    return TrainingState(
        step=step,
        finished=True,
        identity=Identity(store="s", fold="f", plan="p"),
        inputs={},
        train_lines=[],
        signal_names=[],
        settings={},
    ).model_copy(update=changes)


def train_all(config: dict[str, Any]) -> None:
    """One after the other: (folder of the run, its settings), each from its latest checkpoint."""
    from distributed.engine import start_process_group
    from distributed.loop import Training, Worker, latest_checkpoint

    start_process_group(cuda=False, timeout=600)
    torch.set_num_threads(1)
    worker = Worker(0, 1, torch.device("cpu"))
    for run, settings in config["runs"]:
        checked = validate(RunSettings, settings, run)
        Training(checked, Path(config["store"]), Path(run), latest_checkpoint(Path(run), worker), worker).run()


def test_a_run_made_longer_ends_where_a_run_of_that_length_ends(store: Store, tmp_path: Path) -> None:
    join_ray(cpus=3)
    # The worker cannot import a test.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    whole, longer = tmp_path / "whole", tmp_path / "longer"
    for run in (whole, longer):
        run.mkdir()
    runs = [(whole, 2), (longer, 1), (longer, 2)]
    try:
        TorchTrainer(
            train_all,
            train_loop_config={
                "runs": [(str(run), settings_of(epochs).model_dump(mode="json")) for run, epochs in runs],
                "store": str(store.path),
            },
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ScalingConfig(num_workers=1),
            run_config=RunConfig(name="ray", storage_path=str(tmp_path)),
        ).fit()
    finally:
        ray.shutdown()
    (found, state), (wanted, wanted_state) = checkpoints(longer)[-1], checkpoints(whole)[-1]
    assert state.step == wanted_state.step == 2 * PER_EPOCH
    assert (state.score, state.best_score, state.best_step) == (
        wanted_state.score,
        wanted_state.best_score,
        wanted_state.best_step,
    )
    for name in FILES:
        assert (found / name).read_bytes() == (wanted / name).read_bytes(), name


def test_what_ended_for_want_of_steps_goes_on_and_what_ended_for_want_of_patience_does_not(plan: Plan) -> None:
    assert not continued(state_at(6), RUN, plan, settings_of(3)).finished
    assert continued(state_at(6), RUN, plan, settings_of(2)).finished
    impatient = state_at(6, epochs_without_gain=2)
    assert continued(impatient, RUN, plan, settings_of(3, "train.patience=2")).finished
    assert not continued(impatient, RUN, plan, settings_of(3, "train.patience=3")).finished


def test_a_run_that_ended_inside_an_epoch_cannot_be_made_longer(plan: Plan) -> None:
    with pytest.raises(UserError, match=r"cannot be made longer: it ended inside an epoch, as a longer run would not"):
        continued(state_at(4), RUN, plan, settings_of(3))


def test_a_run_whose_last_epoch_was_chosen_before_its_time_cannot_be_made_longer(plan: Plan) -> None:
    with pytest.raises(UserError, match=r"it ended before the epoch train\.choose_from, and its last one could be the"):
        continued(state_at(6), RUN, plan, settings_of(3, "train.choose_from=3"))


def test_a_run_cannot_be_made_shorter_than_it_is(plan: Plan) -> None:
    with pytest.raises(UserError, match=r"has taken 6 steps already, and train\.epochs and train\.max_steps now ask "):
        continued(state_at(6), RUN, plan, settings_of(1))
