"""Killed with SIGKILL at a random step (a worker, the driver, everything), a run ends where it would have ended.

Real runs of the command, each in its own process tree; only processes of that tree are killed. Every kill waits for a
step drawn from `KILLS`, whose seed makes a failure repeatable. Dropout of the trunk is off, so that another number of
workers computes the same; that of the heads is on.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from tiny_training import TINY_RUN, tiny_store

from distributed.run_folder.checkpoint import FILES, checkpoints, load_checkpoint
from distributed.run_folder.records import EPOCHS, STEPS, read_records

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS_TAKEN, PER_EPOCH = 40, 8
SETTINGS = [
    *TINY_RUN,
    "model.trunk.dropout=0",
    "episodes.support=[4, 8]",
    f"train.epochs={STEPS_TAKEN // PER_EPOCH}",
    f"episodes.steps_per_epoch={PER_EPOCH}",
    "train.checkpoint_every=3",
    "train.patience=0",
    "objective.curriculum.warm_epochs=1",
    "objective.curriculum.ramp_epochs=2",
    "optimiser.warmup_steps=5",
]
DRAWN = random.Random(20261121)
KILLS = {"worker": DRAWN.randint(4, 25), "driver": DRAWN.randint(4, 14), "everything": DRAWN.randint(19, 30)}
"""Steps after which each is killed."""
PATIENCE = 300
"""Seconds to wait for a step of a run before giving up on it."""


@dataclass(frozen=True)
class Lab:
    """Where the runs of this file are."""

    folder: Path

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @contextlib.contextmanager
    def start(self, name: str, workers: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """The training command as a process; what is left of its process tree afterwards is killed."""
        command = [sys.executable, REPOSITORY / "distributed/train.py", "--store", self.folder / "store", "--runs"]
        command += [self.runs, "--name", name, "--workers", str(workers), *options, *SETTINGS]
        env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        with (self.folder / f"{name}.out").open("w") as out, (self.folder / f"{name}.log").open("a") as log:
            process = subprocess.Popen(command, cwd=self.folder, env=env, stdout=out, stderr=log)
        try:
            yield process
        finally:
            if process.poll() is None:
                kill(tree(process))
            process.wait()

    def finish(self, name: str, workers: int, *options: str) -> str:
        """Run the command to its end and return what it printed."""
        with self.start(name, workers, *options) as process:
            process.wait()
        assert process.returncode == 0, (self.folder / f"{name}.log").read_text()
        return (self.folder / f"{name}.out").read_text()

    def steps(self, name: str) -> int:
        """Steps of run `name` that are recorded."""
        return len(read_records(self.runs / name / STEPS))

    def wait_for(self, process: subprocess.Popen[bytes], name: str, step: int) -> None:
        """Return once `step` steps of the run are recorded."""
        deadline = time.monotonic() + PATIENCE
        while self.steps(name) < step:
            assert process.poll() is None, (self.folder / f"{name}.log").read_text()
            assert time.monotonic() < deadline, f"{name} is at step {self.steps(name)}, not {step}"
            time.sleep(0.02)


def tree(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The process and all that it started."""
    driver = psutil.Process(process.pid)
    return [driver, *driver.children(recursive=True)]


def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=PATIENCE)


def assert_same_bits(run: Path, reference: Path) -> None:
    (folder, state), (wanted, wanted_state) = checkpoints(run)[-1], checkpoints(reference)[-1]
    assert state.step == wanted_state.step == STEPS_TAKEN
    assert state.finished
    for name in FILES:
        assert (folder / name).read_bytes() == (wanted / name).read_bytes(), name
    assert state.score == wanted_state.score


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("resume")
    tiny_store(folder / "store")
    return Lab(folder)


@pytest.fixture(scope="module")
def printed(lab: Lab) -> str:
    """What the run that nobody interrupts prints."""
    return lab.finish("whole", 2)


@pytest.fixture(scope="module")
def whole(lab: Lab, printed: str) -> Path:
    """Its folder."""
    return lab.runs / "whole"


