"""The same run under every ZeRO stage and on one or two workers, through Ray Train and the loop that training uses.

Dropout of the trunk is off (each worker draws its own); that of the heads is on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from stage_runs import name_of, settings_by_run, train_stages
from tiny_training import tiny_settings

from distributed.run_folder.checkpoint import checkpoints, load_checkpoint
from distributed.run_folder.records import STEPS, read_records
from distributed.settings import RunSettings

# Ray Data warns of options of its own when it copies its settings to a worker.
pytestmark = pytest.mark.filterwarnings(r"ignore:`\w+` is deprecated")
STEPS_TAKEN = 20
RUNS = [(1, 0), (2, 0), (2, 1), (2, 2), (2, 3), (1, 2)]
"""(workers, ZeRO stage); the first is the reference."""


def settings_of(stage: int) -> RunSettings:
    return tiny_settings(
        "model.trunk.dropout=0",
        f"engine.zero_stage={stage}",
        "train.epochs=1",
        f"episodes.steps_per_epoch={STEPS_TAKEN}",
        "objective.curriculum.warm_epochs=0",
        "objective.curriculum.ramp_epochs=0",
        "optimiser.warmup_steps=5",
    )


def train_all(config: dict[str, Any]) -> None:
    """On each worker: one run per ZeRO stage in one process group."""
    from distributed.loop import Training

    worker, runs = settings_by_run(config)
    for run, settings in runs.items():
        Training(settings, Path(config["store"]), run, None, worker).run()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of all runs of `RUNS`."""
    yield from train_stages(tmp_path_factory.mktemp("parity"), RUNS, settings_of, train_all)


@pytest.mark.parametrize(("workers", "stage"), RUNS[1:])
def test_losses_are_those_of_one_worker_without_zero(runs: Path, workers: int, stage: int) -> None:
    losses, reference = (
        read_records(runs / name_of(*run) / STEPS)["loss/total"].to_list() for run in ((workers, stage), RUNS[0])
    )
    assert len(losses) == STEPS_TAKEN
    assert losses == pytest.approx(reference, rel=1e-4)


@pytest.mark.parametrize(("workers", "stage"), RUNS[1:])
def test_weights_and_moments_are_those_of_one_worker_without_zero(runs: Path, workers: int, stage: int) -> None:
    (folder, state), (reference_folder, _) = (
        checkpoints(runs / name_of(*run))[-1] for run in ((workers, stage), RUNS[0])
    )
    assert state.step == STEPS_TAKEN
    for tensors, reference in zip(load_checkpoint(folder)[:2], load_checkpoint(reference_folder)[:2], strict=True):
        assert tensors.keys() == reference.keys()
        for key, value in reference.items():
            torch.testing.assert_close(
                tensors[key], value, rtol=1e-2, atol=2e-4, msg=lambda text, key=key: f"{key}: {text}"
            )


def test_learning_moves_the_weights_so_that_equal_means_something(runs: Path) -> None:
    losses = read_records(runs / name_of(*RUNS[0]) / STEPS)["loss/total"]
    assert losses.nunique() == STEPS_TAKEN
    step = load_checkpoint(checkpoints(runs / name_of(*RUNS[0]))[-1][0])[1]["step"]
    assert step == STEPS_TAKEN
