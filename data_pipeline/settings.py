"""Typed settings: the base class every owner derives from, and the one way they are read.

Each room declares its settings next to the code that uses them, as subclasses of `Settings`; a field's docstring is its
documentation, its bounds are checked, unknown keys are errors. `load` merges YAML presets (left to right) and dotted
`key.sub=value` overrides with OmegaConf, then validates with pydantic; every complaint names the key and the range.
Both are read as YAML 1.2, because to 1.1 (OmegaConf's own reader) `on` and `off` are truth values, even as keys.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from data_pipeline.errors import UserError


class Settings(BaseModel):
    """Immutable settings; unknown keys and out-of-range values are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False, validate_default=True
    )


SettingsT = TypeVar("SettingsT", bound=Settings)


def load(cls: type[SettingsT], presets: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> SettingsT:
    """Read settings of type `cls` from YAML `presets` and `key=value` `overrides`; later ones win.

    Raises `UserError` naming the file or key, what was wrong with it, and the accepted values.
    """
    tree = OmegaConf.create()
    for preset in presets:
        tree = _merge(tree, _read_yaml(Path(preset)), str(preset))
    for override in overrides:
        if "=" not in override:
            raise UserError(f"override '{override}' is not of the form key=value, for example optimiser.lr=1e-3")
        try:
            key, _, value = override.partition("=")
            parsed = OmegaConf.create()
            OmegaConf.update(parsed, key, YAML(typ="safe", pure=True).load(value))
        except (OmegaConfBaseException, YAMLError) as error:
            raise UserError(f"override '{override}' cannot be read: {_told(error)}") from error
        tree = _merge(tree, parsed, f"override '{override}'")
    files = ", ".join(map(str, presets))
    where = f"{files} and the command line" if files and overrides else files or "settings"
    return validate(cls, OmegaConf.to_container(tree, resolve=True), where=where)


def validate(cls: type[SettingsT], content: Any, where: str) -> SettingsT:
    """Validate plain `content` (as read from YAML or JSON) as `cls`; `where` names its origin in errors."""
    try:
        return cls.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{where}: " + "; ".join(_sentences(cls, error))) from error


def _merge(tree: DictConfig | ListConfig, more: Any, where: str) -> Any:
    try:
        return OmegaConf.merge(tree, more)
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        raise UserError(f"{where} cannot be merged: {error}") from error


def _read_yaml(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"settings file {path} does not exist")
    try:
        content = YAML(typ="safe", pure=True).load(path)
        if not isinstance(content, dict | None):
            raise UserError(f"settings file {path} must hold 'key: value' lines, not a list or a single value")
        return OmegaConf.create(content or {})
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"settings file {path} is not valid YAML: {_told(error)}") from error


def _told(error: Exception) -> str:
    """A parser's complaint on one line, with the place where it knows it."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} (line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1})"
    return " ".join(str(error).split())


def _sentences(cls: type[Settings], error: ValidationError) -> Iterator[str]:
    known = sorted(_keys(cls))
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, known, n=1)
            yield f"unknown key '{key}'" + (
                f", did you mean '{near[0]}'?" if near else "; see docs/settings.md for the keys"
            )
        else:
            message = problem["msg"]
            yield f"key '{key}' has value {problem['input']!r}: {message[0].lower()}{message[1:]}"


def _keys(cls: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in cls.model_fields.items():
        yield prefix + name
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _keys(annotation, f"{prefix}{name}.")