@pytest.fixture(scope="module")
def killed(lab: Lab) -> Path:
    """A run whose driver was killed, that was resumed, and of which everything was killed."""
    with lab.start("killed", 2) as process:
        lab.wait_for(process, "killed", KILLS["driver"])
        left = tree(process)[1:]
        process.kill()
        process.wait()
    with lab.start("killed", 2, "--resume") as process:
        lab.wait_for(process, "killed", KILLS["everything"])
        kill([*left, *tree(process)])
    run = lab.runs / "killed"
    assert lab.steps("killed") < STEPS_TAKEN
    return run


def test_a_run_whose_worker_is_killed_recovers_by_itself_to_the_same_bits(lab: Lab, whole: Path) -> None:
    with lab.start("recovering", 2) as process:
        lab.wait_for(process, "recovering", KILLS["worker"])
        workers = [one for one in tree(process) if "RayTrainWorker" in " ".join(one.cmdline())]
        assert len(workers) == 2
        kill(workers[:1])
        process.wait()
    assert process.returncode == 0, (lab.folder / "recovering.log").read_text()
    assert_same_bits(lab.runs / "recovering", whole)


def test_killed_driver_then_killed_everything_resumes_to_the_same_bits(lab: Lab, killed: Path, whole: Path) -> None:
    run = shutil.copytree(killed, lab.runs / "again")
    lab.finish("again", 2, "--resume")
    assert_same_bits(run, whole)
    for file in (STEPS, EPOCHS):
        found, wanted = read_records(run / file), read_records(whole / file)
        assert found["step"].to_list() == wanted["step"].to_list()
    assert read_records(run / STEPS)["loss/total"].to_list() == read_records(whole / STEPS)["loss/total"].to_list()


def test_another_number_of_workers_goes_on_with_the_same_episodes_from_the_last_whole_checkpoint(
    lab: Lab, killed: Path, whole: Path
) -> None:
    run = shutil.copytree(killed, lab.runs / "alone")
    latest, state = checkpoints(run)[-1]
    (latest / FILES[0]).write_bytes(b"what a failing disk leaves")
    lab.finish("alone", 1, "--resume")
    going_on = checkpoints(killed)[-2][1].step
    assert going_on < state.step
    warning = f"warning: {latest.name} of run {run} cannot be read and is now called damaged_*; going on from step"
    assert f"{warning} {going_on}\n" in (lab.folder / "alone.log").read_text()
    assert (run / f"damaged_{latest.name}").is_dir()
    found, wanted = read_records(run / STEPS), read_records(whole / STEPS)
    assert found["step"].to_list() == list(range(STEPS_TAKEN))
    assert found["loss/total"].to_list() == pytest.approx(wanted["loss/total"].to_list(), rel=1e-4)
    models = [load_checkpoint(checkpoints(one)[-1][0])[0] for one in (run, whole)]
    for key, value in models[1].items():
        torch.testing.assert_close(models[0][key], value, rtol=1e-2, atol=2e-4)


def test_the_terminal_shows_progress_and_where_the_result_is_and_nothing_else(lab: Lab, printed: str) -> None:
    result = re.compile(
        r"run +\S+/whole\nbest +checkpoint_\d{9}, validation average precision 0\.\d{4} on sim3\n"
        r"evaluate +python distributed/evaluate\.py --run \S+/whole\n"
    )
    assert result.fullmatch(printed), printed
    progress = re.compile(r"whole: (2 workers on cpu| *\d+%\|.*\| \d+/40 \[.*step.*\])|step \d+: .*")
    lines = (lab.folder / "whole.log").read_text().splitlines()
    assert lines
    assert all(progress.fullmatch(line) for line in lines if line.strip()), lines


def test_resuming_a_finished_run_trains_no_further(lab: Lab, whole: Path) -> None:
    before = sorted(path.name for path in whole.iterdir())
    lab.finish("whole", 2, "--resume")
    assert sorted(path.name for path in whole.iterdir()) == before
    assert lab.steps("whole") == STEPS_TAKEN
