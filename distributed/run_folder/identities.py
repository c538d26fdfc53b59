"""What runs, searches and ablations share in being identities on disk: a valid name, and a record that reads back."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import shlex
import sys
from pathlib import Path

from data_pipeline.errors import UserError
from data_pipeline.settings import SettingsT, validate

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")


def check_name(what: str, name: str) -> None:
    """Raise `UserError` unless `name` can name a folder of a `what` everywhere."""
    if not _NAME.match(name):
        raise UserError(f"{what} name '{name}' may only have letters, digits, '.', '_' and '-'")


def name_of_now(about: str) -> str:
    """A valid name for what the user did not name: from `about`, where other characters become '-', and the time."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", about).strip("-._")[:60]
    return f"{plain or 'unnamed'}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def ways_on(what: str, folder: Path) -> str:
    """How to continue the `what` in `folder` with the command this process was started with, ready for a shell."""
    if not folder.is_dir():
        return f"the {what} {folder} had not begun"
    words = ["python", *sys.argv]
    words += [] if "--resume" in words else ["--resume"]
    words += [] if any(word.partition("=")[0] == "--name" for word in words) else ["--name", folder.name]
    return f"what {what} {folder} has saved is whole; continue with\n  {shlex.join(words)}"


def word_of(text: str, most: int) -> str:
    """`text` as a part of a name, of at most `most` characters and another one for every text.

    What is no plain word, or too long for one, is shortened to make room for a digest of it.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", text)
    if plain == text and len(text) <= most:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{plain[: most - 9]}-{digest}"


def require_record(what: str, folder: Path, name: str) -> None:
    """Raise `UserError` unless `folder` is that of a `what`, with its record in the file `name`."""
    if not (folder / name).is_file():
        raise UserError(f"there is no {what} at {folder}: {folder / name} does not exist; check --name and --runs")


DESCRIPTION = "model.json"
"""The file of an exported model that says what it is."""


def require_export(folder: Path) -> Path:
    """The description of the exported model in `folder`; raises `UserError` where there is none."""
    file = folder / DESCRIPTION
    if not file.is_file():
        raise UserError(f"there is no exported model at {folder}: {file} does not exist; make one with export.py")
    return file


def read_record_of(what: str, cls: type[SettingsT], folder: Path, name: str) -> SettingsT:
    """The record of the `what` in `folder`, in its file `name`; raises `UserError` if it is missing or damaged."""
    require_record(what, folder, name)
    return read_json(cls, folder / name)


def read_json(cls: type[SettingsT], file: Path) -> SettingsT:
    """The content of an existing JSON `file` as `cls`; raises `UserError` if it is damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is damaged: {error}") from error
    return validate(cls, content, str(file))
