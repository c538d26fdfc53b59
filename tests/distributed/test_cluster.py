"""A real cluster of two hosts, each a network namespace of this machine: up, submit, follow, down, and nothing left.

Needs root and the programs that `network_hosts` names; where they are missing conftest.py leaves these tests out. The
cluster is started once for all tests of this file that use it, and the last of them stops it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from network_hosts import INTERFACE, REPOSITORY, Host, Network, links, namespaces, network_of
from tiny_training import tiny_store

from data_pipeline.errors import UserError
from data_pipeline.store.store import Store
from distributed.run_folder.checkpoint import best_checkpoint, load_checkpoint
from distributed.submit import package_excludes

ENVIRONMENT = Path(sys.prefix).resolve() / "bin"
CLUSTER = (REPOSITORY / "cluster.yaml").read_text()
EDIT = re.compile(r"^(?P<setting>.*?)(?P<rest>\s+# EDIT\b.*)$")

TRAINING = [
    *("python", "distributed/train.py", "--test-line", "sim4", "--valid-line", "sim3", "--workers", "2"),
    *("workers.placement=STRICT_SPREAD", "engine.zero_stage=2", "train.max_steps=6", "fold.block=1000000"),
    *("episodes.support=8", "episodes.query=16", "model.trunk.size=tiny", "scoring.support_draws=2"),
]
"""A training on two hosts of the store of `tiny_store`; it takes `--store`, `--runs` and `--name` besides."""


def edited(text: str, values: dict[str, tuple[str, str]]) -> str:
    """`text` with the value of each setting replaced on its marked line; exactly the marked lines must be named."""
    lines, left = [], dict(values)
    for line in text.splitlines():
        if match := EDIT.match(line):
            setting = next(name for name in left if name in match["setting"])
            old, new = left.pop(setting)
            assert old in match["setting"]
            line = match["setting"].replace(old, new) + match["rest"]
        lines.append(line)
    assert not left, f"no marked line for {sorted(left)}"
    return "\n".join([*lines, ""])


def unmarked(text: str) -> list[str]:
    return [line for line in text.splitlines() if not EDIT.match(line)]


@dataclass(frozen=True)
class Training:
    """A training that was run as a job."""

    run: Path
    """Its folder."""
    store: Store


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up, and the machine it is commanded from."""

    network: Network
    client: Path
    """Home folder of the commanding user."""

    @property
    def address(self) -> str:
        return f"http://{self.network.hosts[0].address}:8265"

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=environment(self.client), cwd=self.client, capture_output=True, text=True)

    def submit(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(*submit_command(), "--address", self.address, *arguments)

    def ray_status(self) -> str:
        return self.run(ENVIRONMENT / "ray", "exec", "cluster.yaml", "ray status").stdout

    def ray_processes(self) -> list[str]:
        lines = [line for host in self.network.hosts for line in host.processes().values()]
        return [line for line in lines if "sshd" not in line and "unshare" not in line]


def submit_command() -> list[str]:
    return [sys.executable, str(REPOSITORY / "distributed" / "submit.py")]


def environment(home: Path) -> dict[str, str]:
    ray = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(home), "TMPDIR": str(home)}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return kept | ray | {"HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1"}


