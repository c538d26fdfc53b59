"""Where a study is kept: a journal in the search's folder, or a database by its URL (SQLite, PostgreSQL, MySQL).

A database may go away for a while, when its host restarts; what is asked of it meanwhile waits and is asked again, and
only when it stays away does the search end, in one sentence and with nothing lost: the trials' runs are on disk.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna import get_all_study_names
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from data_pipeline.errors import UserError

JOURNAL = "study.journal"
PATIENCE = 120.0
"""Seconds that a database may be away."""
DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
"""The driver this project brings, where a URL names none."""
_ASKED = (
    "create_new_trial", "set_trial_param", "set_trial_state_values", "set_trial_intermediate_value",
    "set_trial_user_attr", "set_trial_system_attr", "set_study_user_attr", "set_study_system_attr", "get_trial",
    "get_all_trials", "get_all_studies", "get_study_id_from_name", "get_study_name_from_id", "get_study_directions",
    "get_study_user_attrs", "get_study_system_attrs", "get_trial_id_from_study_id_trial_number", "_get_trials",
)  # fmt: skip


def open_storage(folder: Path, url: str) -> BaseStorage:
    """The storage at `url`, or for "" the journal in `folder`; raises `UserError` where it cannot be used."""
    if not url:
        _drop_torn_line(folder / JOURNAL)
        return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    try:
        # A connection per question: none that a restart of the server could have broken is kept.
        return PatientStorage(full_url(url), engine_kwargs={"poolclass": NullPool})
    except (ImportError, NoSuchModuleError) as error:
        raise UserError(
            f"--storage {shown(url)}: no driver for it is installed ({error}); this project brings those of SQLite, "
            "PostgreSQL (postgresql://) and MySQL (mysql://)"
        ) from error
    except (SQLAlchemyError, StorageInternalError) as error:
        raise UserError(f"--storage {shown(url)} cannot be used: {_line(error)}") from error


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


class PatientStorage(RDBStorage):
    """Optuna's storage in a database, which outlives a database that is away for `PATIENCE` seconds."""


def _patient(ask: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(ask)
    def asked(storage: PatientStorage, *words: Any, **named: Any) -> Any:
        until, pause = time.monotonic() + PATIENCE, 0.5
        while True:
            try:
                return ask(storage, *words, **named)
            except (DBAPIError, StorageInternalError) as error:
                if time.monotonic() > until:
                    raise UserError(
                        f"the database of the study ({shown(storage.url)}) has been away for {PATIENCE:g} s: "
                        f"{_line(error)}; what is finished is kept"
                    ) from error
                if pause == 0.5:
                    print(f"waiting for the database of the study: {_line(error)}", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause = min(2 * pause, 10.0)

    return asked


for _name in _ASKED:
    if hasattr(RDBStorage, _name):
        setattr(PatientStorage, _name, _patient(getattr(RDBStorage, _name)))


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
