"""Runs on disk: a name is an identity.

    RUNS/NAME/run.json            settings, store, device, versions
    RUNS/NAME/checkpoint_*/       see checkpoint.py
    RUNS/NAME/metrics, tensorboard, report

Starting a name that exists is an error unless it is resumed, and resuming asks that store, fold, plan and everything
that decides the result are what they were. What only decides how it is run (workers, ZeRO stage, read-ahead, patience)
may change.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipeline.durable import write_durably
from data_pipeline.errors import UserError
from data_pipeline.settings import Settings
from distributed.identities import check_name, read_record_of
from distributed.settings import RunSettings

FREE_TO_CHANGE = ("engine", "workers", "stream", "scoring", "train.max_failures", "train.log_every", "train.keep_best",
                  "train.checkpoint_every", "train.patience")  # fmt: skip
"""Settings that may differ when a run is resumed, because they do not change what a step computes."""

PACKAGES = ("torch", "ray", "deepspeed", "numpy", "pyarrow", "prism-epi")
"""Packages whose versions are recorded."""

_HELD = ".held"


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
    changed = sorted(_differences(earlier.settings, settings.model_dump(mode="json")))
    if changed:
        raise UserError(
            f"run {run} cannot be resumed with other settings: {', '.join(changed)}; give the earlier values "
            "(they are in its run.json) or choose another --name"
        )
    return run


def read_record(run: Path) -> RunRecord:
    """The record of the run in folder `run`; raises `UserError`."""
    return read_record_of("run", RunRecord, run, "run.json")


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
    draft = run.with_name(f".{run.name}.draft-{os.getpid()}")
    try:
        draft.mkdir(parents=True)
        write_durably(draft / "run.json", record.model_dump_json(indent=1).encode())
        draft.rename(run)
    except OSError as error:
        raise UserError(f"cannot create {run}: {error.strerror}; choose a writable --runs") from error


@contextlib.contextmanager
def held(run: Path) -> Iterator[None]:
    """Keep other drivers out of `run`; the system lets go when this process ends, however it ends.

    The file then names this holder, so that workers that outlive a killed driver for a moment see that they are late.
    """
    with (run / _HELD).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"run {run} is being trained by another process; wait for it or stop it first") from error
        file.truncate(0)
        file.write(uuid.uuid4().hex)
        file.flush()
        yield


def holder(run: Path) -> str:
    """Who holds `run`, or held it last; another word for every driver."""
    file = run / _HELD
    return file.read_text() if file.is_file() else ""


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


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> set[str]:
    """Dotted keys whose values differ and may not."""
    found: set[str] = set()
    for key in old.keys() | new.keys():
        path = prefix + key
        if path in FREE_TO_CHANGE or old.get(key) == new.get(key):
            continue
        if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
            found |= _differences(old[key], new[key], f"{path}.")
        else:
            found.add(f"{path} (was {old.get(key)!r}, is {new.get(key)!r})")
    return found
