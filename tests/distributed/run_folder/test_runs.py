"""Runs on disk: a name is claimed once, and continued only by what would have continued it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from tiny_training import tiny_settings

from data_pipeline.errors import UserError
from distributed.run_folder.identities import check_name, name_of_now
from distributed.run_folder.runs import Tenure, check_claim, claim, held, not_locked, read_record
from distributed.settings import RunSettings

STORE = Path("stores/one")


def claimed(runs: Path, settings: RunSettings | None = None, resume: bool = False, checksum: str = "abc") -> Path:
    return claim(runs, "first", resume, STORE, checksum, settings or tiny_settings())


def test_a_new_run_records_what_it_is_made_of(tmp_path: Path) -> None:
    run = claimed(tmp_path / "runs")
    record = read_record(run)
    assert run == tmp_path / "runs/first"
    assert record.store == str(STORE)
    assert record.store_checksum == "abc"
    assert record.settings == tiny_settings().model_dump(mode="json")
    assert {"python", "torch", "ray", "deepspeed"} <= record.versions.keys()


def test_checking_makes_nothing(tmp_path: Path) -> None:
    check_claim(tmp_path / "runs", "first", False, STORE, "abc", tiny_settings())
    assert not (tmp_path / "runs").exists()


def test_an_existing_name_needs_resume(tmp_path: Path) -> None:
    run = claimed(tmp_path)
    with pytest.raises(UserError, match=rf"^run {run} exists already; add --resume to continue it, or choose another"):
        claimed(tmp_path)
    assert claimed(tmp_path, resume=True) == run


def test_resuming_what_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^there is no run at .*first: .*run\.json does not exist; check --name and"):
        claimed(tmp_path, resume=True)


def test_another_store_cannot_continue_a_run(tmp_path: Path) -> None:
    claimed(tmp_path)
    with pytest.raises(
        UserError, match=r"was trained on another store \(stores/one, checksum abc\), not on stores/one"
    ):
        claimed(tmp_path, resume=True, checksum="abd")


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("optimiser.lr=0.5", r"optimiser\.lr \(was 0\.001, is 0\.5\)"),
        ("episodes.support=9", r"episodes\.support \(was 8, is 9\)"),
        ("train.seed=3", r"train\.seed \(was 0, is 3\)"),
        ("fold.test_fraction=0.3", r"fold\.test_fraction \(was 0\.2, is 0\.3\)"),
        ("model.trunk.size=base", r"model\.trunk\.size \(was 'tiny', is 'base'\)"),
        ("train.max_steps=5", r"train\.max_steps \(was 0, is 5\)"),
    ],
)
def test_settings_that_decide_the_result_cannot_change(tmp_path: Path, override: str, key: str) -> None:
    claimed(tmp_path)
    with pytest.raises(UserError, match=rf"cannot be resumed with other settings: {key}; give the earlier values"):
        claimed(tmp_path, tiny_settings(override), resume=True)


@pytest.mark.parametrize(
    "override",
    ["workers.count=4", "engine.zero_stage=3", "stream.prefetch=9", "train.checkpoint_every=7", "train.max_failures=0"],
)
def test_how_a_run_is_run_may_change(tmp_path: Path, override: str) -> None:
    run = claimed(tmp_path)
    assert claimed(tmp_path, tiny_settings(override), resume=True) == run


@pytest.mark.parametrize("name", ["", "a/b", "../up", ".hidden", "with space", "x" * 101])
def test_names_are_plain_words(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="may only have letters, digits"):
        claim(tmp_path, name, False, STORE, "abc", tiny_settings())


def test_a_folder_of_runs_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"^cannot create .*file/runs/first: Not a directory; choose a writable --runs$"
    ):
        claimed(tmp_path / "file/runs")


@pytest.mark.parametrize("content", ["", "{", json.dumps({"created": "now"})])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    (claimed(tmp_path) / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json"):
        claimed(tmp_path, resume=True)


def test_a_run_has_one_driver_at_a_time(tmp_path: Path) -> None:
    run = claimed(tmp_path)
    busy = "is being trained by another process; wait for it or stop it"
    with held(run), pytest.raises(UserError, match=busy), held(run):
        pass
    with held(run):
        assert read_record(run).store_checksum == "abc"


def test_workers_can_tell_that_another_driver_took_their_run(tmp_path: Path) -> None:
    run = claimed(tmp_path)
    with held(run):
        own = Tenure.begin(run)
        with pytest.raises(UserError), held(run):
            pass
        own.check()
    with held(run), pytest.raises(UserError, match="was taken over by another process; these workers stop"):
        own.check()


@pytest.mark.parametrize(
    ("line", "start"),
    [("HeLa-S3 (rep 1)", "HeLa-S3-rep-1-2"), ("+/+ LI", "LI-2"), ("é", "unnamed-2"), ("x" * 200, "x" * 60 + "-2")],
)
def test_a_name_nobody_gave_is_valid_whatever_the_line_is_called(line: str, start: str) -> None:
    name = name_of_now(line)
    check_name("run", name)
    assert name.startswith(start)


def test_workers_can_tell_that_a_later_attempt_of_their_own_driver_follows(tmp_path: Path) -> None:
    run = claimed(tmp_path)
    with held(run):
        old, new = Tenure.begin(run), Tenure.begin(run)
        new.check()
        with pytest.raises(UserError, match="was taken over by another process; these workers stop"):
            old.check()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_one_sentence(tmp_path: Path, number: int) -> None:
    refused = not_locked(tmp_path, OSError(number, os.strerror(number)))
    assert isinstance(refused, UserError)
    assert str(refused) == (
        f"run {tmp_path} cannot be locked, which keeps two trainings of it apart: {os.strerror(number)}; its file "
        "system offers no locks, so mount it with them (NFS: without nolock, or version 4; Lustre: with flock), or "
        "choose --runs on another one"
    )


def test_another_failure_of_the_lock_stays_what_it_is(tmp_path: Path) -> None:
    failure = OSError(errno.EIO, "Input/output error")
    assert not_locked(tmp_path, failure) is failure


CONSTANT = "optimiser.schedule=constant"


@pytest.mark.parametrize("override", ["train.epochs=7", "train.max_steps=5"])
def test_the_length_may_change_under_a_constant_learning_rate_only(tmp_path: Path, override: str) -> None:
    run = claimed(tmp_path, tiny_settings(CONSTANT))
    assert claimed(tmp_path, tiny_settings(CONSTANT, override), resume=True) == run
    claimed(tmp_path / "cosine")
    with pytest.raises(UserError, match=r"the length may change under optimiser\.schedule=constant only$"):
        claimed(tmp_path / "cosine", tiny_settings(override), resume=True)
