"""What an ablation compares: named variants of one base run, read from a YAML file.

    variants:
      - name: one-channel
        description: K = 1, a single gate.
        overrides: [model.energy.channels=1]

A variant changes the base settings by presets and overrides, in the same words as the command line of
distributed/train.py. What decides how a variant is judged or how it is run (fold, seed, scoring, workers, engine) is
common to all: a variant that touches it is refused, because its difference would mean nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from data_pipeline.errors import UserError
from data_pipeline.settings import Settings, load
from data_pipeline.store import Store
from distributed.settings import RunSettings
from model.terms import TERMS
from tune.command_words import variants_file
from tune.identity import flat
from tune.search_space import NEVER_SEARCHED

DEFAULT = "default"
"""Name of the base settings among the variants."""
COMMON = (*(f"{branch}." for branch in NEVER_SEARCHED), "train.seed")
"""Settings that no variant may change."""
PRESETS = Path(__file__).resolve().parents[2] / "configs"

Need = Literal["signals", "line_features", "sequences", "landscapes"]
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")


class Variant(Settings):
    """One row of an ablation."""

    name: str
    """Its name in tables and in the names of runs: letters, digits, '_' and '-', 40 at most."""
    description: str = ""
    """What is different, for a reader of the table."""
    presets: list[str] = Field(default_factory=list)
    """YAML presets of runs laid over the base, as paths below configs/ or from the working folder."""
    overrides: list[str] = Field(default_factory=list)
    """Settings as key=value, over base and presets."""
    needs: list[Need] = Field(default_factory=list)
    """What the store must have for the variant to differ; without it the variant is left out and says so."""
    against: str = DEFAULT
    """Variant that the differences are taken to."""

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not _NAME.match(name) or name == DEFAULT:
            raise ValueError(f"may have letters, digits, '_' and '-', 40 at most, and is not '{DEFAULT}'")
        return name


class AblationSettings(Settings):
    """The variants of an ablation; the base itself is always run beside them."""

    variants: list[Variant] = Field(default_factory=list)
    """In the order of the table."""
    terms: bool = False
    """After them, every loss term off (`no-NAME`) and on (`NAME`), one at a time, where no variant has that name."""

    @model_validator(mode="after")
    def _distinct(self) -> AblationSettings:
        if not self.rows():
            raise ValueError("nothing to compare: name variants or set terms: true")
        names = [variant.name for variant in self.variants]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two variants are called '{twice[0]}'")
        for variant in self.variants:
            if variant.against not in (DEFAULT, *names) or variant.against == variant.name:
                raise ValueError(f"variant '{variant.name}' is against '{variant.against}', which is no other variant")
        return self

    def rows(self) -> list[Variant]:
        """The variants, and those that `terms` stands for."""
        named = {variant.name for variant in self.variants}
        derived = [row for switch in ("false", "true") for row in _term_rows(switch)] if self.terms else []
        return [*self.variants, *(row for row in derived if row.name not in named)]


def _term_rows(switch: str) -> list[Variant]:
    rows = []
    for name, term in TERMS.items():
        if term.family != "monitor":
            told = ("" if switch == "true" else "without: ") + term.summary[0].lower() + term.summary[1:].rstrip(".")
            overrides = [f"objective.terms.{name}.on={switch}"]
            rows.append(Variant(name=name if switch == "true" else f"no-{name}", description=told, overrides=overrides))
    return rows


def distinct(variants: Sequence[Variant], settings: Mapping[str, RunSettings]) -> list[Variant]:
    """`variants` without those rows of `terms: true` that are what they are compared to; `settings` are by name."""
    derived = [row for switch in ("false", "true") for row in _term_rows(switch)]
    return [own for own in variants if own not in derived or settings[own.name] != settings[own.against]]


def load_variants(file: Path, only: Sequence[str] = ()) -> list[Variant]:
    """The variants in `file`, or those named in `only` with what they are compared to; raises `UserError`."""
    variants_file(file)
    variants = {variant.name: variant for variant in load(AblationSettings, [file]).rows()}
    unknown = [name for name in only if name not in variants and name != DEFAULT]
    if unknown:
        raise UserError(f"{file} has no variant '{unknown[0]}'; it has {', '.join(variants)}")
    wanted = set(only) or set(variants)
    while more := {variants[name].against for name in wanted if name in variants} - wanted - {DEFAULT}:
        wanted |= more
    return [variant for variant in variants.values() if variant.name in wanted]


def resolve(variant: Variant | None, config: Sequence[Path], overrides: Sequence[str]) -> RunSettings:
    """Run settings of `variant` over the base that `config` and `overrides` give; None: the base itself.

    Raises `UserError` with the variant's name for keys and values that a run would not accept.
    """
    base = load(RunSettings, config, overrides)
    if variant is None:
        return base
    try:
        own = load(RunSettings, [*config, *map(_preset, variant.presets)], [*overrides, *variant.overrides])
    except UserError as error:
        raise UserError(f"variant '{variant.name}': {error}") from error
    for key in sorted(differences(base, own)):
        if key.startswith(COMMON):
            raise UserError(f"variant '{variant.name}' changes {key}, which all runs of an ablation share")
    return own


def differences(one: RunSettings, other: RunSettings) -> dict[str, tuple[Any, Any]]:
    """{dotted key: (value in one, value in other)} of the settings that differ."""
    old, new = flat(one.model_dump(mode="json")), flat(other.model_dump(mode="json"))
    keys = old.keys() | new.keys()
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def unmet(variant: Variant, store: Store) -> str:
    """Why `store` cannot show the difference `variant` makes; empty if it can."""
    has = {
        "signals": bool(store.signal_names),
        "line_features": store.line_features.shape[1] > 0,
        "landscapes": bool(store.landscape_names),
        "sequences": 0 not in (store.enhancers.length, store.promoters.length),
    }
    missing = [need.replace("_", " ") for need in variant.needs if not has[need]]
    return f"the store has no {' and no '.join(missing)}" if missing else ""


def _preset(name: str) -> Path:
    own = PRESETS / name
    return own if own.is_file() else Path(name)
