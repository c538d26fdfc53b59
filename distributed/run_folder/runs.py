"""Runs on disk: a name is an identity.

    RUNS/NAME/run.json            settings, store, device, versions
    RUNS/NAME/checkpoint_*/       see checkpoint.py
    RUNS/NAME/metrics, tensorboard, report

Starting a name that exists is an error unless it is resumed, and resuming asks that store, fold, plan and everything
that decides the result are what they were. What only decides how it is run (workers, ZeRO stage, read-ahead, patience)
may change, and under a constant learning rate the length.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import importlib.metadata
import os
import platform
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.durable import draft_of, publish, write_durably
from data_pipeline.errors import UserError
from data_pipeline.settings import Settings
from distributed.run_folder.identities import check_name, read_record_of
from distributed.run_folder.upgrades import upgraded_run
from distributed.settings import RunSettings

FREE_TO_CHANGE = (
    "engine",
    "workers",
    "stream",
    "scoring",
    *(f"train.{name}" for name in ("max_failures", "bad_steps", "log_every", "keep_best", "checkpoint_every")),
    "train.patience",
)
"""Settings that may differ when a run is resumed, because they do not change what a step computes."""

LENGTH = ("train.epochs", "train.max_steps")
"""Settings that may differ under a constant learning rate, where the steps taken do not depend on how many follow."""

PACKAGES = ("torch", "ray", "deepspeed", "numpy", "pyarrow", "prism-epi")
"""Packages whose versions are recorded."""

_HELD, _ATTEMPT = ".held", ".attempt"
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class RunRecord(Settings):
    """The content of `run.json`."""

    created: str
    """UTC time, ISO 8601."""
    store: str
    """Path of the store."""
    store_checksum: str
    """Its checksum."""
    settings: dict[str, Any]
    """Resolved settings."""
    versions: dict[str, str]
    """Of Python and the libraries that matter."""
    device: str = ""
    """Where the workers compute, `cpu` or `cuda`, at the latest start; empty before the first."""


def claim(runs: Path, name: str, resume: bool, store: Path, checksum: str, settings: RunSettings) -> Path:
    """The folder of run `name`: made for a new run, checked for a resumed one.

    Raises `UserError` where the name is taken, is not there to resume, or belongs to something else.
    """
    run = check_claim(runs, name, resume, store, checksum, settings)
    if not resume:
        _create(run, store, checksum, settings)
    return run


def check_claim(runs: Path, name: str, resume: bool, store: Path, checksum: str, settings: RunSettings) -> Path:
    """The folder that `claim` would return, with the same errors, while nothing is made yet."""
    check_name("run", name)
    run = runs / name
    if not resume:
        if run.exists():
            raise UserError(f"run {run} exists already; add --resume to continue it, or choose another --name")
        return run
    earlier = read_record(run)
    if earlier.store_checksum != checksum:
        raise UserError(
            f"run {run} was trained on another store ({earlier.store}, checksum {earlier.store_checksum[:12]}), not on "
            f"{store} ({checksum[:12]}); resume it with its own store or choose another --name"
        )
    constant = settings.optimiser.schedule == "constant"
    free = FREE_TO_CHANGE + LENGTH * constant
    changed = sorted(_differences(earlier.settings, settings.model_dump(mode="json"), free))
    if changed:
        length = any(key.split(" ")[0] in LENGTH for key in changed)
        hint = "; the length may change under optimiser.schedule=constant only" if length and not constant else ""
        raise UserError(
            f"run {run} cannot be resumed with other settings: {', '.join(changed)}; give the earlier values "
            f"(they are in its run.json) or choose another --name{hint}"
        )
    return run


def read_record(run: Path) -> RunRecord:
    """The record of the run in folder `run`, also one of an earlier version; raises `UserError`."""
    record = read_record_of("run", RunRecord, run, "run.json")
    return record.model_copy(update={"settings": upgraded_run(record.settings)})


def record_device(run: Path, device: str) -> None:
    """Write down where the workers of `run`, which the caller holds, are about to compute."""
    record = read_record(run)
    if record.device != device:
        with written(run):
            write_durably(
                run / "run.json", record.model_copy(update={"device": device}).model_dump_json(indent=1).encode()
            )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages a result depends on, for records."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            # A job brings the project's code along without installing it.
            found[name] = "not installed"
    return found


def _create(run: Path, store: Path, checksum: str, settings: RunSettings) -> None:
    record = RunRecord(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        store=str(store),
        store_checksum=checksum,
        settings=settings.model_dump(mode="json"),
        versions=versions(),
    )
    # The folder appears with its record in it, so that a run killed in between can be neither half new nor resumed.
    draft = draft_of(run)
    try:
        draft.mkdir(parents=True)
        write_durably(draft / "run.json", record.model_dump_json(indent=1).encode())
        publish(draft, run)
    except OSError as error:
        raise UserError(f"cannot create {run}: {error.strerror}; choose a writable --runs") from error


@contextlib.contextmanager
def held(run: Path) -> Iterator[None]:
    """Keep other drivers out of `run`; the system lets go when this process ends, however it ends.

    The file then names this holder, so that workers that outlive a killed driver for a moment see that they are late.
    """
    with (run / _HELD).open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise not_locked(run, error) from error
        file.truncate(0)
        file.write(uuid.uuid4().hex)
        file.flush()
        yield


def not_locked(run: Path, error: OSError) -> Exception:
    """Why the lock of `run` was refused, as a sentence where there is one."""
    if isinstance(error, BlockingIOError):
        return UserError(f"run {run} is being trained by another process; wait for it or stop it first")
    if error.errno in _NO_LOCKS:
        return UserError(
            f"run {run} cannot be locked, which keeps two trainings of it apart: {error.strerror}; its file system "
            "offers no locks, so mount it with them (NFS: without nolock, or version 4; Lustre: with flock), or choose "
            "--runs on another one"
        )
    return error


@dataclass(frozen=True)
class Tenure:
    """The right of one attempt's workers to write into a run: void as soon as a driver or an attempt follows."""

    run: Path
    holder: str
    attempt: str

    @classmethod
    def begin(cls, run: Path) -> Tenure:
        """Void all earlier ones; the process that writes the run's files calls this once."""
        own = cls(run, _word(run / _HELD), uuid.uuid4().hex)
        write_durably(run / _ATTEMPT, own.attempt)
        return own

    def check(self) -> None:
        """Raise `UserError` if another driver or attempt has taken over: old workers may outlive theirs for a while."""
        if (_word(self.run / _HELD), _word(self.run / _ATTEMPT)) != (self.holder, self.attempt):
            raise UserError(f"run {self.run} was taken over by another process; these workers stop")


def _word(file: Path) -> str:
    # Opened without a look before: a network file system may answer a look from memory, opening asks the server.
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


@contextlib.contextmanager
def written(run: Path) -> Iterator[None]:
    """Turn a full disk, or another failure of the system at a file of `run`, into a sentence."""
    try:
        yield
    except OSError as error:
        file = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) and not (file and file.is_relative_to(run)):
            raise
        raise UserError(
            f"run {run} cannot be written: {error.strerror}{f' ({file})' if file else ''}; its checkpoints are whole: "
            "make room or mend the folder, then continue with --resume"
        ) from error


def _differences(old: dict[str, Any], new: dict[str, Any], free: Sequence[str], prefix: str = "") -> set[str]:
    """Dotted keys whose values differ and may not."""
    found: set[str] = set()
    for key in old.keys() | new.keys():
        path = prefix + key
        if path in free or old.get(key) == new.get(key):
            continue
        if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
            found |= _differences(old[key], new[key], free, f"{path}.")
        else:
            found.add(f"{path} (was {old.get(key)!r}, is {new.get(key)!r})")
    return found
