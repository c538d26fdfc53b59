"""Whole or not at all: what is written under a draft's name, and whose drafts may be removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_sources import build, lab

from data_pipeline.durable import draft_of, publish, remove_dead_drafts, write_durably
from data_pipeline.errors import UserError


def draft_of_process(path: Path, process: int) -> Path:
    """The name a draft of `path` has when `process` of this machine makes it."""
    return path.with_name(draft_of(path).name.replace(f"-{os.getpid()}-", f"-{process}-"))


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_draft_of_a_dead_process_of_this_machine_is_removed(tmp_path: Path) -> None:
    folder, file = draft_of_process(tmp_path / "a", ended_process()), draft_of_process(tmp_path / "a", ended_process())
    folder.mkdir()
    (folder / "shard").write_bytes(b"half")
    file.write_bytes(b"half")
    remove_dead_drafts(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_drafts_of_running_processes_other_machines_and_other_names_are_left(tmp_path: Path) -> None:
    dead = draft_of_process(tmp_path / "a", ended_process())
    host = dead.name.removeprefix(".a.draft-").rsplit("-", 3)[0]
    kept = {
        draft_of(tmp_path / "a"),
        draft_of_process(tmp_path / "b", ended_process()),
        dead.with_name(dead.name.replace(host, "elsewhere")),
        dead.with_name(dead.name.replace(f"{host}-", f"{host}-0")),  # another container of this machine
        tmp_path / ".a.draft-",
        tmp_path / ".a.draft-1",
    }
    for folder in kept:
        folder.mkdir()
    remove_dead_drafts(tmp_path / "a")
    assert set(tmp_path.iterdir()) == kept


def test_an_ingest_leaves_the_ingest_of_another_machine_alone(tmp_path: Path) -> None:
    # Process numbers mean nothing on another machine: this one is free here and may be running there.
    theirs = tmp_path / f".store.draft-elsewhere-0123456789ab-{ended_process()}-{'0' * 32}"
    theirs.mkdir()
    build(lab(tmp_path / "inputs"), tmp_path / "store")
    assert theirs.exists()


def test_two_drafts_never_have_one_name(tmp_path: Path) -> None:
    assert draft_of(tmp_path / "a") != draft_of(tmp_path / "a")


def test_text_is_written_as_utf8_and_replaces_the_old_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_durably(file, b"old")
    write_durably(file, "S\u00e9zary")
    assert file.read_bytes() == "S\u00e9zary".encode()
    assert list(tmp_path.iterdir()) == [file]


def test_a_failed_write_leaves_no_draft_and_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        write_durably(tmp_path / "a", b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_appeared_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    for name in ("draft", "store"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(b"")
    with pytest.raises(UserError, match="store was written by another process meanwhile; choose another name"):
        publish(tmp_path / "draft", tmp_path / "store")
    assert (tmp_path / "store" / "store").exists()
