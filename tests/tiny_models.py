"""A run whose one checkpoint holds a freshly initialised model, and its export: made in a second, without training."""

from __future__ import annotations

import json
from pathlib import Path

from tiny_training import EPISODES, FOLD

from data_pipeline.folds import resolve_fold
from data_pipeline.settings import validate
from data_pipeline.store import Store
from distributed.assembly import build_module
from distributed.checkpoint import Identity, TrainingState, save_checkpoint
from distributed.runs import claim
from distributed.settings import RunSettings

CALIBRATION = {"temperature": 2.0, "bias": -0.5, "threshold": 0.4, "criterion": "mcc"}


def tiny_run(runs: Path, store: Store, name: str = "tiny", fold: dict[str, str] | None = None, **model: object) -> Path:
    """Run `name` trained on `store` for no step at all; `fold` changes its lines, `model` are settings of the model."""
    settings = validate(
        RunSettings,
        {"fold": {**FOLD, **(fold or {})}, "episodes": EPISODES, "model": {"trunk": {"size": "tiny"}, **model}},
        "tiny run",
    )
    resolved = resolve_fold(store, settings.fold)
    run = claim(runs, name, False, store.path, store.checksum, settings)
    state = TrainingState(
        step=7,
        score=0.25,
        identity=Identity(store=store.checksum, fold=resolved.identity, plan="none"),
        inputs={
            "signals": len(store.signal_names),
            "line_features": store.line_features.shape[1],
            "lines": len(resolved.train_lines),
        },
        train_lines=list(resolved.train_lines),
        signal_names=store.signal_names,
        settings=settings.model_dump(mode="json"),
    )
    save_checkpoint(run, build_module(store, resolved, settings).state_dict(), {}, state)
    return run


def evaluated(run: Path, checkpoint: str = "checkpoint_000000007") -> Path:
    """Give `run` the two files of a report that calibrate it."""
    report = run / "report"
    report.mkdir(exist_ok=True)
    (report / "report.json").write_text(json.dumps({"context": {"checkpoint": checkpoint}}))
    (report / "calibration.json").write_text(json.dumps(CALIBRATION))
    return run
