"""Where a study is kept: a journal in the search's folder, or a database by its URL (SQLite, PostgreSQL, MySQL).

A database may go away for a while, when its host restarts; what is asked of it meanwhile waits and is asked again, and
only when it stays away does the search end, in one sentence and with nothing lost: the trials' runs are on disk.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from optuna import get_all_study_names
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import event
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from data_pipeline.errors import UserError

JOURNAL = "study.journal"
PATIENCE = 120.0
"""Seconds that a database may be away."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds between two tries; each pause is twice the one before."""
DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
"""The driver this project brings, where a URL names none."""


def open_storage(folder: Path, url: str, patience: float = PATIENCE) -> BaseStorage:
    """The storage at `url`, or for "" the journal in `folder`; raises `UserError` where it cannot be used.

    A database may be away for `patience` seconds.
    """
    if not url:
        _drop_torn_line(folder / JOURNAL)
        return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    full = full_url(url)
    # Within a file there is no server to come back: who finds it locked waits for its turn.
    turn = {"connect_args": {"timeout": patience}} if full.startswith("sqlite") else {}
    try:
        # A connection per question: none that a restart of the server could have broken is kept.
        storage = RDBStorage(full, engine_kwargs={"poolclass": NullPool, **turn})
    except (ImportError, NoSuchModuleError) as error:
        raise UserError(
            f"--storage {shown(url)}: no driver for it is installed ({error}); this project brings those of SQLite, "
            "PostgreSQL (postgresql://) and MySQL (mysql://)"
        ) from error
    except (SQLAlchemyError, StorageInternalError) as error:
        raise UserError(f"--storage {shown(url)} cannot be used: {_line(error)}") from error
    _wait_for(storage.engine, patience)
    return storage


def require_new_study(url: str, name: str, resume: bool) -> None:
    """Raise `UserError` unless the database at `url` has a study `name` exactly where one is to be gone on with."""
    there = name in get_all_study_names(open_storage(Path(), url))
    if there and not resume:
        raise UserError(
            f"the database {shown(url)} has a study '{name}' already; add --resume to continue it, or choose another "
            "--name"
        )
    if resume and not there:
        raise UserError(f"the database {shown(url)} has no study '{name}' to resume; check --storage and --name")


def full_url(url: str) -> str:
    """`url` with the driver that this project brings; raises `UserError` for what is no database URL."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise UserError(
            f"--storage '{url}' is not the URL of a database, for example sqlite:///study.db or "
            "postgresql://user:password@host/name"
        ) from error
    return parsed.set(drivername=DRIVERS.get(parsed.drivername, parsed.drivername)).render_as_string(False)


def shown(url: str) -> str:
    """`url` without its password."""
    return make_url(url).render_as_string(hide_password=True) if url else ""


def _wait_for(engine: Engine, patience: float) -> None:
    """Let every later connection of `engine` wait up to `patience` seconds for a server that is away."""

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, words: Any, named: Any) -> Any:
        until, pause = time.monotonic() + patience, FIRST_PAUSE
        while True:
            try:
                return dialect.connect(*words, **named)
            except dialect.loaded_dbapi.Error as error:
                if time.monotonic() > until:
                    raise UserError(
                        f"the database of the study ({engine.url.render_as_string()}) has been away for {patience:g} "
                        f"s: {_line(error)}; what is finished is kept"
                    ) from error
                if pause == FIRST_PAUSE:
                    print(f"waiting for the database of the study: {_line(error)}", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def _line(error: BaseException) -> str:
    cause = error.__cause__ or error
    lines = [line.strip() for line in str(getattr(cause, "orig", None) or cause).splitlines() if line.strip()]
    return lines[0] if lines else type(cause).__name__


def _drop_torn_line(file: Path) -> None:
    """Cut off a last line that a crash left unfinished; appended to, it would make the journal unreadable."""
    if not file.is_file():
        return
    content = file.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with file.open("r+b") as journal:
            journal.truncate(whole)
