"""A run on this machine: what lies in the environment decides nothing, nobody else gets in, Ctrl-C says the way on.

One real run of the command in an environment full of what other Rays and launchers leave behind; the rest asks for
connections that cannot be made.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from tiny_training import TINY_RUN, tiny_store

from data_pipeline.errors import UserError
from distributed.cluster import join_ray
from distributed.local_ray import LONGEST_FOLDER, ray_folder
from distributed.run_folder.records import STEPS, read_records
from distributed.run_folder.runs import read_record

TRAIN = Path(__file__).resolve().parents[2] / "distributed/train.py"
PATIENCE = 420
"""Seconds to wait for a run's steps before giving up on it."""
LEFT_BEHIND = {
    "RAY_TRAIN_V2_ENABLED": "0",
    "RAY_NAMESPACE": "another",
    "RAY_AUTH_MODE": "disabled",
    "RAY_REDIS_ADDRESS": "127.0.0.1:1",
    "RAY_RUNTIME_ENV_HOOK": "nowhere.hook",
    "OMPI_COMM_WORLD_LOCAL_RANK": "3",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "4",
    "PMI_RANK": "3",
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "3",
    "MASTER_ADDR": "192.0.2.1",
    "MASTER_PORT": "1",
}
"""What a cluster, a launcher and an older Ray may have left in a shell."""


@dataclass(frozen=True)
class Live:
    """A training with two workers that has taken steps."""

    process: psutil.Popen
    run: Path
    log: Path

    def tree(self) -> list[psutil.Process]:
        return [psutil.Process(self.process.pid), *self.process.children(recursive=True)]


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        store = tiny_store(folder / "store")
        deep = folder / ("deep" * 20)
        (deep / "ray").mkdir(parents=True)
        (deep / "ray/ray_current_cluster").write_text("192.0.2.1:6399")
        # A shell that runs these tests in the background lets them ignore the interrupt, and so would the run.
        words = [
            *("env", "--default-signal=INT"),
            sys.executable,
            str(TRAIN),
            "--store",
            str(store.path),
            "--runs",
            str(folder / "a b"),
            "--workers",
            "2",
        ]
        words += ["--name", "live", *TINY_RUN, "train.epochs=1000", "train.patience=0", "episodes.steps_per_epoch=8"]
        environment = os.environ | LEFT_BEHIND | {"TMPDIR": str(deep), "HOME": str(folder)}
        environment.pop("RAY_TMPDIR", None)
        log = folder / "log"
        with log.open("w") as sink:
            process = psutil.Popen(words, env=environment, stdout=sink, stderr=sink, cwd=folder)
        live = Live(process, folder / "a b/live", log)
        try:
            deadline = time.monotonic() + PATIENCE
            while len(read_records(live.run / STEPS)) < 2:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield live
        finally:
            if process.poll() is None:
                left = live.tree()
                for one in left:
                    one.kill()
            process.wait()


def test_every_socket_of_a_live_run_listens_on_loopback_only(live: Live) -> None:
    listening = [
        (process.name(), connection.laddr.ip)
        for process in live.tree()
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 8
    assert {ip.removeprefix("::ffff:") for _, ip in listening} == {"127.0.0.1"}


def test_a_live_run_has_a_token_of_its_own_and_refuses_who_has_another(live: Live) -> None:
    (head,) = (process for process in live.tree() if process.name() == "gcs_server")
    token = head.environ()["RAY_AUTH_TOKEN"]
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert not any(token in " ".join(process.cmdline()) for process in live.tree())
    (port,) = {one.laddr.port for one in head.net_connections(kind="inet") if one.status == psutil.CONN_LISTEN}
    asks = f"from ray._raylet import GcsClient; GcsClient(address='127.0.0.1:{port}'); print('in')"
    for given, gets_in in (({"RAY_AUTH_TOKEN": "0" * 64}, False), ({"RAY_AUTH_TOKEN": token}, True)):
        environment = os.environ | given | {"RAY_AUTH_MODE": "token"}
        asked = subprocess.run(
            [sys.executable, "-c", asks], env=environment, capture_output=True, text=True, check=False
        )
        assert (asked.stdout == "in\n") is gets_in, asked.stderr


def test_only_the_user_can_enter_the_folder_of_sockets(live: Live) -> None:
    (raylet,) = (process for process in live.tree() if process.name() == "raylet")
    (socket_name,) = (word for word in raylet.cmdline() if word.startswith("--raylet_socket_name="))
    folder = Path(socket_name.partition("=")[2]).parents[3]
    assert folder.stat().st_uid == os.getuid()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not (live.run.parents[1] / ".ray").exists()


def test_the_device_is_said_and_recorded(live: Live) -> None:
    device = read_record(live.run).device
    assert device in ("cpu", "cuda")
    assert f"live: 2 workers on {device}\n" in live.log.read_text()


def test_ctrl_c_says_the_command_that_goes_on(live: Live) -> None:
    live.process.send_signal(signal.SIGINT)
    assert live.process.wait(timeout=PATIENCE) == 130, live.log.read_text()
    log = live.log.read_text()
    assert "Traceback" not in log
    *_, before, command = log.strip().splitlines()
    assert before == f"interrupted: what run {live.run} has saved is whole; continue with"
    words = shlex.split(command)
    assert words[:2] == ["python", str(TRAIN)]
    assert str(live.run.parent) in words
    assert words[-1] == "--resume"


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("127.0.0.1:1", "no Ray answers at 127.0.0.1:1, where RAY_ADDRESS says it is (Connection refused); start that"),
        ("nowhere.invalid:6379", "no Ray answers at nowhere.invalid:6379, where RAY_ADDRESS says it is ("),
        (
            "somehost",
            "RAY_ADDRESS=somehost is not the HOST:PORT of a Ray head, for example 192.168.1.10:6379; start that",
        ),
        ("ray://head:10001", "RAY_ADDRESS=ray://head:10001 is not the HOST:PORT of a Ray head"),
        ("127.0.0.1:99999999", "no Ray answers at 127.0.0.1:99999999, where RAY_ADDRESS says it is ("),
    ],
)
def test_an_address_where_no_ray_is_is_named(monkeypatch: pytest.MonkeyPatch, address: str, sentence: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError) as refused:
        join_ray(1)
    assert str(refused.value).startswith(sentence)


def test_a_port_that_is_silent_or_not_of_ray_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(
            UserError, match=rf"no Ray answers at {address}, where RAY_ADDRESS says it is \(timed out\)"
        ):
            join_ray(1)
    words = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "0"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as web:
        deadline = time.monotonic() + 60
        while not (ports := [one.laddr.port for one in psutil.Process(web.pid).net_connections("inet")]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{ports[0]}")
        with pytest.raises(UserError, match=rf"what answers at 127.0.0.1:{ports[0]}, where .* is not a Ray head"):
            join_ray(1)
        web.kill()


def test_ray_auto_where_nothing_was_started_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(UserError, match="RAY_ADDRESS=auto, and no `ray start` has left an address here; unset it"):
        join_ray(1)


def test_a_folder_too_long_for_sockets_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    monkeypatch.setenv("TMPDIR", str(long))
    assert len(str(ray_folder())) <= LONGEST_FOLDER
    assert list(long.iterdir()) == []


def test_a_folder_that_is_not_ours_alone_is_closed_or_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        own = Path(folder) / f"ray-{os.getuid()}"
        own.mkdir(mode=0o777)
        assert ray_folder() == own / "ray"
        assert own.stat().st_mode & 0o777 == 0o700
        own.rmdir()
        own.symlink_to("/tmp")
        assert own not in ray_folder().parents
