"""What the words of this room's commands name, seen without the libraries that do the work."""

from __future__ import annotations

from pathlib import Path

from data_pipeline.errors import UserError

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
