"""Searches on disk: like a run's, a search's name is an identity.

    RUNS/NAME/search.json       store, space, folds, run settings, versions
    RUNS/NAME/study.journal     Optuna's storage, where it is no database: every trial, its point, its scores, its end
    RUNS/NAME/runs/             one run per trial, inner fold and seed, `trial-0007/LINE-s0`
    RUNS/NAME/trials.parquet, best.yaml, recommended.yaml, region.json, report.html, tune/, workers/

Starting a search whose name exists is an error unless it is resumed, and resuming asks that everything that decides a
trial's score is what it was. The number of trials may change, and so may what only decides how runs are run.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from data_pipeline.durable import write_durably
from data_pipeline.errors import UserError
from data_pipeline.settings import Settings
from data_pipeline.store import Store
from distributed.run_folder import check_name, read_record_of, versions
from distributed.settings import RunSettings
from tune.search_space import SearchSettings

FREE_TO_CHANGE = ("search.trials", "search.confirm", "run.engine.", "run.workers.", "run.stream.",
                  "run.train.max_failures", "run.train.log_every", "run.train.keep_best",
                  "run.train.checkpoint_every")  # fmt: skip
"""Settings, or branches of them, that may differ when a search is resumed: no score depends on them."""

RECORD, RUNS = "search.json", "runs"


class SearchRecord(Settings):
    """The content of `search.json`."""

    created: str
    """UTC time, ISO 8601."""
    store: str
    """Path of the store."""
    store_checksum: str
    """Its checksum."""
    lines: list[str]
    """Validation line of each inner fold, in the order a trial takes them."""
    search: dict[str, Any]
    """Resolved settings of the search."""
    run: dict[str, Any]
    """Resolved settings that all runs share."""
    storage: str = ""
    """URL of the study's database, without a password; empty: the journal in the folder."""
    versions: dict[str, str]
    """Of Python and the libraries that matter."""


def claim_search(
    folder: Path,
    resume: bool,
    store: Store,
    search: SearchSettings,
    run: RunSettings,
    lines: list[str],
    storage: str = "",
) -> None:
    """Make the `folder` of a new search, or check that the one there is this search.

    Raises `UserError` where the name is taken, is not there to resume, or belongs to something else.
    """
    check_name("search", folder.name)
    record = SearchRecord(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        store=str(store.path),
        store_checksum=store.checksum,
        lines=lines,
        search=search.model_dump(mode="json"),
        run=run.model_dump(mode="json"),
        storage=storage,
        versions=versions(),
    )
    if resume:
        _check(folder, read_search(folder), record)
        return
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise UserError(
            f"search {folder} exists already; add --resume to continue it, or choose another --name"
        ) from error
    except OSError as error:
        raise UserError(f"cannot create {folder}: {error.strerror}; choose a writable --runs") from error
    (folder / RUNS).mkdir()
    write_durably(folder / RECORD, record.model_dump_json(indent=1).encode())


def read_search(folder: Path) -> SearchRecord:
    """The record of the search in `folder`; raises `UserError`."""
    return read_record_of("search", SearchRecord, folder, RECORD)


def _check(folder: Path, earlier: SearchRecord, now: SearchRecord) -> None:
    if earlier.store_checksum != now.store_checksum:
        raise UserError(
            f"search {folder} was begun on another store ({earlier.store}, {earlier.store_checksum[:12]}), not "
            f"on {now.store} ({now.store_checksum[:12]}); resume it with its own store or choose another --name"
        )
    if earlier.storage != now.storage:
        raise UserError(
            f"the study of search {folder} is in {earlier.storage or 'its folder'}, not in "
            f"{now.storage or 'its folder'}; resume it with {_storage_word(earlier)} or choose another --name"
        )
    old, new = flat(_decisive(earlier)), flat(_decisive(now))
    changed = [
        f"{key} (was {old.get(key)!r}, is {new.get(key)!r})"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.startswith(FREE_TO_CHANGE)
    ]
    if changed:
        raise UserError(
            f"search {folder} cannot be resumed with other settings: {', '.join(changed)}; give the earlier values "
            f"(they are in its {RECORD}) or choose another --name"
        )


def _storage_word(record: SearchRecord) -> str:
    return f"--storage {record.storage}" if record.storage else "no --storage"


def _decisive(record: SearchRecord) -> dict[str, Any]:
    return {"search": record.search, "run": record.run, "lines": record.lines}


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a tree by dotted key."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return leaves
