"""From what Ray, torch and the system raise to one sentence, and to whether trying again can help.

A mistake (a full disk, a missing package, too little memory for a step) would only repeat: its sentence is shown once.
A loss (a worker's process, its host, the line between two of them) is worth another try from the latest checkpoint.
Anything else is a defect of this program and keeps its traceback.

Exceptions lose their causes on the way out of a process, so `told` turns them into one of the two inside the worker.
Kinds are known by name, so that nothing of Ray or torch has to be imported to tell them apart.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from data_pipeline.errors import UserError
from distributed.local_ray import first_line

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a disk or a quota that is used up."""
FULL_SAYS = ("No space left on device", "Disk quota exceeded")
"""How libraries that are not written in Python say it, in exceptions of their own."""

MISTAKES = {
    "ray.ObjectStoreFullError": "Ray's object store is full: give it more memory, or lower stream.prefetch, "
    "stream.steps_per_block or the number of workers per host",
    "ray.OutOfDiskError": "the disk of Ray's folder of temporary files is full: make room, or set RAY_TMPDIR",
    "ray.RuntimeEnvSetupError": "a host cannot set up the job's environment: {line}",
    "ray.TaskUnschedulableError": "no host has what a task asks for: {line}",
    "ray.ActorUnschedulableError": "no host has what a worker asks for: {line}",
    "ray.InsufficientClusterResourcesError": "the cluster has too little for the workers: {line}",
    "ray.WorkerGroupStartupTimeoutError": "the workers did not start within three minutes: other work may hold the "
    "CPUs or GPUs they need (`ray status` shows it)",
    "ray.AuthenticationError": "a host refuses the cluster's token: copy the head's token file to every host",
    "ray.ExecutionTimeoutError": "reading the pairs made no progress: other work may hold the CPUs of the read tasks, "
    "or the store's disk hangs",
    "torch.OutOfMemoryError": "a step does not fit into the GPU's memory: lower episodes.per_step, episodes.query or "
    "scoring.pairs_per_batch, choose a smaller model.trunk.size, or use more workers",
    "optuna.StorageInternalError": "the database of the study failed; what is finished is kept: see that it runs",
    "sqlalchemy.DBAPIError": "the database of the study failed ({line}); what is finished is kept: see that it runs",
    "builtins.MemoryError": "memory does not suffice: lower episodes.per_step or scoring.pairs_per_batch, or use fewer "
    "workers per host",
    "builtins.ModuleNotFoundError": "a host lacks a Python package ({line}): install the project's environment there",
}
"""Kinds of exception that will repeat, and what to say of them."""

LOSSES = {
    "distributed.WorkerLostError": "{line}",
    "ray.OutOfMemoryError": "a process was killed because its host ran out of memory",
    "ray.RayActorError": "a worker's process was lost, for example killed for lack of memory",
    "ray.WorkerCrashedError": "a worker's process was lost, for example killed for lack of memory",
    "ray.LocalRayletDiedError": "Ray on a worker's host ended",
    "ray.NodeDiedError": "a host was lost",
    "ray.PreemptionError": "a host was taken back",
    "ray.ObjectLostError": "data were lost with a host or a process",
    "ray.WorkerHealthCheckTimeoutError": "a worker did not answer for ten minutes",
    "ray.WorkerGroupStartupFailedError": "a worker's process ended while it started",
    "ray.CollectiveTimeoutError": "workers waited for one that never came",
    "ray.GetTimeoutError": "Ray did not answer in time",
    "ray.ActorPlacementGroupRemoved": "the workers' places were taken away",
    "torch.DistError": "the workers lost each other: {line}",
    "torch.AcceleratorError": "a GPU failed: {line}",
}
"""Kinds of exception that another try may not see again, and what to say of them."""

PEER_GONE = ("closed by peer", "reset by peer", "Broken pipe", "gloo", "NCCL", "TCPStore", "Socket Timeout")
"""What torch says, in a plain RuntimeError, when another worker has gone or is late."""

LATE = ("timed out", "timeout", "Timed out")


