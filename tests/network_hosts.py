"""Several hosts on one machine: network namespaces on a bridge, each with its own SSH server, processes, /tmp and home.

A host here differs from a real one only in sharing the kernel and the rest of the file system: it has its own address,
interface, host name, process table, `/dev/shm`, `/run`, `/tmp` and home folder, and the repository is hidden from it,
so that project code reaches it only through a job. Guarantees: everything made here carries `PREFIX` in its name, is
removed when the `with` block ends however it ends, and what a killed run left is removed by the next one; two runs on
one machine wait for each other. Needs root, and costs about a second to make and to remove.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

PREFIX = "prismtest"
"""Start of the name of every namespace, link and folder made here."""

INTERFACE = "cluster0"
"""The interface that holds a host's address; not the usual eth0, so that a setting that names it is put to the test."""

SUBNET = "198.51.100"
"""TEST-NET-2 of RFC 5737, which no real network uses."""

BRIDGE = f"{PREFIX}br"
BRIDGE_ADDRESS = f"{SUBNET}.1"
REPOSITORY = Path(__file__).resolve().parents[1]
WAIT_S = 20.0
"""Longest wait for an SSH server to answer or for processes to be gone."""

_TOOLS = {
    "ip": "iproute2",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "rsync": "rsync",
    "unshare": "util-linux",
    "mount": "mount",
}


class HostsUnavailableError(Exception):
    """This machine cannot make test hosts; the message says what is missing and how to get it."""


@dataclass(frozen=True)
class Host:
    """One running host."""

    name: str
    """Host name and namespace name."""
    address: str
    """IPv4 address on the bridge."""
    folder: Path
    """Folder of this host's private files, seen from outside: `tmp/`, `home/` and `sshd.log`."""

    @property
    def home(self) -> Path:
        """The host's home folder, seen from outside."""
        return self.folder / "home"

    def processes(self) -> dict[int, str]:
        """Process number (as seen from outside) and command line of each process of this host."""
        listed = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True)
        lines = {int(pid): _command_line(int(pid)) for pid in listed.stdout.split()}
        return {pid: line for pid, line in lines.items() if line}


@dataclass(frozen=True)
class Network:
    """The hosts and what is needed to reach them."""

    hosts: tuple[Host, ...]
    user: str
    """Account to log in with."""
    key: Path
    """Private SSH key that every host accepts."""
    shared: Path
    """A folder that is at the same path, with the same content, outside and on every host."""


@contextmanager
def network_of(count: int) -> Iterator[Network]:
    """Run `count` hosts for the length of the `with` block.

    Raises `HostsUnavailableError` where root rights, a tool or a free address range is missing.
    """
    if missing := what_is_missing():
        raise HostsUnavailableError(f"test hosts cannot be made: {missing}")
    with ExitStack() as stack:
        stack.enter_context(_alone_on_this_machine())
        remove_leftovers()
        _require_free_subnet()
        processes: list[subprocess.Popen[bytes]] = []
        stack.callback(lambda: [process.wait() for process in processes])
        stack.callback(remove_leftovers)
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}-", dir="/tmp")).resolve()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        shared = folder / "shared"
        shared.mkdir()
        key = folder / "key"
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
        _make_bridge()
        hosts = tuple(_host(folder, number) for number in range(1, count + 1))
        for host in hosts:
            _write_files(host, hosts, key)
            processes.append(_start(host, _boot_script(host, [shared, key.with_suffix(".pub")])))
        for host in hosts:
            _wait_for_ssh(host)
        yield Network(hosts, pwd.getpwuid(os.geteuid()).pw_name, key, shared)


def remove_leftovers() -> None:
    """End every process, namespace, link and folder whose name starts with `PREFIX`."""
    for namespace in namespaces():
        deadline = time.monotonic() + WAIT_S
        while pids := _run("ip", "netns", "pids", namespace).split():
            for pid in pids:
                _kill(int(pid))
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes {pids} of namespace {namespace} do not end")
            time.sleep(0.05)
        _run("ip", "netns", "del", namespace)
    for link in links():
        # The outer end of a host's pair may vanish with its namespace between listing and removal.
        subprocess.run(["ip", "link", "del", link], capture_output=True)
    for folder in Path("/tmp").glob(f"{PREFIX}-*"):
        shutil.rmtree(folder, ignore_errors=True)


def namespaces() -> list[str]:
    """Names of the namespaces made here that exist now."""
    listed = [line.split()[0] for line in _run("ip", "netns", "list").splitlines() if line.strip()]
    return [name for name in listed if name.startswith(PREFIX)]


def links() -> list[str]:
    """Names of the links made here that exist now."""
    listed = [line.split(":")[1].split("@")[0].strip() for line in _run("ip", "-oneline", "link").splitlines()]
    return [name for name in listed if name.startswith(PREFIX)]


