"""The watch of cluster.yaml on each worker: a head that is away for a moment ends nothing, one that stays away does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

HEAD = "127.0.0.3"
CLUSTER = yaml.safe_load((Path(__file__).resolve().parents[2] / "cluster.yaml").read_text())
ENDS_THE_LAST, WATCH = CLUSTER["worker_start_ray_commands"][-2:]
GRACE = 8
"""Seconds in place of the minute."""


@contextmanager
def head() -> Iterator[None]:
    """Somebody who answers where the head's Ray would."""
    with socket.create_server((HEAD, 6379)):
        yield


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Path]:
    """Starts the watch as `ray up` does, with a `ray` that writes down that it was called."""
    calls = tmp_path / "calls"
    ray = tmp_path / "bin/ray"
    ray.parent.mkdir()
    ray.write_text(f"#!/bin/sh\necho $* >> {calls}\n")
    ray.chmod(0o755)
    environment = os.environ | {"PATH": f"{ray.parent}:{os.environ['PATH']}", "RAY_HEAD_IP": HEAD}
    assert "-lt 60 " in WATCH
    for command in (ENDS_THE_LAST, WATCH.replace("-lt 60 ", f"-lt {GRACE} ")):
        subprocess.run(["bash", "-c", command], env=environment, check=True)
    yield calls
    for watch in watches():
        os.kill(watch, signal.SIGKILL)


def watches() -> list[int]:
    running = psutil.process_iter(["pid", "cmdline"])
    return [own.info["pid"] for own in running if "prism-epi-watch" in (own.info["cmdline"] or [])]


def waited(seconds: float, calls: Path) -> bool:
    """Whether `ray` was called within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not calls.exists():
        time.sleep(0.2)
    return calls.exists()


@pytest.mark.cluster
def test_a_short_outage_ends_nothing_and_a_long_one_stops_ray_once(stopped: Path) -> None:
    with head():
        assert not waited(GRACE + 4, stopped)
    assert not waited(GRACE / 2 - 2, stopped)
    with head():
        assert not waited(GRACE, stopped)
    assert waited(10 * GRACE, stopped)
    assert stopped.read_text(encoding="utf-8") == "stop\n"


@pytest.mark.cluster
def test_there_is_one_watch_per_host(stopped: Path) -> None:
    before = watches()
    assert len(before) == 1
    environment = os.environ | {"RAY_HEAD_IP": HEAD}
    for command in (ENDS_THE_LAST, WATCH):
        subprocess.run(["bash", "-c", command], env=environment, check=True)
    assert len(watches()) == 1
    assert watches() != before
