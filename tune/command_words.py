"""What the words of this room's commands name, seen without the libraries that do the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from data_pipeline.errors import UserError
from data_pipeline.settings_text import read_file

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SPACES = CONFIGS / "search"
"""The search spaces that are known by name."""


def space_file(space: str) -> Path:
    """The file of a search space: a preset by its name, or a YAML file; raises `UserError`."""
    named, file = SPACES / f"{space}.yaml", Path(space)
    if file.is_file() or named.is_file():
        return file if file.is_file() else named
    known = ", ".join(sorted(preset.stem for preset in SPACES.glob("*.yaml")))
    raise UserError(f"there is no search space '{space}'; give one of {known}, or a YAML file")


def presets_of(space: str) -> list[Path]:
    """The presets of the runs that a space brings with it; raises `UserError`."""
    files = [CONFIGS / f"{name}.yaml" for name in _words(space, "presets") or []]
    for file in files:
        if not file.is_file():
            raise UserError(f"space '{space}': there is no preset {file}; give --config, or mend `presets`")
    return files


def simulated_store(space: str) -> Path:
    """Where the simulated store of a space lies or is made; raises `UserError` for a space that brings none."""
    preset = _words(space, "simulate")
    if not preset:
        raise UserError(f"space '{space}' brings no store with it: give --store")
    if not (CONFIGS / f"simulate/{preset}.yaml").is_file():
        known = ", ".join(sorted(file.stem for file in (CONFIGS / "simulate").glob("*.yaml")))
        raise UserError(f"space '{space}': there is no simulated store '{preset}'; there are {known}")
    return Path("stores") / f"simulated-{preset}"


def _words(space: str, key: str) -> Any:
    return read_file(BaseModel, space_file(space)).get(key)


def variants_file(file: Path) -> Path:
    """`file`; raises `UserError` where there is none."""
    if not file.is_file():
        raise UserError(f"there is no ablation {file}; give a YAML file, for example configs/ablation/components.yaml")
    return file


def seeds_of(text: str) -> list[int]:
    """The seeds that `text` names by comma; raises `UserError`."""
    try:
        numbers = [int(item) for item in text.split(",")]
    except ValueError as error:
        raise UserError(f"--seeds {text} is not a list of whole numbers, for example 0,1,2") from error
    if len(set(numbers)) < len(numbers):
        raise UserError(f"--seeds {text} names a seed twice; equal runs would count as two")
    return numbers


def names_of(text: str) -> list[str]:
    """The names in `text`, by comma."""
    return [item.strip() for item in text.split(",") if item.strip()]
