"""Joining or starting Ray, and asking it for no more than it has.

Inside a submitted job Ray is there already. On a laptop it is started here, with a few logical CPUs more than there
are cores: Ray Data's read tasks must fit beside workers that reserve every core, or everything waits for ever.
What workers print stays in Ray's log folder; a run's terminal shows its progress and its errors only.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Literal

import ray

from data_pipeline.errors import UserError
from distributed.settings import RunSettings

JOINING_SECONDS = 60.0
"""How long a job waits for the hosts of a cluster that has just come up."""

SPARE_CPUS = 1
"""CPUs kept free for drivers and controllers."""


def needed_cpus(settings: RunSettings) -> float:
    """CPUs one run reserves: its workers, their read tasks, and a spare."""
    per_worker = settings.workers.cpus + settings.stream.tasks * settings.stream.cpus_per_task
    return settings.workers.count * per_worker + SPARE_CPUS


def join_ray(cpus: float) -> None:
    """Connect to the Ray cluster of this job, or start a local one that has at least `cpus` logical CPUs."""
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
        return
    # A local Ray is this user's alone and listens on loopback only; a token would only leave a file behind.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    logical = max(len(os.sched_getaffinity(0)), int(cpus + 0.999))
    ray.init(num_cpus=logical, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)


def resolve_device(settings: RunSettings) -> Literal["cpu", "cuda"]:
    """The device the workers will use; raises `UserError` if a GPU or CPUs are asked for that the cluster lacks."""
    total = _resources(needed_cpus(settings))
    gpus, count = total.get("GPU", 0), settings.workers.count
    wanted = settings.engine.device
    if wanted == "cuda" and gpus < count:
        raise UserError(
            f"engine.device=cuda asks for {count} GPUs, one per worker, and this cluster has {gpus:g}; "
            "use engine.device=cpu, fewer workers, or a cluster with GPUs"
        )
    cpus = needed_cpus(settings)
    if total.get("CPU", 0) < cpus:
        raise UserError(
            f"the run needs {cpus:g} CPUs ({count} workers of {settings.workers.cpus:g}, their read tasks and "
            f"{SPARE_CPUS} spare) and this cluster has {total.get('CPU', 0):g}; lower workers.count or workers.cpus"
        )
    return "cuda" if wanted == "cuda" or (wanted == "auto" and gpus >= count) else "cpu"


def _resources(cpus: float) -> dict[str, float]:
    """What the cluster has; hosts of a real cluster join one by one, so it gets a minute to have `cpus` CPUs."""
    patience = JOINING_SECONDS if os.environ.get("RAY_ADDRESS") else 0.0
    until = time.monotonic() + patience
    total: dict[str, float] = ray.cluster_resources()
    while total.get("CPU", 0) < cpus and time.monotonic() < until:
        time.sleep(1)
        total = ray.cluster_resources()
    return total
