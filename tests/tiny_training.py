"""Small simulated stores and run settings for the tests of folds, plans and training."""

from __future__ import annotations

from pathlib import Path

from data_pipeline.folds import Fold, FoldSettings, resolve_fold
from data_pipeline.plan import EpisodeSettings, Plan
from data_pipeline.settings import load
from data_pipeline.simulation import simulate
from data_pipeline.simulator_settings import SimulatorSettings
from data_pipeline.store import Store
from distributed.settings import RunSettings

PRESET = Path(__file__).resolve().parents[1] / "configs/simulate/tiny.yaml"
FOLD = {"test_line": "sim4", "valid_line": "sim3", "block": 1_000_000}
EPISODES = {"support": 8, "query": 16}
TINY_RUN = [
    *(f"fold.{key}={value}" for key, value in FOLD.items()),
    *(f"episodes.{key}={value}" for key, value in EPISODES.items()),
    "model.trunk.size=tiny",
    "engine.threads=1",
    "train.log_every=1",
    "scoring.support_draws=2",
]
"""Overrides of the command line that make a run on `tiny_store` take seconds."""


def tiny_store(path: Path, *overrides: str) -> Store:
    """The store of configs/simulate/tiny.yaml with `overrides`, made at `path`."""
    simulate(load(SimulatorSettings, [PRESET], overrides), path)
    return Store.open(path)


def tiny_fold(store: Store, **changes: object) -> Fold:
    return resolve_fold(store, FoldSettings.model_validate({**FOLD, **changes}))


def tiny_plan(store: Store, seed: int = 0, fold: Fold | None = None, **changes: object) -> Plan:
    return Plan(store, fold or tiny_fold(store), EpisodeSettings.model_validate({**EPISODES, **changes}), seed)


def tiny_settings(*overrides: str) -> RunSettings:
    """Settings of a run on `tiny_store` that takes seconds; `overrides` as on the command line."""
    return load(RunSettings, overrides=[*TINY_RUN, *overrides])
