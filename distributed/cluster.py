"""Joining or starting Ray, and asking it for no more than it has.

A run on this machine starts a Ray of its own (local_ray.py) unless RAY_ADDRESS says where one is, as it does inside a
submitted job. The local one has a few logical CPUs more than there are cores: Ray Data's read tasks must fit beside
workers that reserve every core, or everything waits for ever.
What workers print stays in Ray's log folder; a run's terminal shows its progress and its errors only.
"""

from __future__ import annotations

import datetime
import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Literal

from data_pipeline.errors import UserError
from distributed.local_ray import ADDRESS, first_line
from distributed.local_ray import start as start_local_ray
from distributed.settings import RunSettings

JOINING_SECONDS = 60.0
"""How long a job waits for the hosts of a cluster that has just come up, and for what it needs to be free."""
SETTLING_SECONDS = 20.0
"""The same on this machine, where an earlier run of the process may still be ending."""
ANSWER_SECONDS = 10.0
"""How long the Ray at RAY_ADDRESS may take to answer."""

SPARE_CPUS = 1
"""CPUs kept free for drivers and controllers."""

Device = Literal["cpu", "cuda"]


def needed_cpus(settings: RunSettings) -> float:
    """CPUs one run reserves: its workers, their read tasks, and a spare."""
    per_worker = settings.workers.cpus + settings.stream.tasks * settings.stream.cpus_per_task
    return settings.workers.count * per_worker + SPARE_CPUS


def join_ray(cpus: float, gpus: int | None = None) -> None:
    """Connect to the Ray that RAY_ADDRESS names, or start a local one that has at least `cpus` logical CPUs.

    `gpus`: logical GPUs of a local one, None: as many as there are. Raises `UserError` for a Ray that does not answer.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if "ray" in sys.modules:
        import ray

        if ray.is_initialized():
            return
    if address in ("", "local"):
        start_local_ray(max(len(os.sched_getaffinity(0)), int(cpus + 0.999)), gpus)
    else:
        _connect(address)
    _require_train_v2()


def _connect(address: str) -> None:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray
    from ray.exceptions import AuthenticationError

    found = _current_cluster() if address == "auto" else address
    _require_answer(found)
    try:
        ray.init(address=found, log_to_driver=False, logging_level=logging.WARNING)
    except AuthenticationError as error:
        raise UserError(
            f"the Ray at {found} (RAY_ADDRESS) refuses this process' token: set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN_PATH to a copy of the cluster's token file, or send the command with distributed/submit.py"
        ) from error
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UserError(
            f"cannot join the Ray at {found} (RAY_ADDRESS): {first_line(error)}; unset RAY_ADDRESS to start one on "
            "this machine, or mend the address"
        ) from error


def _current_cluster() -> str:
    """The address that `ray start` left on this machine for RAY_ADDRESS=auto."""
    from ray._private.utils import read_ray_address

    found: str | None = read_ray_address()
    if not found:
        raise UserError("RAY_ADDRESS=auto, and no `ray start` has left an address here; unset it or give HOST:PORT")
    return found


def _require_answer(address: str) -> None:
    """Raise `UserError` unless a gRPC server answers at `address`; Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    mend = "start that cluster, mend RAY_ADDRESS, or unset it to start a Ray on this machine"
    if "://" in address or not host or not port.isdecimal():
        raise UserError(
            f"RAY_ADDRESS={address} is not the HOST:PORT of a Ray head, for example 192.168.1.10:6379; {mend}"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS) as connection:
            # The opening of HTTP/2 with empty settings; the answer is a frame of settings, type 4.
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            answer = connection.recv(9)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"no Ray answers at {address}, where RAY_ADDRESS says it is ({reason}); {mend}") from error
    if len(answer) < 4 or answer[3] != 4:
        raise UserError(f"what answers at {address}, where RAY_ADDRESS says Ray is, is not a Ray head; {mend}")


def _require_train_v2() -> None:
    """Raise `UserError` where Ray Train was told to be its former version, whose errors and results are others."""
    from ray.train.v2._internal.constants import is_v2_enabled

    loaded = sys.modules.get("ray.train")
    if not is_v2_enabled() or (loaded is not None and not hasattr(loaded, "ControllerError")):
        raise UserError("RAY_TRAIN_V2_ENABLED=0 turns Ray Train into its former version; unset it and start again")