def succeed(done: subprocess.CompletedProcess[str]) -> str:
    """The standard output of a command that must have succeeded."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ranks_on(host: Host) -> list[int]:
    """Ranks of the training workers that ran on `host`, from the logs in its own /tmp."""
    logs = (host.folder / "tmp" / "ray").glob("session_*/logs/train/ray-train-sys-worker-*.log")
    return sorted({int(rank) for log in logs for rank in re.findall(r"\[rank=(\d+), world_size=2\]", log.read_text())})


def eventually(seconds: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return held


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with network_of(2) as network:
        client = network.shared.parent / "client"
        client.mkdir()
        head, worker = network.hosts
        values = {
            "head_ip": ("192.168.1.10", head.address),
            "worker_ips": ("[192.168.1.11, 192.168.1.12]", f"[{worker.address}]"),
            "ssh_user": ("ubuntu", network.user),
            "ssh_private_key": ("~/.ssh/id_ed25519", str(network.key)),
            "PATH": ("/opt/prism-epi/bin", str(ENVIRONMENT)),
            "NODE_INTERFACE": ("eth0", INTERFACE),
        }
        mine = edited(CLUSTER, values)
        assert unmarked(mine) == unmarked(CLUSTER)
        (client / "cluster.yaml").write_text(mine)
        running = Cluster(network, client)
        succeed(running.run(ENVIRONMENT / "ray", "get-auth-token", "--generate"))
        succeed(running.run(ENVIRONMENT / "ray", "up", "--yes", "--no-config-cache", "cluster.yaml"))
        # `ray up` ends when the head is up; the head starts the worker after that.
        assert eventually(180, lambda: "2 local.cluster.node" in running.ray_status())
        yield running
    assert namespaces() == []
    assert links() == []


@pytest.fixture(scope="module")
def training(cluster: Cluster) -> Training:
    shared = cluster.network.shared
    store = tiny_store(shared / "store")
    paths = ["--store", f"{shared}/store", "--runs", f"{shared}/runs", "--name", "first"]
    succeed(cluster.submit("--name", "training", "--", *TRAINING, *paths))
    return Training(shared / "runs" / "first", store)


def test_every_value_of_a_site_in_cluster_yaml_is_on_a_marked_line() -> None:
    site = re.compile(r"\d+\.\d+\.\d+\.\d+|ubuntu|id_ed25519|/opt/|eth0")
    settings = [line for line in unmarked(CLUSTER) if not line.lstrip().startswith("#")]
    assert [line for line in settings if site.search(line)] == []
    assert len(CLUSTER.splitlines()) - len(unmarked(CLUSTER)) == 6


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "no command given"),
        (("--", "python", "distributed/nothing.py"), "'distributed/nothing.py' is not among the code that travels"),
        (
            ("--", "python", "tests/distributed/test_cluster.py"),
            "'tests/distributed/test_cluster.py' is not among the code that travels",
        ),
        (("--token", "nowhere", "--", "sleep", "1"), "token file nowhere does not exist"),
        (("--logs", "one", "--stop", "one"), "give one thing to do"),
        (("--", "sleep", "1"), "no Ray cluster answers at http://127.0.0.1:9"),
        (("--name", "a/b", "--", "sleep", "1"), "letters, digits"),
    ],
)
def test_mistake_in_a_submission_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    call = [*submit_command(), "--address", "http://127.0.0.1:9", *arguments]
    done = subprocess.run(call, env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert sentence in done.stderr


def test_package_holds_code_only_and_refuses_data_among_it(tmp_path: Path) -> None:
    for folder in ("model", "stores", "!odd"):
        (tmp_path / folder).mkdir()
    assert package_excludes(tmp_path) == ["/\\!odd", "/stores", "__pycache__"]
    with (tmp_path / "model" / "signals.arrow").open("wb") as large:
        large.truncate(2**30)
    with pytest.raises(UserError, match=r"more than 100 MiB.*first model/signals\.arrow"):
        package_excludes(tmp_path)


@pytest.mark.cluster
def test_hosts_of_a_killed_run_are_removed_by_the_next() -> None:
    killed = "import os, network_hosts as hosts\nwith hosts.network_of(1): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", killed], cwd=Path(__file__).parents[1] / "fixtures").returncode == 9
    assert namespaces()
    with network_of(1) as network:
        assert namespaces() == [network.hosts[0].name]
    assert (namespaces(), links()) == ([], [])


@pytest.mark.cluster
def test_two_workers_train_on_two_hosts_with_the_code_that_was_sent(cluster: Cluster, training: Training) -> None:
    assert sorted(ranks_on(host) for host in cluster.network.hosts) == [[0], [1]]
    _, moments, state = load_checkpoint(best_checkpoint(training.run))
    assert (state.step, state.finished, bool(moments)) == (6, True, True)
    assert state.identity.store == training.store.checksum


@pytest.mark.cluster
def test_job_name_is_an_identity(cluster: Cluster, training: Training) -> None:
    again = cluster.submit("--name", "training", "--", "sleep", "1")
    assert again.returncode == 2
    assert "a job named 'training' was already sent to this cluster" in again.stderr


@pytest.mark.cluster
def test_run_trained_on_the_cluster_is_evaluated_where_the_shared_folder_is(
    cluster: Cluster, training: Training
) -> None:
    succeed(cluster.run(sys.executable, REPOSITORY / "distributed" / "evaluate.py", "--run", training.run))
    assert "sim4" in (training.run / "report" / "report.html").read_text()


@pytest.mark.cluster
def test_failed_job_fails_the_call_and_names_the_wrong_interface(cluster: Cluster) -> None:
    gloo = "import torch.distributed as d; d.init_process_group('gloo', 'tcp://127.0.0.1:9009', rank=0, world_size=1)"
    done = cluster.submit("--name", "wrong", "--interface", "nosuch0", "--", "python", "-c", gloo)
    assert done.returncode == 1
    assert "Unable to find address for: nosuch0" in done.stdout
    assert "hint: a host has no interface of the name given" in done.stderr


@pytest.mark.cluster
def test_interrupt_detaches_from_a_job_that_goes_on_until_it_is_stopped(cluster: Cluster) -> None:
    # A shell that runs these tests in the background lets them ignore the interrupt, and so would the program.
    program = ["env", "--default-signal=INT", *submit_command()]
    call = [*program, "--address", cluster.address, "--name", "long", "--", "sleep", "600"]
    with subprocess.Popen(
        call, env=environment(cluster.client), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any("Running entrypoint" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "detached; job 'long' goes on" in said
    assert succeed(cluster.submit("--status", "long")) == "RUNNING\n"
    succeed(cluster.submit("--stop", "long"))
    followed = cluster.submit("--logs", "long")
    assert (followed.returncode, "job 'long': STOPPED" in followed.stderr) == (1, True)


@pytest.mark.cluster
def test_cluster_refuses_a_wrong_token_a_missing_token_and_an_unknown_job(cluster: Cluster) -> None:
    wrong = cluster.client / "wrong_token"
    wrong.write_text("0" * 64)
    refused = cluster.submit("--token", str(wrong), "--status", "training")
    assert (refused.returncode, "refuses the token" in refused.stderr) == (2, True)
    call = [*submit_command(), "--address", cluster.address, "--status", "training"]
    elsewhere = environment(cluster.network.shared)
    missing = subprocess.run(call, env=elsewhere, capture_output=True, text=True)
    assert (missing.returncode, "asks for a token and none was found" in missing.stderr) == (2, True)
    unknown = cluster.submit("--logs", "nothing")
    assert (unknown.returncode, "has no job named 'nothing'" in unknown.stderr) == (2, True)


@pytest.mark.cluster
def test_ray_down_leaves_no_process_on_any_host(cluster: Cluster) -> None:
    assert any("raylet" in line for line in cluster.ray_processes())
    succeed(cluster.run(ENVIRONMENT / "ray", "down", "--yes", "cluster.yaml"))
    eventually(120, lambda: not cluster.ray_processes())
    assert cluster.ray_processes() == []
