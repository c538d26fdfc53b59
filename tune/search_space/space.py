"""The space a search walks through: which settings it varies, in which range, and how a point becomes run settings.

A space is a YAML file of `SearchSettings`: `terms: true` takes the weight of every loss term that is on, straight from
the registry of terms, and `parameters` names any other settings by their dotted key. Every range is tried against
`RunSettings` at both ends before anything is started, so a search cannot fail on its own space, and a setting that
cannot act in the runs is refused: a search would call it unimportant, and a prediction about it refuted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import Field, model_validator

from data_pipeline.errors import UserError
from data_pipeline.settings import Settings, load, validate
from distributed.settings import RunSettings
from model.balancing import STRENGTHS, acting_fields
from model.terms import WALLED, TermSettings, names_of
from tune.command_words import space_file

Point = dict[str, float | int | str | bool]
"""Value per dotted key of `RunSettings`."""

WEIGHT = ("weight", 0.02, 4.0)
RATIO = ("ratio", 0.1, 2.0)
"""Field of a loss term that is searched, and its log-uniform range (REQUIREMENTS C11)."""
TERM = "objective.terms."
COMPETITION = "model.competition."
"""Branch without which the losses of `WALLED` are not there."""
NEVER_SEARCHED = ("fold", "workers", "engine", "stream", "scoring")
"""Branches that decide what is held out, how it is scored or how it is run: trials must agree on them."""


class ParameterSettings(Settings):
    """Range of one setting: `low` and `high`, or `choices`."""

    low: float | None = None
    """Smallest value, in the unit of the setting."""
    high: float | None = None
    """Largest value; above `low`."""
    log: bool = False
    """Draw evenly on a log scale; needs `low` above 0."""
    integer: bool = False
    """Draw whole numbers only."""
    choices: list[bool | int | float | str] = Field(default_factory=list)
    """Values to choose from, at least two."""

    @model_validator(mode="after")
    def _one_kind(self) -> ParameterSettings:
        if self.choices:
            if self.low is not None or self.high is not None or self.log or self.integer:
                raise ValueError("give either choices or low and high, not both")
            if len(set(map(str, self.choices))) < max(2, len(self.choices)):
                raise ValueError("choices must be at least two different values")
            return self
        if self.low is None or self.high is None or self.low >= self.high:
            raise ValueError("give low and high with low below high, or choices")
        if self.log and self.low <= 0:
            raise ValueError("log: true needs low above 0")
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("integer: true needs whole low and high")
        return self

    def distribution(self) -> BaseDistribution:
        """The same as Optuna says it."""
        if self.choices:
            return CategoricalDistribution(self.choices)
        low, high = float(self.low or 0), float(self.high or 0)
        if self.integer:
            return IntDistribution(int(low), int(high), log=self.log)
        return FloatDistribution(low, high, log=self.log)


class SearchSettings(Settings):
    """What is searched, how, and with how much work."""

    terms: bool = False
    """Search the weight of every loss term that is on: `weight` in [0.02, 4], under balance.mode=gradnorm_ema the
    gradient `ratio` in [0.1, 2], log-uniform."""
    parameters: dict[str, ParameterSettings] = Field(default_factory=dict)
    """Further settings by dotted key, as `optimiser.lr: {low: 1.0e-4, high: 1.0e-2, log: true}`."""
    sampler: Literal["tpe", "sobol", "random"] = "tpe"
    """`tpe` goes where results are good; `sobol` fills the space evenly, which regions and importances need."""
    startup: int = Field(8, ge=1)
    """Random trials before `tpe` begins to learn."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Fixes the points; the runs have their own `train.seed`, the same in all trials."""
    trials: int = Field(32, ge=1, le=100_000)
    """Trials in all, stopped and failed ones included."""
    folds: int = Field(0, ge=0)
    """Inner folds per trial; 0: every line but the test line is the validation line once."""
    early_stop: bool = True
    """Stop trials that are behind after a fold (asynchronous successive halving)."""
    grace: int = Field(1, ge=1)
    """Folds before a trial may be stopped."""
    reduction: int = Field(2, ge=2, le=16)
    """One in this many trials goes on from a rung; rungs are at grace, grace * reduction, ... folds."""

    @model_validator(mode="after")
    def _not_empty(self) -> SearchSettings:
        if not self.terms and not self.parameters:
            raise ValueError("nothing to search: set terms: true or name parameters")
        return self


def load_space(space: str, overrides: list[str]) -> SearchSettings:
    """The settings of a space: the name of a preset in configs/search, or a YAML file; raises `UserError`."""
    return load(SearchSettings, [space_file(space)], overrides)


