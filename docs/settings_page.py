"""Write docs/settings.md and configs/known_keys.txt from the settings themselves: `python docs/settings_page.py`.

Every branch of every tree that a user can set becomes one table, in the order of declaration: key, type, default,
range and meaning. Nothing on the page is written by hand, so it cannot say anything the code does not do. Takes the
seconds that importing the trees takes.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from data_pipeline.settings import Settings, keys_of, search_range
from data_pipeline.simulator import SimulatorSettings
from data_pipeline.sources import StoreSettings
from distributed.settings import RunSettings
from tune.ablation import AblationSettings
from tune.search_space import SearchSettings

TREES: dict[str, tuple[type[Settings], str]] = {
    "Training": (
        RunSettings,
        "Read by `distributed/train.py` and, as what all trials share, by `tune/search.py`; stored in the `run.json` "
        "of a run. Presets: `configs/train/`.",
    ),
    "Search": (SearchSettings, "Read by `tune/search.py --space`. Presets: `configs/search/`."),
    "Ablation": (AblationSettings, "Read by `tune/ablate.py --variants`. Files: `configs/ablation/`."),
    "Store": (
        StoreSettings,
        "The description that `data_pipeline/ingest.py` reads; [data.md](data.md) shows it in use. Examples: "
        "`configs/stores/`.",
    ),
    "Simulated store": (SimulatorSettings, "Read by `data_pipeline/simulate.py`. Presets: `configs/simulate/`."),
}
"""Title, tree and where it is used, in the order of the page."""

PAGE = Path(__file__).with_name("settings.md")
KEYS = Path(__file__).resolve().parents[1] / "configs/known_keys.txt"
"""Keys of runs and searches, for commands that answer before they import what declares them."""

TERMS = "objective.terms"
"""Branch whose keys are not listed: a loss term is in it as soon as it is in the registry."""

INTRODUCTION = """\
# Settings

*This page is made by `python docs/settings_page.py`; a test compares the two.*

Settings are read from YAML files (`--config`, later ones win) and then from `key.sub=value` words on the command line:
`model.trunk.size=tiny optimiser.lr=1e-3`. An unknown key or a value out of range is an error that names the key. Each
table below is one branch; its heading is the key of the branch, and `NAME` and `[]` in it stand for a name of your own
and for an entry of a list. A dash in the column of defaults marks a key that must be given.
"""

_BOUNDS = {annotated_types.Gt: ("gt", ">"), annotated_types.Ge: ("ge", "≥"), annotated_types.Lt: ("lt", "<"),
           annotated_types.Le: ("le", "≤"), annotated_types.MultipleOf: ("multiple_of", "multiple of"),
           annotated_types.MinLen: ("min_length", "entries ≥")}  # fmt: skip


def page() -> str:
    """The whole page as Markdown."""
    parts = [INTRODUCTION]
    for title, (tree, where) in TREES.items():
        parts.append(f"## {title}\n\n{where}\n")
        parts.extend(_branches(tree, _default_instance(tree), ""))
    return "\n".join(parts)


def _branches(tree: type[Settings], defaults: Settings | None, key: str) -> Iterator[str]:
    """The table of `tree`, whose place is `key`, and then those of its branches."""
    rows, below = [], []
    for name, field in tree.model_fields.items():
        value = getattr(defaults, name) if defaults is not None else field.get_default(call_default_factory=True)
        place = f"{key}.{name}" if key else name
        branches = list(_subtrees(field.annotation, place))
        below += [_branches(cls, value if type(value) is cls else _default_instance(cls), at) for at, cls in branches]
        if not (branches and isinstance(value, Settings)):
            rows.append(_row(name, field, value, search_range(tree, name) or {}))
    if rows:
        heading = f"### `{key}`\n\n" if key else ""
        table = ["| key | type | default | range | meaning |", "| --- | --- | --- | --- | --- |", *rows]
        yield f"{heading}{_sentence(tree.__doc__)}\n\n" + "\n".join(table) + "\n"
    for branch in below:
        yield from branch


def _subtrees(annotation: Any, place: str) -> Iterator[tuple[str, type[Settings]]]:
    """The settings classes inside a type, each with its key."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield place + _chosen_by(annotation), annotation
    elif origin is list:
        yield from _subtrees(arguments[0], f"{place}[]")
    elif origin is dict:
        yield from _subtrees(arguments[1], f"{place}.NAME")
    elif origin is Annotated:
        yield from _subtrees(arguments[0], place)
    elif origin in (Union, types.UnionType):
        for argument in arguments:
            yield from _subtrees(argument, place)


def _chosen_by(tree: type[Settings]) -> str:
    """How one of several classes at the same place is chosen, as ` (format: csv)`."""
    fields = tree.model_fields.items()
    fixed = {name: get_args(field.annotation) for name, field in fields if get_origin(field.annotation) is Literal}
    return "".join(f" ({name}: {values[0]})" for name, values in fixed.items() if len(values) == 1)


def _default_instance(tree: type[Settings]) -> Settings | None:
    return None if any(field.is_required() for field in tree.model_fields.values()) else tree.model_construct()


def _row(name: str, field: FieldInfo, value: Any, searched: dict[str, Any]) -> str:
    meaning = _sentence(field.description)
    if "low" in searched:
        logarithmic = " (log)" if searched["log"] else ""
        meaning += f" Searched from {searched['low']:g} to {searched['high']:g}{logarithmic}."
    cells = (f"`{name}`", _type(field.annotation), _value(value), _range(field), meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{_plain(value)}`" for value in arguments)
    if origin is Annotated:
        return _type(arguments[0])
    if origin in (Union, types.UnionType):
        names = dict.fromkeys(_type(argument) for argument in arguments)
        return " or ".join(names)
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"{_type(arguments[1])} per {_type(arguments[0])}"
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return "branch"
    return {int: "whole number", float: "number", str: "text", bool: "true or false"}.get(annotation, str(annotation))


def _value(value: Any) -> str:
    return "–" if value is PydanticUndefined or value is ... else f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    """`value` as YAML writes it in one line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_plain, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_plain(item)}" for key, item in value.items()) + "}"
    return str(value) if value != "" else '""'


def _range(field: FieldInfo) -> str:
    bounds = [(kind, item) for item in field.metadata for kind in _BOUNDS if type(item) is kind]
    return ", ".join(f"{_BOUNDS[kind][1]} {getattr(item, _BOUNDS[kind][0]):g}" for kind, item in bounds)


def known_keys() -> str:
    """Every key of a run, and `search.` with every key of a search, on a line of its own.

    `.*` follows one whose entries have names of the user's own, or that grows by a line of a registry (loss terms).
    """
    trees: dict[str, type[Settings]] = {"": RunSettings, "search.": SearchSettings}
    found = {prefix + key: _annotation(tree, key) for prefix, tree in trees.items() for key in keys_of(tree)}
    kept = {key: own for key, own in found.items() if not key.startswith(f"{TERMS}.")}
    return "".join(f"{key}{'.*' * (get_origin(own) is dict or key == TERMS)}\n" for key, own in kept.items())


def _annotation(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.model_fields[part].annotation
    return tree


def main(
    out: Annotated[Path, typer.Option(help="Where to write the page.")] = PAGE,
    keys: Annotated[Path, typer.Option(help="Where to write the list of keys.")] = KEYS,
) -> None:
    """Write the page of all settings, and the list of keys."""
    out.write_text(page(), encoding="utf-8")
    keys.write_text(known_keys(), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