def resolve_device(settings: RunSettings) -> Device:
    """The device the workers will use, once the cluster has room for them.

    Waits a minute at most for hosts that still join. Raises `UserError` with what is missing.
    """
    wanted, count, cpus = settings.engine.device, settings.workers.count, needed_cpus(settings)
    total = _total()
    if on_cluster():
        total = wait_for(lambda has: _enough(has, wanted, count, cpus), _total, _says_waiting(wanted, count, cpus))
    gpus = total.get("GPU", 0)
    if gpus < count and (wanted == "cuda" or (wanted == "auto" and gpus > 0)):
        raise UserError(
            f"engine.device={wanted} asks for {count} GPUs, one per worker, and this cluster has {gpus:g}; "
            "use engine.device=cpu, fewer workers, or a cluster with GPUs"
        )
    if total.get("CPU", 0) < cpus:
        raise UserError(
            f"the run needs {cpus:g} CPUs ({count} workers of {settings.workers.cpus:g}, their read tasks and "
            f"{SPARE_CPUS} spare) and this cluster has {total.get('CPU', 0):g}; lower workers.count or workers.cpus"
        )
    return "cuda" if wanted == "cuda" or (wanted == "auto" and gpus >= count) else "cpu"


def require_room(settings: RunSettings, device: Device) -> None:
    """Raise `UserError` unless the workers of one run find their places now, or within a minute on a cluster."""
    from ray.util import placement_group, remove_placement_group

    workers = settings.workers
    bundle = worker_resources(settings, device)
    probe = placement_group([bundle] * workers.count, strategy=workers.placement)
    try:
        ready = probe.wait(_patience())
    finally:
        remove_placement_group(probe)
    free = wait_for(lambda has: has.get("CPU", 0) >= needed_cpus(settings), _free) if ready else _free()
    if ready and free.get("CPU", 0) >= needed_cpus(settings):
        return
    each = ", ".join(f"{amount:g} {name}" for name, amount in bundle.items())
    raise UserError(
        f"{workers.count} workers of {each} each (workers.placement={workers.placement}), their read tasks and a spare "
        f"CPU find no room: {free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs of the cluster are free; wait "
        "for other work to end, or lower workers.count or workers.cpus, or change workers.placement"
    )


def worker_resources(settings: RunSettings, device: Device) -> dict[str, float]:
    """What one worker reserves."""
    return {"CPU": settings.workers.cpus} | ({"GPU": 1.0} if device == "cuda" else {})


def wait_for(
    enough: Callable[[dict[str, float]], bool],
    look: Callable[[], dict[str, float]],
    waiting: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """What `look` finds as soon as it is `enough`, or when patience ends; `waiting` is called once if it is not yet."""
    until = time.monotonic() + _patience()
    found = look()
    said = False
    while not enough(found) and time.monotonic() < until:
        if not said:
            waiting()
            said = True
        time.sleep(0.5)
        found = look()
    return found


def _enough(has: dict[str, float], wanted: str, count: int, cpus: float) -> bool:
    """Whether to wait no longer; under `auto` hosts with GPUs may still join a cluster that has just come up."""
    gpus_awaited = wanted == "cuda" or (wanted == "auto" and (has.get("GPU", 0) > 0 or _just_came_up()))
    return has.get("CPU", 0) >= cpus and (not gpus_awaited or has.get("GPU", 0) >= count)


def _says_waiting(wanted: str, count: int, cpus: float) -> Callable[[], None]:
    gpus = "" if wanted == "cpu" else f" and {count} GPUs (engine.device={wanted}; engine.device=cpu waits for none)"
    said = f"waiting up to {JOINING_SECONDS:g} s for {cpus:g} CPUs{gpus}"
    return lambda: print(said, file=sys.stderr, flush=True)


def _just_came_up() -> bool:
    """Whether this is a cluster whose head started less than a minute ago, by the time in its session's name."""
    import ray

    name = ray.get_runtime_context().get_session_name()
    began = datetime.datetime.strptime(name[len("session_") :][:19], "%Y-%m-%d_%H-%M-%S")
    return (datetime.datetime.now() - began).total_seconds() < JOINING_SECONDS


def _patience() -> float:
    return JOINING_SECONDS if on_cluster() else SETTLING_SECONDS


def on_cluster() -> bool:
    """Whether this process' Ray has other hosts; a local one has the address of loopback, in workers and trials too."""
    import ray

    return bool(ray.util.get_node_ip_address() != ADDRESS)


def _total() -> dict[str, float]:
    import ray

    resources: dict[str, Any] = ray.cluster_resources()
    return resources


def _free() -> dict[str, float]:
    import ray

    resources: dict[str, Any] = ray.available_resources()
    return resources