def what_is_missing() -> str:
    """What this machine lacks for test hosts, and what to do about it; empty where nothing is missing."""
    packages = sorted({package for tool, package in _TOOLS.items() if _tool(tool) is None})
    if packages:
        return f"they need programs that are not installed: run `apt-get install {' '.join(packages)}`"
    if os.geteuid() != 0:
        return "they make network namespaces and need root: be root"
    if subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True).returncode:
        return "they make network namespaces, which this machine forbids even to root: use one that is no container"
    return ""


def _require_free_subnet() -> None:
    taken = _run("ip", "-4", "route", "show", "root", f"{SUBNET}.0/24").strip()
    if taken:
        raise HostsUnavailableError(
            f"the cluster test uses {SUBNET}.0/24, which this machine already routes ({taken.splitlines()[0].strip()})"
        )


@contextmanager
def _alone_on_this_machine() -> Iterator[None]:
    """Hold a lock that the kernel releases however this process ends."""
    with Path(f"/run/lock/{PREFIX}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_bridge() -> None:
    _run("ip", "link", "add", BRIDGE, "type", "bridge")
    _run("ip", "address", "add", f"{BRIDGE_ADDRESS}/24", "dev", BRIDGE)
    _run("ip", "link", "set", BRIDGE, "up")


def _host(folder: Path, number: int) -> Host:
    return Host(f"{PREFIX}{number}", f"{SUBNET}.{10 + number}", folder / str(number))


def _start(host: Host, boot_script: str) -> subprocess.Popen[bytes]:
    inside = ["ip", "-n", host.name]
    _run("ip", "netns", "add", host.name)
    _run("ip", "link", "add", host.name, "type", "veth", "peer", "name", INTERFACE, "netns", host.name)
    _run("ip", "link", "set", host.name, "master", BRIDGE, "up")
    _run(*inside, "address", "add", f"{host.address}/24", "dev", INTERFACE)
    _run(*inside, "link", "set", "lo", "up")
    _run(*inside, "link", "set", INTERFACE, "up")
    # Ray finds its own address by asking for the route to a public one, so there must be a default route.
    _run(*inside, "route", "add", "default", "via", BRIDGE_ADDRESS)
    script = host.folder / "boot.sh"
    script.write_text(boot_script)
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--mount-proc"]
    with (host.folder / "sshd.log").open("w") as log:
        return subprocess.Popen(
            ["ip", "netns", "exec", host.name, *unshare, "bash", "-eu", str(script)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _write_files(host: Host, hosts: Sequence[Host], key: Path) -> None:
    for name in ("tmp", "home", "empty"):
        (host.folder / name).mkdir(parents=True)
    (host.folder / "tmp").chmod(0o1777)
    (host.home / ".bashrc").touch()
    # As Debian's installer writes it: the own name leads to loopback, which is why gloo must be told the interface.
    others = "".join(f"{other.address} {other.name}\n" for other in hosts if other != host)
    (host.folder / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n{others}")
    # No name server: the machine's own cannot be reached from here, and every question would wait for ten seconds.
    (host.folder / "resolv.conf").touch()
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(host.folder / "host_key"))
    options = {
        "ListenAddress": host.address,
        "HostKey": host.folder / "host_key",
        "AuthorizedKeysFile": key.with_suffix(".pub"),
        "StrictModes": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "PidFile": "none",
    }
    (host.folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in options.items()))


def _boot_script(host: Host, visible: Sequence[Path]) -> str:
    """Mounts that make the host's files its own, then its SSH server as process 1 of its process table."""
    home = Path(pwd.getpwuid(os.geteuid()).pw_dir).resolve()
    private = {Path("/tmp"): host.folder / "tmp", home: host.home}
    if not any(REPOSITORY.is_relative_to(place) for place in private):
        private[REPOSITORY] = host.folder / "empty"
    # sshd reads its files by their outside path, which the private /tmp would hide.
    kept = {path.resolve() for path in (Path(sys.prefix), Path(sys.base_prefix), host.folder, *visible)}
    lines = [f"hostname {host.name}"]
    lines += [f"mount --bind {host.folder}/{name} /etc/{name}" for name in ("hosts", "resolv.conf")]
    for place, own in private.items():
        for path in sorted(path for path in kept if path.is_relative_to(place)):
            target = own / path.relative_to(place)
            make = f"mkdir -p {target}" if path.is_dir() else f"mkdir -p {target.parent} && touch {target}"
            lines += [make, f"mount --rbind {path} {target}"]
    # /tmp last: it covers the folders that the others are mounted from.
    lines += [f"mount --rbind {own} {place}" for place, own in reversed(private.items())]
    lines += ["mount -t tmpfs tmpfs /dev/shm", "mount -t tmpfs tmpfs /run", "mkdir /run/sshd"]
    return "\n".join([*lines, f"exec {_tool('sshd')} -D -e -f {host.folder}/sshd_config", ""])


def _wait_for_ssh(host: Host) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            socket.create_connection((host.address, 22), timeout=1).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"host {host.name}: {(host.folder / 'sshd.log').read_text()}") from error
            time.sleep(0.05)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").replace("\0", " ").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _tool(name: str) -> str | None:
    # Root's PATH may lack the system folders, for example under cron or in a login shell of another user.
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"`{shlex.join(command)}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
