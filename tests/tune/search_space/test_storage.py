"""Where studies are kept: what is refused, and a database that goes away and comes back."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tiny_search import finish, open_study

from data_pipeline.errors import UserError
from tune.search_space import storage
from tune.search_space.storage import open_storage, require_new_study, shown


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


def test_a_database_that_was_away_for_a_while_has_everything_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, url = tmp_path / "study.db", f"sqlite:///{tmp_path}/study.db?timeout=0"
    study = open_study(tmp_path, storage=url)
    finish(study, 0.5)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")  # as good as gone for everybody else
    pauses = []

    def come_back(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            other.execute("COMMIT")

    monkeypatch.setattr(storage.time, "sleep", come_back)
    finish(study, 0.6)
    other.close()
    assert len(pauses) == 3
    assert "waiting for the database of the study: database is locked" in capsys.readouterr().err
    assert [trial.value for trial in open_study(tmp_path, storage=url).trials()] == [0.5, 0.6]


def test_a_database_that_stays_away_ends_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/study.db?timeout=0"
    study = open_study(tmp_path, storage=url)
    monkeypatch.setattr(storage, "PATIENCE", 0.0)
    other = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UserError, match="has been away for 0 s: database is locked; what is finished is kept"):
        finish(study, 0.6)
    other.close()


def test_the_password_of_a_database_is_never_shown() -> None:
    assert shown("mysql://who:secret@host/name") == "mysql://who:***@host/name"
    assert shown("") == ""
