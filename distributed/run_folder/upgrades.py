"""What earlier versions wrote into runs and exports, as this version reads it.

A run and an export hold the whole tree of settings, so a key that moves would make them all unreadable. Only reading is
meant: a run is resumed by the version that began it, whose episodes and steps are known to be the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COMPETITION = ("pull", "push", "start")
"""Keys of `model.competition` until 0.1.0; in 0.2.0 they are weights and starts below `objective`."""


def upgraded_run(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run of 0.1.0 or later as this version has them; others come back as they are."""
    moved, objective = _branch(_branch(settings, "model"), "competition"), _branch(settings, "objective")
    terms = {name: {"weight": moved[name], "start": moved.get("start")} for name in ("pull", "push") if name in moved}
    if not terms:
        return dict(settings)
    return {
        **settings,
        "model": upgraded_model(settings["model"]),
        "objective": {**objective, "terms": {**_branch(objective, "terms"), **terms}},
    }


def upgraded_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a model of 0.1.0 or later as this version has them: what only training read is gone."""
    if not isinstance(model.get("competition"), Mapping):
        return dict(model)
    return {**model, "competition": {k: v for k, v in model["competition"].items() if k not in COMPETITION}}


def _branch(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The branch `name`; empty where there is none or something else, which the settings' own checks then name."""
    found = tree.get(name)
    return found if isinstance(found, Mapping) else {}
