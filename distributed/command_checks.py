"""What can be wrong with the words of a command, seen without the libraries that do its work.

Those take seconds to import, and who mistyped a folder should not wait for them. What is checked here is checked again,
or cannot have changed, where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_pipeline.errors import UserError
from data_pipeline.settings_text import require_known_keys
from distributed.run_folder import check_name, require_record

KNOWN_KEYS = Path(__file__).resolve().parents[1] / "configs/known_keys.txt"
"""The keys of runs and, after `search.`, of searches, written by docs/settings_page.py and held to it by a test."""


def require_keys(files: Sequence[Path], overrides: Sequence[str] = (), searched: bool = False) -> None:
    """Raise `UserError` for what cannot be settings of a run: no YAML, no key=value, or a key that no run has.

    `searched`: overrides may also have the keys of a search.
    """
    known = KNOWN_KEYS.read_text(encoding="utf-8").split()
    require_known_keys([key for key in known if searched or not key.startswith("search.")], files, overrides)


def require_unclaimed(what: str, runs: Path, name: str, resume: bool, record: str) -> None:
    """Raise `UserError` unless a `what` called `name` can be begun in `runs`, or is there to be resumed."""
    if resume and not name:
        raise UserError(f"--resume needs the --name of the {what} to continue")
    if not name:
        return
    check_name(what, name)
    if resume:
        require_record(what, runs / name, record)
    elif (runs / name).exists():
        raise UserError(f"{what} {runs / name} exists already; add --resume to continue it, or choose another --name")