class WorkerLostError(Exception):
    """A worker, or the line to it, is gone; training can go on from the latest checkpoint."""


@dataclass(frozen=True)
class Failure:
    """What ended an attempt to train."""

    sentence: str | None
    """What to tell the user; None for a defect."""
    lost: bool
    """Whether another try may go well."""


def failure_of(error: BaseException) -> Failure:
    """Judge `error` by everything that caused it; a mistake counts before a loss, which may be its consequence."""
    chain = list(_causes(error))
    for judge, lost in ((mistake, False), (loss, True)):
        for cause in chain:
            sentence = judge(cause)
            if sentence is not None:
                return Failure(sentence, lost)
    return Failure(None, False)


def mistake(error: BaseException) -> str | None:
    """The sentence of an exception that will repeat, else None; looks at `error` alone."""
    if _kind(error, "ray.RayTaskError"):
        return None  # wears the class of its cause, with a stack for a message
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
        return _of_the_system(error)
    if any(sign in str(error) for sign in FULL_SAYS):
        return f"the disk is full ({first_line(error)}): make room"
    if isinstance(error, RuntimeError) and "allocate memory" in str(error):
        return MISTAKES["builtins.MemoryError"]
    if "NCCL built in" in str(error):
        return "the torch of a worker with a GPU has no NCCL: install one for its CUDA driver, or set engine.device=cpu"
    return _listed(error, MISTAKES)


def loss(error: BaseException) -> str | None:
    """The sentence of an exception that another try may not see again, else None; looks at `error` alone."""
    if _listed(error, LOSSES) is None and peer_gone(error):
        return f"the workers lost each other: {first_line(error)}"
    return _listed(error, LOSSES)


def peer_gone(error: BaseException) -> bool:
    """Whether a collective ended because another worker is gone or late."""
    plain = isinstance(error, RuntimeError | ConnectionError) and any(sign in str(error) for sign in PEER_GONE)
    return plain or _kind(error, "torch.DistError")


@contextmanager
def told(rank: int, seconds: float, doing: Callable[[], str]) -> Iterator[None]:
    """In worker `rank`: let out mistakes as `UserError`, losses as `WorkerLostError`, defects as they are.

    `doing` says what the workers were at; `seconds` is how long they wait for each other.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if any(peer_gone(cause) for cause in _causes(error)):
            late = any(sign in str(error) for sign in LATE)
            what = (
                f"waited {seconds:g} s (workers.timeout) for the others and gave up"
                if late
                else "lost the line to another worker"
            )
            raise WorkerLostError(f"worker {rank} {what} during {doing()}") from error
        failure = failure_of(error)
        if failure.sentence is None:
            raise
        kind = WorkerLostError if failure.lost else UserError
        raise kind(failure.sentence) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and all that it says it came from, each once, the nearest first."""
    waiting, seen = [error], set[int]()
    while waiting:
        now = waiting.pop(0)
        if id(now) in seen:
            continue
        seen.add(id(now))
        yield now
        found = [getattr(now, name, None) for name in ("cause", "health_check_failure", "controller_failure")]
        found += [*getattr(now, "worker_failures", {}).values(), now.__cause__, now.__context__]
        waiting += [cause for cause in found if isinstance(cause, BaseException)]


def _of_the_system(error: OSError) -> str | None:
    file = f" ({error.filename})" if error.filename else ""
    if error.errno in FULL:
        return f"the disk is full{file}: make room"
    if error.errno == errno.EROFS:
        return f"the disk is read-only{file}: mount it for writing, or choose another folder"
    return f"cannot use {error.filename}: {error.strerror}" if error.filename else None


def _listed(error: BaseException, table: dict[str, str]) -> str | None:
    found = next((table[name] for name in _names(error) if name in table), None)
    return None if found is None else found.replace("{line}", first_line(error))


def _kind(error: BaseException, name: str) -> bool:
    return name in _names(error)


def _names(error: BaseException) -> list[str]:
    """`package.Class` of the exception's class and of all it derives from."""
    return [f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__]
