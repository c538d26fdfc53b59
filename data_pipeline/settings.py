"""Typed settings: the base class every owner derives from, and the one way they are read.

Each room declares its settings next to the code that uses them, as subclasses of `Settings`; a field's docstring is its
documentation, its bounds are checked, unknown keys are errors. `load` merges YAML presets (left to right), options and
dotted `key.sub=value` overrides, then validates with pydantic; every complaint names the key and the range.

Presets and overrides are YAML 1.2 in which the field's type decides (settings_text.py); the value of an option is data
and is not parsed at all. Nothing refers to anything: `${HOME}` in a value is seven characters, so no variable of
somebody's environment can get into the settings that a run stores.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from data_pipeline.errors import UserError
from data_pipeline.settings_text import read_file, read_override, unknown_key

SHOWN = reprlib.Repr()
"""How a wrong value is shown: whole while it is short."""
SHOWN.maxstring = SHOWN.maxother = 200
SHOWN.maxlevel = 3


class Settings(BaseModel):
    """Immutable settings; unknown keys and out-of-range values are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False, validate_default=True
    )


SettingsT = TypeVar("SettingsT", bound=Settings)


def _written_out(path: str) -> str:
    if path.startswith("~") or "${" in path or re.match(r"\$\w+/", path):
        raise ValueError("~ and variables are not replaced in settings; write the path itself")
    return path


PathText = Annotated[str, AfterValidator(_written_out)]
"""A path or file name, in which `~` and `${...}` are sure to be meant to be replaced."""


def searched(low: float, high: float, log: bool = False, integer: bool = False) -> dict[str, Any]:
    """For the `json_schema_extra` of a field: where a search varies it unless told otherwise."""
    return {"search": {"low": low, "high": high, "log": log, "integer": integer}}


def search_range(cls: type[BaseModel], key: str) -> dict[str, Any] | None:
    """What the owner of the dotted `key` of settings `cls` declares to be searched; None where it declares nothing.

    A choice or a switch is searched in all its values. A field that a class takes over from another and gives another
    default has that one's range.
    """
    *branches, leaf = key.split(".")
    for branch in branches:
        field = cls.model_fields.get(branch)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return None
        cls = field.annotation
    for owner in cls.__mro__:
        field = getattr(owner, "model_fields", {}).get(leaf)
        if field is not None and isinstance(field.json_schema_extra, dict) and "search" in field.json_schema_extra:
            return dict(field.json_schema_extra["search"])
    kind = cls.model_fields[leaf].annotation if leaf in cls.model_fields else None
    choices = [False, True] if kind is bool else list(get_args(kind)) if get_origin(kind) is Literal else []
    return {"choices": choices} if len(choices) > 1 else None


def load(
    cls: type[SettingsT],
    presets: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> SettingsT:
    """Read settings of type `cls` from YAML `presets`, `options` and `key=value` `overrides`; later ones win.

    `options` are {dotted key: value}, taken as they are; those that are None were not given. Raises `UserError` naming
    the file or key, what was wrong with it, and the accepted values.
    """
    tree: dict[str, Any] = {}
    for preset in presets:
        tree = _merged(tree, read_file(cls, Path(preset)))
    given = {key: value for key, value in (options or {}).items() if value is not None}
    for key, value in [*given.items(), *(read_override(cls, override) for override in overrides)]:
        for part in reversed(key.split(".")):
            value = {part: value}
        tree = _merged(tree, value)
    files = ", ".join(map(str, presets))
    where = f"{files} and the command line" if files and (overrides or given) else files or "settings"
    return validate(cls, tree, where=where)


def validate(cls: type[SettingsT], content: Any, where: str) -> SettingsT:
    """Validate plain `content` (as read from YAML or JSON) as `cls`; `where` names its origin in errors."""
    try:
        return cls.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{where}: " + "; ".join(_sentences(cls, error))) from error


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` over `below`: mappings are merged key by key, everything else is replaced."""
    both = {
        key: _merged(below[key], value)
        for key, value in above.items()
        if isinstance(value, dict) and isinstance(below.get(key), dict)
    }
    return below | above | both


def _sentences(cls: type[Settings], error: ValidationError) -> Iterator[str]:
    known = sorted(keys_of(cls))
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
        if problem["type"] == "extra_forbidden":
            yield unknown_key(key, known)
        else:
            message = problem["msg"]
            if problem["input"] is None and problem["type"] == "string_type":
                message += ' (if it is the word "null" or "~", put it in quotes)'
            yield f"key '{key}' has value {SHOWN.repr(problem['input'])}: {message[0].lower()}{message[1:]}"


def keys_of(cls: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted keys of the settings `cls` and their branches."""
    for name, field in cls.model_fields.items():
        yield prefix + name
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from keys_of(annotation, f"{prefix}{name}.")
