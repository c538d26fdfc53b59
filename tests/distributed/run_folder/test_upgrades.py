"""Runs of earlier versions are read: what their settings said is said where it stands now."""

from __future__ import annotations

from typing import Any

from tiny_training import tiny_settings

from data_pipeline.settings import validate
from distributed.run_folder.upgrades import upgraded_model, upgraded_run
from distributed.settings import RunSettings


def as_of_0_1_0(**competition: float) -> dict[str, Any]:
    """Settings of a run as 0.1.0 wrote them."""
    tree = tiny_settings().model_dump(mode="json")
    tree["model"]["competition"] |= competition
    tree["objective"]["terms"] = {
        name: {**own, "start": 2.0} for name, own in tree["objective"]["terms"].items() if name not in ("pull", "push")
    }
    del tree["objective"]["start"]
    return tree


def test_weights_and_start_of_the_competition_are_read_where_they_stand_now() -> None:
    old = as_of_0_1_0(pull=0.25, push=0.75, start=1.5)
    settings = validate(RunSettings, upgraded_run(old), "run.json")
    walled = settings.objective.walled()
    assert {name: (own.weight, own.begins) for name, own in walled.items()} == {
        "pull": (0.25, 1.5),
        "push": (0.75, 1.5),
    }
    assert {own.begins for own in settings.objective.policies().values()} == {2.0}
    assert old["model"]["competition"]["pull"] == 0.25
    assert settings.model == validate(RunSettings, tiny_settings().model_dump(mode="json"), "now").model


def test_what_this_version_wrote_comes_back_as_it_is() -> None:
    now = tiny_settings("objective.terms.push.weight=0.1").model_dump(mode="json")
    assert upgraded_run(now) == now
    assert upgraded_model(now["model"]) == now["model"]
    assert upgraded_run({}) == {}
