"""A Ray of this run's own on this machine: nobody else can reach it, and nothing that other Rays left decides about it.

- Every port listens on loopback. Ray takes the host's address unless its switch for desktop systems says otherwise.
- Every call must present a token that is made for this process, handed on in the environment and written nowhere.
- Sockets and logs lie in a folder that only this user can enter, short enough for the paths of sockets.
- Variables that lead Ray, torch or DeepSpeed to another cluster, another version of Ray Train or the ranks of an MPI
  launcher are taken out of this process' environment, and so out of all that it starts.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import secrets
import socket
import stat
import tempfile
import warnings
from pathlib import Path

import psutil

from data_pipeline.errors import UserError

ADDRESS = "127.0.0.1"
"""The address of a local Ray's node."""

ATTEMPTS = 3
"""Times to try: Ray gives its own processes 15 to 30 seconds to start, which a busy machine may not keep."""
LATE = "timed out during startup"
"""What it says then."""

LONGEST_FOLDER = 107 - len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1")
"""Bytes that the name of Ray's folder may have: the path of a Unix socket in it has 107 at most."""

KEPT_OF_RAY = ("RAY_TMPDIR", "RAY_USAGE_STATS_ENABLED", "RAY_BACKEND_LOG_LEVEL", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO")
"""Variables of Ray in capitals that a Ray of one's own may see; those in small letters tune it and are kept as well."""

RANKS = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "NODE_RANK",
    "GROUP_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
)
"""What launchers tell the processes they start; Ray Train tells its workers itself."""

LAUNCHERS = ("OMPI_", "PMI_", "PMIX_", "MV2_", "MPI_", "TORCHELASTIC_", "AZUREML_", "SM_TRAINING_ENV", "DLTS_")
"""Starts of the names that DeepSpeed and MPI launchers use for it."""


def start(cpus: int, gpus: int | None = None) -> None:
    """Start Ray with `cpus` logical CPUs and connect to it; `gpus` None: as many as this machine has.

    Raises `UserError` where no folder will do, or where Ray does not come up.
    """
    forget_launchers()
    _forget_other_rays()
    folder = ray_folder()
    # Before Ray is imported, which reads some of these once.
    os.environ |= {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # or `uv run` would pack the whole folder, stores and runs, for workers
        "RAY_AUTH_TOKEN": _token(),
        "GLOO_SOCKET_IFNAME": loopback_interface(),
        "NCCL_SOCKET_IFNAME": loopback_interface(),
    }
    import ray
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = (
        False  # where Ray was imported before; tests/distributed/test_local_ray.py holds it to this
    )
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    for attempt in range(1, ATTEMPTS + 1):
        before = set(psutil.Process().children())
        try:
            ray.init(
                address="local",
                num_cpus=cpus,
                num_gpus=gpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
                _node_ip_address=ADDRESS,
                _temp_dir=str(folder),
            )
            return
        except Exception as error:  # of whatever kind: a node that is late is an `Exception`
            if LATE not in str(error) or attempt == ATTEMPTS:
                raise UserError(
                    f"Ray cannot be started on this machine ({first_line(error)}); if it is busy, start again when it "
                    f"is less so, else see the logs in {folder}/session_latest/logs"
                ) from error
        _end(set(psutil.Process().children()) - before)


def _end(left: set[psutil.Process]) -> None:
    """Kill what an attempt that failed has started."""
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Python does not see that they have ended
        gc.collect()


def forget_launchers(ranks: bool = True) -> None:
    """Take what MPI and other launchers said out of the environment; `ranks` False leaves what Ray Train has said."""
    for name in [name for name in os.environ if name.startswith(LAUNCHERS) or (ranks and name in RANKS)]:
        del os.environ[name]


def _forget_other_rays() -> None:
    for name in [name for name in os.environ if name.startswith("RAY_") and name.isupper()]:
        if name not in KEPT_OF_RAY:
            del os.environ[name]


_made_token: list[str] = []


def _token() -> str:
    """One token per process, because Ray reads it once."""
    if not _made_token:
        _made_token.append(secrets.token_hex(32))
    return _made_token[0]


def loopback_interface() -> str:
    """Name of the interface that only this machine reaches, `lo` on Linux."""
    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")


def ray_folder() -> Path:
    """Where Ray keeps sockets and logs: `ray-UID/ray` in RAY_TMPDIR, the folder for temporary files, or /tmp.

    The first of them whose name is short enough and that can be written. `ray-UID` is made private; what is in it Ray
    opens to everyone. Raises `UserError`.
    """
    name = f"ray-{os.getuid()}"
    tried = [os.environ.get("RAY_TMPDIR"), os.environ.get("TMPDIR"), "/tmp", "/var/tmp", "/dev/shm"]
    for parent in dict.fromkeys(Path(folder).absolute() for folder in tried if folder):
        folder = parent / name / "ray"
        if len(os.fsencode(folder)) <= LONGEST_FOLDER and _is_private(folder.parent):
            return folder
    raise UserError(
        "Ray finds no folder for its sockets: none of RAY_TMPDIR, TMPDIR, /tmp, /var/tmp and /dev/shm can be written "
        f"and has a name of at most {LONGEST_FOLDER - len(f'/{name}/ray')} bytes; set RAY_TMPDIR to one"
    )


def _is_private(folder: Path) -> bool:
    """Make `folder`, or close it to others; False where that cannot be done, for example because it is not ours."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            return False
        folder.chmod(0o700)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def first_line(error: BaseException) -> str:
    """The first line of what `error` says, or its kind."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
