"""A step whose loss or gradient is not finite leaves no trace, under every ZeRO stage, on one worker and on two.

The faults are injected from outside into the model that trains: its task loss becomes NaN on every worker, or the
gradient that comes back into the trunk of the last worker alone becomes infinite.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from model_episodes import episodes, training_module
from stage_runs import name_of, settings_by_run, train_stages
from tiny_training import tiny_settings
from torch import Tensor, nn

from data_pipeline.errors import UserError
from distributed.monitoring.bad_steps import Observations, blame
from distributed.run_folder.checkpoint import checkpoints, load_checkpoint
from distributed.run_folder.records import ALARMS, STEPS, read_lines, read_records
from distributed.settings import RunSettings
from model.episode_model import ModelSettings
from model.scores import Scores
from model.step import GlobalStep
from model.terms.term import LossTerm, TermSettings, TermValue

# Ray Data warns of options of its own when it copies its settings to a worker.
pytestmark = pytest.mark.filterwarnings(r"ignore:`\w+` is deprecated")
DRAWN = random.Random(20261127)
LOSS = {0, DRAWN.randint(1, 2)}
"""Steps at which the task loss is not finite; the first step, when no moment exists yet, is one of them."""
GRADIENT = DRAWN.randint(3, 5)
"""Step at which one worker's gradient is not finite."""
END = 7
"""From this step on every loss is not finite; a run bears 3 in a row."""
RUNS = [(workers, stage) for workers in (1, 2) for stage in (0, 1, 2, 3)]


def settings_of(stage: int) -> RunSettings:
    return tiny_settings(
        f"engine.zero_stage={stage}",
        "train.epochs=1",
        "episodes.steps_per_epoch=20",
        "train.checkpoint_every=1",
        "train.bad_steps=3",
        "objective.curriculum.warm_epochs=0",
        "objective.curriculum.ramp_epochs=0",
        "model.environment.encoder=attention",
    )


