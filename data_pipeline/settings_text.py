"""The text of settings, in files and on the command line: YAML 1.2 in which the field's type decides what a word is.

Where a field takes text, text is what is written: 5637, 1e5, on and 2024-01-01 stay the words they are (YAML's null
stays null), and the value of an override is not parsed, unless it stands in quotes from end to end. Elsewhere the rules
of YAML 1.2 hold. Whatever else can be wrong with a file or a word ends in one sentence.
"""

from __future__ import annotations

import difflib
import io
import types
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from data_pipeline.errors import UserError

LARGEST_MIB = 4
"""Settings are written by hand; a larger file is something else."""
_TEXT, _NULL, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("str", "null", "merge"))

MOVED = {
    "model.competition.pull": "objective.terms.pull.weight",
    "model.competition.push": "objective.terms.push.weight",
    "model.competition.start": "objective.terms.pull.start and objective.terms.push.start",
}
"""Keys that earlier versions had, and where they are."""

Types = tuple[Any, ...]
"""The types that a place in the tree may have; empty: unknown."""


def read_file(cls: type[BaseModel], path: Path) -> dict[str, Any]:
    """The tree in the YAML file `path`, read as settings of type `cls`; empty for an empty file. Raises `UserError`."""
    content = _content(path)
    try:
        tree = _parsed(content, (cls,))
    except _UNREADABLE as error:
        raise UserError(f"settings file {path} is not valid YAML: {_told(error)}") from error
    if not isinstance(tree, dict | None):
        raise UserError(f"settings file {path} must hold 'key: value' lines, not a list or a single value")
    return tree or {}


def read_override(cls: type[BaseModel], override: str) -> tuple[str, Any]:
    """(dotted key, value) of a `key=value` for settings of type `cls`; raises `UserError`."""
    key, equals, text = override.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise UserError(f"override '{override}' is not of the form key=value, for example optimiser.lr=1e-3")
    expected: Types = (cls,)
    for part in key.split("."):
        expected = tuple(_under(expected, part))
    if _takes_text(expected) and not _is_quoted(text):
        return key, (None if type(None) in expected and text in ("null", "~", "") else text)
    try:
        return key, _parsed(text, expected)
    except _UNREADABLE as error:
        raise UserError(f"override '{override}' cannot be read: {_told(error)}") from error


def require_settings_text(files: Sequence[Path], overrides: Sequence[str] = ()) -> None:
    """Raise `UserError` for what cannot be settings of any kind: no file, no YAML, no key=value."""
    for file in files:
        read_file(BaseModel, file)
    for override in overrides:
        read_override(BaseModel, override)


def require_known_keys(known: Collection[str], files: Sequence[Path], overrides: Sequence[str] = ()) -> None:
    """Raise `UserError` for keys in `files` and `overrides` that are not `known`, before what declares them is there.

    `known` are dotted keys; one that ends in `.*` stands for names of the user's own.
    """
    given = [key for file in files for key in _dotted(read_file(BaseModel, file))]
    given += [override.partition("=")[0] for override in overrides]
    unknown = [key for key in dict.fromkeys(given) if not _is_known(key, known)]
    if unknown:
        named = ", ".join(map(str, files))
        where = f"{named} and the command line" if named and overrides else named or "settings"
        raise UserError(f"{where}: " + "; ".join(unknown_key(key, known) for key in unknown))


def unknown_key(key: str, known: Collection[str]) -> str:
    """What to say of a key that is not among those `known`."""
    if key in MOVED:
        return f"unknown key '{key}', it is {MOVED[key]} now"
    near = difflib.get_close_matches(key, sorted(name.removesuffix(".*") for name in known), n=1)
    return f"unknown key '{key}'" + (f", did you mean '{near[0]}'?" if near else "; see docs/settings.md for the keys")


def _is_known(key: str, known: Collection[str]) -> bool:
    parts = key.split(".")
    return key in known or any(".".join([*parts[:depth], "*"]) in known for depth in range(1, len(parts)))


def _dotted(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Keys of the leaves of `tree`, and of branches that hold nothing."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def yaml_text(tree: dict[str, Any]) -> bytes:
    """`tree` as a YAML file that `read_file` reads back, in UTF-8, keys in their order."""
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False
    stream = io.BytesIO()
    yaml.dump(tree, stream)
    return stream.getvalue()


class _UnusableError(ValueError):
    """Valid YAML that settings do not take."""


_UNREADABLE = (YAMLError, UnicodeError, RecursionError, ValueError, TypeError)
"""What the parser raises; the last two come from values such as the 31st of February and keys that are lists."""


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_MIB * 2**20 + 1)
    except FileNotFoundError as error:
        raise UserError(f"settings file {path} does not exist") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"settings file {path} cannot be read: {reason}") from error
    if len(content) > LARGEST_MIB * 2**20:
        raise UserError(f"settings file {path} is larger than {LARGEST_MIB} MiB and is no file of settings")
    return content


def _parsed(text: str | bytes, expected: Types) -> Any:
    yaml = YAML(typ="safe", pure=True)
    root = yaml.compose(text)
    if root is None:
        return None
    if isinstance(text, str) and text[root.end_mark.index :].lstrip().startswith("#"):
        raise _UnusableError("what follows the # would be a comment; leave it out")
    _make_text(root, expected, set(), ())
    return yaml.constructor.construct_document(root)


def _make_text(node: Node, expected: Types, done: set[tuple[int, Types]], inside: Sequence[Node]) -> None:
    """Let the plain words below `node` be text where the `expected` types take nothing else."""
    if any(node is outer for outer in inside):
        raise _UnusableError(f"an anchor stands inside itself (line {node.start_mark.line + 1})")
    if (id(node), expected) in done:
        return
    done.add((id(node), expected))
    if isinstance(node, ScalarNode):
        if node.style is None and node.tag != _NULL and _takes_text(expected):
            node.tag = _TEXT
    elif isinstance(node, SequenceNode):
        for item in node.value:
            _make_text(item, tuple(_under(expected, None)), done, (*inside, node))
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            merged = key.tag == _MERGE
            if isinstance(key, ScalarNode) and not merged:
                key.tag = _TEXT
            below = expected if merged else tuple(_under(expected, getattr(key, "value", None)))
            _make_text(value, below, done, (*inside, node))


def _under(expected: Types, key: str | None) -> Iterator[Any]:
    """The types of what stands under `key` (None: of an item) where one of the `expected` types is."""
    for own in expected:
        if isinstance(own, type) and issubclass(own, BaseModel):
            if key in own.model_fields:
                yield from _alternatives(own.model_fields[key].annotation)
        elif get_origin(own) is dict and key is not None:
            yield from _alternatives(get_args(own)[1])
        elif get_origin(own) in (list, tuple) and key is None:
            yield from _alternatives(get_args(own)[0])


def _alternatives(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _alternatives(part)
    else:
        yield annotation


def _is_quoted(text: str) -> bool:
    """Whether `text` is one word in YAML's quotes."""
    if text[:1] not in ("'", '"') or text[-1:] != text[:1]:
        return False
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except YAMLError:
        return False
    return isinstance(node, ScalarNode) and node.end_mark.index == len(text)


def _takes_text(expected: Types) -> bool:
    """Whether values of the `expected` types are text, or null, and nothing else."""
    own = [part for part in expected if part is not type(None)]
    return bool(own) and all(
        part is str or (get_origin(part) is Literal and all(isinstance(word, str) for word in get_args(part)))
        for part in own
    )


def _told(error: Exception) -> str:
    """A parser's complaint on one line, with the place where it knows it."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} (line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1})"
    return " ".join(str(error).split())
