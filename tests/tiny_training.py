"""Small simulated stores and run settings for the tests of folds, plans and training."""

from __future__ import annotations

from pathlib import Path

from data_pipeline.folds import Fold, FoldSettings, resolve_fold
from data_pipeline.plan import EpisodeSettings, Plan
from data_pipeline.settings import load
from data_pipeline.simulate import simulate
from data_pipeline.simulator import SimulatorSettings
from data_pipeline.store import Store

PRESET = Path(__file__).resolve().parents[1] / "configs/simulate/tiny.yaml"
FOLD = {"test_line": "sim4", "valid_line": "sim3", "block": 1_000_000}
EPISODES = {"support": 8, "query": 16}


def tiny_store(path: Path, *overrides: str) -> Store:
    """The store of configs/simulate/tiny.yaml with `overrides`, made at `path`."""
    simulate(load(SimulatorSettings, [PRESET], overrides), path)
    return Store.open(path)


def tiny_fold(store: Store, **changes: object) -> Fold:
    return resolve_fold(store, FoldSettings.model_validate({**FOLD, **changes}))


def tiny_plan(store: Store, seed: int = 0, fold: Fold | None = None, **changes: object) -> Plan:
    return Plan(store, fold or tiny_fold(store), EpisodeSettings.model_validate({**EPISODES, **changes}), seed)
