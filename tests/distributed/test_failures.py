"""What is worth another try and what is not, on the exceptions that Ray, torch and the system really raise."""

from __future__ import annotations

import errno
import importlib
import multiprocessing
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import ray.exceptions
from late_workers import meet
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal import exceptions as of_ray_train

from data_pipeline.errors import UserError
from distributed.failures import LOSSES, MISTAKES, WorkerLostError, failure_of, told

TRAIN = Path(__file__).resolve().parents[2] / "distributed/train.py"
HOMES = {
    "ray": ["ray.exceptions", "ray.train", "ray.train.v2._internal.exceptions", "ray.train.v2.api.exceptions"],
    "torch": ["torch", "torch.distributed"],
    "builtins": ["builtins"],
    "distributed": ["distributed.failures"],
    "optuna": ["optuna.exceptions"],
    "sqlalchemy": ["sqlalchemy.exc"],
}


@pytest.mark.parametrize("name", [*MISTAKES, *LOSSES])
def test_every_kind_that_is_listed_exists_where_it_is_said_to_be(name: str) -> None:
    package, kind = name.split(".")
    homes = [*HOMES[package], *(["ray.data.exceptions"] if package == "ray" else [])]
    found = [getattr(importlib.import_module(home), kind, None) for home in homes]
    assert any(isinstance(one, type) and one.__module__.split(".")[0] == package for one in found)


def test_a_users_mistake_in_one_worker_counts_before_the_lost_line_in_another() -> None:
    lost = WorkerLostError("worker 1 lost the line to another worker during step 3")
    error = WorkerGroupError("", {1: lost, 0: UserError("key is missing")})
    assert failure_of(error).sentence == "key is missing"
    assert not failure_of(error).lost


def test_the_death_of_a_worker_is_worth_another_try() -> None:
    died = of_ray_train.WorkerHealthCheckFailedError("", ray.exceptions.ActorDiedError())
    failure = failure_of(WorkerGroupError("", {0: died}))
    assert failure.lost
    assert failure.sentence == "a worker's process was lost, for example killed for lack of memory"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/runs/first/metrics/steps.jsonl"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EROFS, "Read-only file system", "/runs/first"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_that_takes_no_more_is_a_mistake(error: Exception) -> None:
    failure = failure_of(error)
    assert failure.sentence is not None
    assert failure.sentence.startswith("the disk is ")
    assert not failure.lost


def test_workers_that_cannot_start_are_not_started_again() -> None:
    failure = failure_of(ControllerError(of_ray_train.WorkerGroupStartupTimeoutError(2)))
    assert failure.sentence is not None
    assert failure.sentence.startswith(
        "the workers did not start within three minutes: other work may hold the CPUs or GPUs"
    )
    assert not failure.lost


def test_a_mistake_inside_a_task_of_ray_is_found_under_its_stack() -> None:
    cause = UserError("store is damaged")
    error = ray.exceptions.RayTaskError("read", "a stack of many lines", cause).as_instanceof_cause()
    assert isinstance(error, UserError)
    assert failure_of(error).sentence == "store is damaged"


def test_a_defect_keeps_its_own_exception() -> None:
    assert failure_of(WorkerGroupError("", {0: KeyError("loss/total")})).sentence is None
    with pytest.raises(KeyError), told(0, 600, lambda: "step 3"):
        raise KeyError("loss/total")


@pytest.mark.parametrize(
    ("late", "sentence"),
    [
        (True, "worker 0 waited 2 s (workers.timeout) for the others and gave up during validation after step 8"),
        (False, "worker 0 lost the line to another worker during validation after step 8"),
    ],
)
def test_who_waits_in_vain_says_what_for(late: bool, sentence: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    said = spawn.Queue()
    workers = [spawn.Process(target=meet, args=(rank, port, late, said), daemon=True) for rank in range(2)]
    for worker in workers:
        worker.start()
    assert said.get(timeout=300) == sentence
    for worker in workers:
        worker.kill()
        worker.join()


@pytest.mark.cluster
def test_a_full_disk_ends_a_run_once_in_a_sentence(tmp_path: Path) -> None:
    """The folder of runs is a file system of 200 kB, in a mount namespace of its own."""
    from tiny_training import TINY_RUN, tiny_store

    store = tiny_store(tmp_path / "store")
    (tmp_path / "runs").mkdir()
    words = [sys.executable, str(TRAIN), "--store", str(store.path), "--runs", "runs", "--name", "first", *TINY_RUN]
    mount = 'mount -t tmpfs -o size=200k none runs && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    *progress, sentence = done.stderr.splitlines()
    assert all(line.startswith("first: ") for line in progress)
    assert not any("going on" in line for line in progress)
    assert sentence.startswith("error: ")
    assert "No space left on device" in sentence or "disk is full" in sentence
