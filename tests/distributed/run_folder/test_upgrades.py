"""Runs of earlier versions are read: what their settings said is said where it stands now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_models import tiny_run
from tiny_training import tiny_settings, tiny_store

from data_pipeline.settings import validate
from distributed.run_folder.checkpoint import read_state
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


def test_a_checkpoint_of_0_1_0_is_read_with_them(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "store")
    run = tiny_run(tmp_path, store)
    (checkpoint,) = run.glob("checkpoint_*")
    file = checkpoint / "state.json"
    content = json.loads(file.read_text())
    content["settings"] = as_of_0_1_0(pull=0.25, push=0.75, start=1.5)
    file.write_text(json.dumps(content))
    settings = validate(RunSettings, read_state(checkpoint).settings, "state.json")
    assert settings.objective.walled()["push"].begins == 1.5


def test_what_this_version_wrote_comes_back_as_it_is() -> None:
    now = tiny_settings("objective.terms.push.weight=0.1").model_dump(mode="json")
    assert upgraded_run(now) == now
    assert upgraded_model(now["model"]) == now["model"]
    for damaged in ({}, {"model": 3}, {"model": {"competition": None}, "objective": []}):
        assert upgraded_run(damaged) == damaged