def distributions(search: SearchSettings, base: RunSettings) -> dict[str, BaseDistribution]:
    """Range per dotted key, sorted by key; raises `UserError` for keys and values that a run would not accept."""
    found = {key: own.distribution() for key, own in search.parameters.items()}
    if search.terms:
        found |= _term_weights(base)
    for key, distribution in found.items():
        if key.split(".")[0] in NEVER_SEARCHED:
            raise UserError(f"'{key}' cannot be searched: trials that differ in it cannot be compared")
        for value in _ends(distribution):
            apply(base, {key: value})
    for key, distribution in found.items():
        if reason := without_effect(key, _ends(distribution), base, found.keys()):
            raise UserError(f"a search of '{key}' would find nothing: {reason}")
    return dict(sorted(found.items()))


def apply(base: RunSettings, point: Point) -> RunSettings:
    """`base` with the values of `point`; raises `UserError` that names the key."""
    tree = base.model_dump(mode="json")
    for key, value in point.items():
        *branches, leaf = key.split(".")
        node: Any = tree
        for branch in branches:
            node = node.setdefault(branch, {})
            if not isinstance(node, dict):
                raise UserError(f"search space: unknown key '{key}', because '{branch}' has no keys below it")
        node[leaf] = value
    return validate(RunSettings, tree, "search space")


def searched_terms(search: SearchSettings, base: RunSettings) -> dict[str, TermSettings]:
    """Terms of which something is searched, by name; those that a point may switch on are among them."""
    named = {key.split(".")[2] for key in search.parameters if key.startswith(TERM)}
    terms = base.objective.policies()
    return {name: own for name, own in terms.items() if name in named or (search.terms and own.on)}


def without_effect(key: str, values: Sequence[Any], base: RunSettings, searched: Collection[str]) -> str:
    """Why no run of `base` would feel which of `values` the setting `key` has; empty if it would.

    What is `searched` itself may differ from the base, so nothing is concluded from it.
    """
    if key.startswith(TERM) and key.split(".")[2] in WALLED:
        return _switched_off(f"{COMPETITION}weight", base, searched)
    return _switched_off(key, base, searched) or _unread(key, values, base, searched)


def _switched_off(key: str, base: RunSettings, searched: Collection[str]) -> str:
    node: Any = base
    *branches, _ = key.split(".")
    for depth, branch in enumerate(branches, 1):
        node = getattr(node, branch, None)
        switch = ".".join([*branches[:depth], "on"])
        if getattr(node, "on", True) is False and switch not in {key, *searched}:
            return f"{switch} is false; set {switch}=true"
    return ""


def _unread(key: str, values: Sequence[Any], base: RunSettings, searched: Collection[str]) -> str:
    """What the balance mode reads of a term, and a weight above its cap."""
    mode, (*_, leaf) = base.objective.balance.mode, key.split(".")
    if not key.startswith(TERM) or leaf not in STRENGTHS:
        return ""
    if leaf not in acting_fields(mode) and "objective.balance.mode" not in searched:
        read = " and ".join(sorted(acting_fields(mode))) or "no field that says how strong a term is"
        return f"objective.balance.mode={mode} does not read it, it reads {read}"
    cap = key.removesuffix(leaf) + "cap"
    most = getattr(base.objective.terms, key.split(".")[2]).cap
    if leaf == "weight" and max(values) > most and cap not in searched:
        return f"{cap} is {most:g}, and a weight above it acts as {most:g}; raise the cap or lower the weights"
    return ""


def _term_weights(base: RunSettings) -> dict[str, BaseDistribution]:
    mode = base.objective.balance.mode
    found = _walled_weights(base)
    if not acting_fields(mode):
        if found:
            return found
        raise UserError(f"there is no weight to search: objective.balance.mode={mode} reads none")
    field, low, high = RATIO if "ratio" in acting_fields(mode) else WEIGHT
    for name, own in base.objective.policies().items():
        if own.on and name not in names_of("monitor"):
            # Above its cap a weight has no effect, and the search would see a flat stretch.
            top = min(high, own.cap) if field == "weight" else high
            if top <= low:
                raise UserError(
                    f"objective.terms.{name}.cap is {own.cap:g}; a search of its weight needs more than {low}"
                )
            found[f"objective.terms.{name}.{field}"] = FloatDistribution(low, top, log=True)
    if not found:
        raise UserError("no loss term is on, so there is no weight to search; switch one on with objective.terms")
    return found


def _walled_weights(base: RunSettings) -> dict[str, BaseDistribution]:
    """The weights that no balance mode touches, where there is a competition."""
    if not base.model.competition.on:
        return {}
    _, low, high = WEIGHT
    # push may not be above 1.
    tops = {"pull": high, "push": 1.0}
    return {f"{TERM}{name}.weight": FloatDistribution(low, tops[name], log=True) for name in WALLED}


def _ends(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution | FloatDistribution):
        return [distribution.low, distribution.high]
    raise TypeError(f"no ends known of {distribution}")
