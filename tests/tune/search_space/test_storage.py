"""Where studies are kept: what is refused, and a database that goes away and comes back."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from browsers import chromium
from databases import postgresql
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError
from tiny_search import finish, open_study, propose

from data_pipeline.errors import UserError
from distributed.failures import failure_of
from tune.search_space.storage import JOURNAL, open_storage, require_new_study, shown


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("study.db", "is not the URL of a database, for example sqlite:///study.db"),
        ("oracle://host/name", "no driver for it is installed"),
        ("sqlite:////no/such/folder/study.db", "cannot be used: unable to open database file"),
        (
            "postgresql://who:secret@127.0.0.1:9/none",
            r"postgresql://who:\*\*\*@127.0.0.1:9/none cannot be used: connection failed",
        ),
    ],
)
def test_a_database_that_cannot_be_used_is_told_in_a_sentence_without_its_password(
    tmp_path: Path, url: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as told:
        open_storage(tmp_path, url)
    assert "secret" not in str(told.value)


def test_a_study_that_is_there_is_not_begun_again_and_one_that_is_not_there_not_resumed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    require_new_study(url, "search", resume=False)
    with pytest.raises(UserError, match="has no study 'search' to resume"):
        require_new_study(url, "search", resume=True)
    finish(open_study(tmp_path, storage=url), 0.5)
    require_new_study(url, "search", resume=True)
    with pytest.raises(UserError, match="has a study 'search' already; add --resume"):
        require_new_study(url, "search", resume=False)


def test_a_file_that_another_process_has_locked_is_waited_for(tmp_path: Path) -> None:
    file, url = tmp_path / "study.db", f"sqlite:///{tmp_path}/study.db"
    study = open_study(tmp_path, storage=url)
    finish(study, 0.5)
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    back = threading.Timer(2.0, other.execute, ["COMMIT"])
    back.start()
    finish(study, 0.6)
    back.join()
    other.close()
    assert [trial.value for trial in open_study(tmp_path, storage=url).trials()] == [0.5, 0.6]


def test_a_file_that_stays_locked_ends_in_a_sentence(tmp_path: Path) -> None:
    study = open_study(tmp_path, storage=f"sqlite:///{tmp_path}/study.db", patience=0.0)
    other = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises((DBAPIError, StorageInternalError)) as ended:
        finish(study, 0.6)
    assert "the database of the study failed" in str(failure_of(ended.value).sentence)
    other.close()


@pytest.mark.postgresql
def test_a_search_in_postgresql_outlives_its_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with postgresql() as server:
        study = open_study(tmp_path, storage=server.url, start={"optimiser.lr": 1e-3})
        finish(study, 0.5)
        server.stop()
        back = threading.Timer(2.0, server.start)
        back.start()
        finish(study, 0.6)
        back.join()
        interrupted = propose(study)
        after = open_study(tmp_path, storage=server.url)
        assert propose(after) == interrupted
        assert [trial.value for trial in after.trials()] == [0.5, 0.6, None]
        with pytest.raises(UserError, match="has a study 'search' already"):
            require_new_study(server.url, "search", resume=False)
    assert "waiting for the database of the study" in capsys.readouterr().err


@pytest.mark.postgresql
def test_a_server_that_stays_away_ends_in_a_sentence_and_loses_nothing(tmp_path: Path) -> None:
    with postgresql() as server:
        study = open_study(tmp_path, storage=server.url, patience=1.0)
        finish(study, 0.5)
        server.stop()
        with pytest.raises(UserError, match=r"has been away for 1 s: .*; what is finished is kept"):
            finish(study, 0.6)
        server.start()
        assert [trial.value for trial in open_study(tmp_path, storage=server.url).trials()] == [0.5]


@pytest.mark.browser
@pytest.mark.parametrize(("url", "first"), [("", 0), ("sqlite:///{folder}/study.db", 1)])
def test_optuna_dashboard_shows_a_finished_study(tmp_path: Path, url: str, first: int) -> None:
    url = url.format(folder=tmp_path)
    study = open_study(tmp_path, storage=url, trials=3)
    for score in (0.5, 0.7, 0.6):
        finish(study, score)
    with chromium() as browser, dashboard(url or str(tmp_path / JOURNAL)) as address:
        page = browser.new_page()
        page.goto(f"{address}/dashboard/studies/{first}")
        for text in ("search", "0.7", "Hyperparameter Importance"):
            page.get_by_text(text).first.wait_for(timeout=60_000)


@contextmanager
def dashboard(storage: str) -> Iterator[str]:
    """optuna-dashboard on `storage`; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("optuna-dashboard")
    command = [str(program), storage, "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(300):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.2)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def test_the_password_of_a_database_is_never_shown() -> None:
    assert shown("mysql://who:secret@host/name") == "mysql://who:***@host/name"
    assert shown("") == ""
