"""What runs, searches and ablations share in being identities on disk: a valid name, and a record that reads back."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from data_pipeline.errors import UserError
from data_pipeline.settings import SettingsT, validate

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")


def check_name(what: str, name: str) -> None:
    """Raise `UserError` unless `name` can name a folder of a `what` everywhere."""
    if not _NAME.match(name):
        raise UserError(f"{what} name '{name}' may only have letters, digits, '.', '_' and '-'")


def word_of(text: str, most: int) -> str:
    """`text` as a part of a name, of at most `most` characters and another one for every text.

    What is no plain word, or too long for one, is shortened to make room for a digest of it.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", text)
    if plain == text and len(text) <= most:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{plain[: most - 9]}-{digest}"


def read_record_of(what: str, cls: type[SettingsT], folder: Path, name: str) -> SettingsT:
    """The record of the `what` in `folder`, in its file `name`; raises `UserError` if it is missing or damaged."""
    file = folder / name
    if not file.is_file():
        raise UserError(f"there is no {what} at {folder}: {file} does not exist; check --name and --runs")
    return read_json(cls, file)


def read_json(cls: type[SettingsT], file: Path) -> SettingsT:
    """The content of an existing JSON `file` as `cls`; raises `UserError` if it is damaged."""
    try:
        content = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is damaged: {error}") from error
    return validate(cls, content, str(file))