def train_all(config: dict[str, Any]) -> None:
    """On each worker: one run per ZeRO stage, with faults; writes what every bad step changed and how the run ended."""
    from distributed.engine import full_moments, full_parameters
    from distributed.loop import Training

    class Watched(Training):
        """Notes the tensors that a bad step changed."""

        def _step(self, *inputs: Any) -> None:
            step, before = self.state.step, full_parameters(self.engine) | full_moments(self.engine)
            super()._step(*inputs)
            after = full_parameters(self.engine) | full_moments(self.engine)
            noted[step] = [name for name in after if name not in before or not torch.equal(before[name], after[name])]

    worker, runs = settings_by_run(config)
    for run, settings in runs.items():
        noted: dict[int, list[str]] = {}
        training = Watched(settings, Path(config["store"]), run, None, worker)

        def spoil_loss(_: nn.Module, __: Any, loss: Tensor, training: Training = training) -> Tensor:
            step = training.state.step
            return loss * torch.nan if step in LOSS or step >= END else loss

        def spoil_gradient(_: nn.Module, __: Any, features: Tensor, training: Training = training) -> None:
            last = worker.rank == worker.world - 1
            if features.requires_grad and training.state.step == GRADIENT and last:
                features.register_hook(lambda gradient: gradient * torch.inf)

        training.engine.module.task.register_forward_hook(spoil_loss)
        training.engine.module.model.trunk.pairs.register_forward_hook(spoil_gradient)
        try:
            training.run()
            said = "ended well"
        except UserError as error:
            said = str(error)
        (run / f"rank-{worker.rank}.json").write_text(json.dumps({"changed": noted, "said": said}), "utf-8")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of all runs of `RUNS`."""
    yield from train_stages(tmp_path_factory.mktemp("bad"), RUNS, settings_of, train_all)


@pytest.mark.parametrize(("workers", "stage"), RUNS)
def test_a_step_that_is_not_finite_changes_no_parameter_moment_or_observation(
    runs: Path, workers: int, stage: int
) -> None:
    for rank in range(workers):
        noted = json.loads((runs / name_of(workers, stage) / f"rank-{rank}.json").read_text())["changed"]
        assert {int(step) for step, changed in noted.items() if not changed} == {*LOSS, GRADIENT, END, END + 1}


@pytest.mark.parametrize(("workers", "stage"), RUNS)
def test_the_run_goes_on_and_learns_from_the_other_steps(runs: Path, workers: int, stage: int) -> None:
    run = runs / name_of(workers, stage)
    steps = read_records(run / STEPS).set_index("step")["loss/total"]
    assert set(steps.dropna().index) == set(range(END)) - LOSS
    folder, state = checkpoints(run)[-1]
    assert (state.step, state.bad_steps) == (END + 2, 2)
    assert load_checkpoint(folder)[1]["step"] == END - len(LOSS) - 1


@pytest.mark.parametrize(("workers", "stage"), RUNS)
def test_too_many_in_a_row_end_the_run_with_step_and_term_on_every_worker(runs: Path, workers: int, stage: int) -> None:
    run = runs / name_of(workers, stage)
    for rank in range(workers):
        said = json.loads((run / f"rank-{rank}.json").read_text())["said"]
        assert said.startswith(
            f"run {run} stops because 3 steps in a row, {END} to {END + 2}, taught nothing: the loss of task is not "
            "finite; its checkpoints hold finite states only: start a new run with"
        )


@pytest.mark.parametrize(("workers", "stage"), RUNS)
def test_no_checkpoint_has_a_tensor_that_is_not_finite(runs: Path, workers: int, stage: int) -> None:
    for folder, _ in checkpoints(runs / name_of(workers, stage)):
        for tensors in load_checkpoint(folder)[:2]:
            assert all(bool(value.isfinite().all()) for value in tensors.values())


def test_the_alarm_names_loss_and_gradient_and_ends_with_the_next_good_step(runs: Path) -> None:
    records = read_lines(runs / name_of(2, 2) / ALARMS)
    alarms = [(own["step"], own["place"], own["on"]) for own in records if own.get("alarm") == "not_finite"]
    assert (0, "loss/task", True) in alarms
    assert [own for own in alarms if own[1] == "gradient"] == [
        (GRADIENT, "gradient", True),
        (GRADIENT + 1, "gradient", False),
    ]


class Kink(LossTerm):
    """A finite loss whose gradient is not: the root of a square at 0."""

    lower_bound = 0.0

    @classmethod
    def of(cls, settings: TermSettings, model: ModelSettings, lines: int) -> Kink:
        return cls()

    def forward(self, step: GlobalStep, scores: Scores, epoch: float) -> TermValue:
        return TermValue(loss=(0.0 * scores.logits).square().sum().sqrt())


def test_blame_names_the_term_whose_gradient_is_not_finite() -> None:
    module = training_module()
    replaced = next(iter(module.terms))
    module.terms[replaced] = Kink()
    said = blame(module, episodes(), 1, 0.1, {"loss/total": 1.0, f"loss/{replaced}": 0.0}, ["A", "B", "C"])
    assert said == f"the gradient of {replaced} is not finite although every loss is"


def test_blame_names_the_line_whose_logits_are_not_finite() -> None:
    module = training_module()
    module.model.invariant.register_forward_hook(lambda _, __, codes: codes.index_fill(0, torch.tensor([1]), torch.inf))
    losses = {"loss/total": torch.nan, "loss/task": torch.nan, "loss/corr": torch.inf}
    said = blame(module, episodes(), 1, 0.1, losses, ["A", "B", "C"])
    assert said == "the loss of corr, task is not finite (the logits of line B are not finite)"


def test_what_a_forward_observes_can_be_taken_back_bit_for_bit() -> None:
    module = training_module(erasure="leace", competition={"on": True})
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    observations = Observations(module)
    observations.keep()
    module(episodes(), 0, 9.0)
    assert any(not torch.equal(before[name], buffer) for name, buffer in module.named_buffers())
    observations.restore()
    assert all(torch.equal(before[name], buffer) for name, buffer in module.named_buffers())
