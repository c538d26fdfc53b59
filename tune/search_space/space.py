"""The space a search walks through: which settings it varies, in which range, and how a point becomes run settings.

A space is a YAML file of `SearchSettings`: `run` switches on what it is about, `terms: true` takes the weight of every
loss term that is on, straight from the registry of terms, and `parameters` names any other settings by their dotted
key. A parameter without a range has the one its owner declares beside the field (`searched` in data_pipeline/settings).
Every range is tried against `RunSettings` at both ends before anything is started, so a search cannot fail on its own
space, and a setting that cannot act in the runs is refused: a search would call it unimportant, and a prediction about
it refuted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from data_pipeline.errors import UserError
from data_pipeline.settings import search_range, validate
from distributed.settings import RunSettings
from model.balancing import BALANCERS, STRENGTHS, acting_fields
from model.terms import WALLED, TermSettings, names_of
from tune.search_space.settings import ParameterSettings, SearchSettings

Point = dict[str, float | int | str | bool]
"""Value per dotted key of `RunSettings`."""

TERM, BALANCE, MODE = "objective.terms.", "objective.balance.", "objective.balance.mode"
COMPETITION = "model.competition."
"""Branch without which the losses of `WALLED` are not there."""
NEVER_SEARCHED = ("fold", "workers", "engine", "stream", "scoring")
"""Branches that decide what is held out, how it is scored or how it is run: trials must agree on them."""


def distributions(search: SearchSettings, base: RunSettings) -> dict[str, BaseDistribution]:
    """Range per dotted key, sorted by key; raises `UserError` for keys and values that a run would not accept."""
    found = {key: range_of(key, own) for key, own in search.parameters.items()}
    if search.terms:
        found |= _term_weights(base)
    for key, distribution in found.items():
        if key.split(".")[0] in NEVER_SEARCHED:
            raise UserError(f"'{key}' cannot be searched: trials that differ in it cannot be compared")
        for value in _ends(distribution):
            for under in _under(key, search, base):
                apply(under, {key: value})
    for key, distribution in found.items():
        for under in _under(key, search, base):
            if reason := without_effect(key, _ends(distribution), under, found.keys()):
                raise UserError(f"a search of '{key}' would find nothing: {reason}")
    # What others wait for comes first, because a point is drawn in this order.
    return dict(sorted(found.items(), key=lambda item: (bool(conditions(search).get(item[0])), item[0])))


def range_of(key: str, own: ParameterSettings) -> BaseDistribution:
    """The range of the setting `key` as Optuna says it; raises `UserError` where nothing says what it is."""
    if own.is_declared:
        return _declared(key)
    if own.choices:
        return CategoricalDistribution(own.choices)
    low, high = float(own.low or 0), float(own.high or 0)
    if own.integer:
        return IntDistribution(int(low), int(high), log=own.log)
    return FloatDistribution(low, high, log=own.log)


def conditions(search: SearchSettings) -> dict[str, dict[str, list[Any]]]:
    """{key: {other key: values under which it is searched}} of the keys that are not searched in every trial."""
    return {key: own.when for key, own in search.parameters.items() if own.when}


def is_searched(key: str, point: Mapping[str, Any], waits: Mapping[str, Mapping[str, Sequence[Any]]]) -> bool:
    """Whether a trial whose `point` has the values that `key` waits for varies it."""
    return all(point.get(other) in values for other, values in waits.get(key, {}).items())


def base_point(space: Mapping[str, BaseDistribution], search: SearchSettings, base: RunSettings) -> Point | None:
    """The searched settings as the runs have them; None where one of them lies outside the space."""
    point: Point = {}
    for key, own in space.items():
        if not is_searched(key, point, conditions(search)):
            continue
        value: Any = base
        for name in key.split("."):
            value = getattr(value, name)
        if not own._contains(own.to_internal_repr(value)):
            return None
        point[key] = value
    return point


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

    What is `searched` itself may differ from the base, so nothing is concluded from it; `base` has the values that the
    key waits for.
    """
    if key.startswith(TERM) and key.split(".")[2] in WALLED:
        return _switched_off(f"{COMPETITION}weight", base, searched)
    return _switched_off(key, base, searched) or _unread(key, values, base, searched)


def _under(key: str, search: SearchSettings, base: RunSettings) -> Iterator[RunSettings]:
    """`base` as the trials have it that search `key`."""
    waits = conditions(search).get(key, {})
    for values in product(*waits.values()):
        yield apply(base, dict(zip(waits, values, strict=True)))


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
    if key.startswith(BALANCE) and key != MODE and leaf not in BALANCERS[mode].settings:
        return f"{MODE}={mode} does not read it{_wait(key, leaf, searched)}"
    if not key.startswith(TERM) or leaf not in STRENGTHS:
        return ""
    if leaf not in acting_fields(mode):
        read = " and ".join(sorted(acting_fields(mode))) or "no field that says how strong a term is"
        return f"{MODE}={mode} does not read it, it reads {read}{_wait(key, leaf, searched)}"
    cap = key.removesuffix(leaf) + "cap"
    most = getattr(base.objective.terms, key.split(".")[2]).cap
    if leaf == "weight" and max(values) > most and cap not in searched:
        return f"{cap} is {most:g}, and a weight above it acts as {most:g}; raise the cap or lower the weights"
    return ""


def _wait(key: str, leaf: str, searched: Collection[str]) -> str:
    """How a setting that some modes read is searched where the mode is."""
    if MODE not in searched:
        return ""
    readers = [mode for mode, rule in BALANCERS.items() if leaf in (*rule.reads, *rule.settings)]
    return f"; search it under the modes that do, with when: {{{MODE}: [{', '.join(readers)}]}}"


def _term_weights(base: RunSettings) -> dict[str, BaseDistribution]:
    mode = base.objective.balance.mode
    found = _walled_weights(base)
    if not acting_fields(mode):
        if found:
            return found
        raise UserError(f"there is no weight to search: objective.balance.mode={mode} reads none")
    field = "ratio" if "ratio" in acting_fields(mode) else "weight"
    for name, own in base.objective.policies().items():
        if own.on and name not in names_of("monitor"):
            key = f"{TERM}{name}.{field}"
            found[key] = _below_cap(key, own.cap) if field == "weight" else _declared(key)
    if not found:
        raise UserError("no loss term is on, so there is no weight to search; switch one on with objective.terms")
    return found


def _below_cap(key: str, cap: float) -> BaseDistribution:
    """The declared range of a weight, but not above its cap, where the search would see a flat stretch."""
    whole = _declared(key)
    assert isinstance(whole, FloatDistribution)
    if cap <= whole.low:
        raise UserError(
            f"{key.removesuffix('weight')}cap is {cap:g}; a search of its weight needs more than {whole.low:g}"
        )
    return FloatDistribution(whole.low, min(whole.high, cap), log=whole.log)


def _walled_weights(base: RunSettings) -> dict[str, BaseDistribution]:
    """The weights that no balance mode touches, where there is a competition."""
    return {key: _declared(key) for key in map("objective.terms.{}.weight".format, WALLED) if base.model.competition.on}


def _declared(key: str) -> BaseDistribution:
    """The range that the owner of the setting `key` declares; raises `UserError`."""
    declared = search_range(RunSettings, key)
    if declared is None:
        raise UserError(
            f"'{key}' declares no range to search: give low and high, or choices (docs/settings.md says which do)"
        )
    return range_of(key, ParameterSettings.model_validate(declared))


def _ends(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution | FloatDistribution):
        return [distribution.low, distribution.high]
    raise TypeError(f"no ends known of {distribution}")
