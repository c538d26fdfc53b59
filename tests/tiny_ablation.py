"""Finished ablations whose runs are made up, for the tests that need no training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tune.ablation_identity import OUTCOMES, AblationRecord, VariantRecord, claim_ablation, write_outcome
from tune.ablation_run import Cell, Outcome, figures
from tune.variants import DEFAULT

QUADRANT = "unseen_line/unseen_chrom"
PAIRS, CLUSTERS = 400, 20


def record(
    *variants: VariantRecord, folds: Sequence[str] = ("A:C", "B:C"), seeds: Sequence[int] = (0, 1)
) -> AblationRecord:
    """Base settings of nothing, `variants` beside it, `folds` as TEST:VALID."""
    pairs = [(fold.split(":")[0], fold.split(":")[1]) for fold in folds]
    return AblationRecord(
        store="store",
        store_checksum="abc",
        base={"train": {"epochs": 1}},
        variants=[VariantRecord(name=DEFAULT), *variants],
        folds=pairs,
        seeds=list(seeds),
        pairs=PAIRS,
    )


def variant(name: str, against: str = DEFAULT, left_out: str = "") -> VariantRecord:
    return VariantRecord(name=name, against=against, left_out=left_out, changes={"model.energy.form": name})


def predictions(line: str, signal: float, seed: int, environment: float = 0.0) -> pd.DataFrame:
    """Pairs of `line` whose logits carry `signal` about the labels, of which `environment` is not in U_I.

    Labels, noise and clusters depend on the line and `seed` alone, so that variants differ in their signal only.
    """
    labels = (np.random.default_rng(len(line) + ord(line[0])).random(PAIRS) < 0.3).astype(np.int8)
    noise = np.random.default_rng([seed, ord(line[0])]).normal(size=PAIRS)
    clusters = np.arange(PAIRS) % CLUSTERS
    logits = noise + signal * labels
    return pd.DataFrame({
        "row": np.arange(PAIRS), "line": line, "role": "test", "quadrant": QUADRANT, "label": labels,
        "cluster": clusters, "logit": logits, "u": logits - environment * labels,
        "logit_draw_0": logits, "logit_wrong_0": noise, "alike": np.arange(PAIRS) % 3 > 0,
    })  # fmt: skip


def complete(folder: Path, cell: Cell, signal: float, environment: float = 0.0, **outcome: object) -> Outcome:
    """Write the outcome of one run whose logits carry `signal`, as the ablation does."""
    table = predictions(cell.test_line, signal, cell.seed, environment)
    table.to_parquet(folder / OUTCOMES / f"{cell.run}.parquet", index=False)
    made = Outcome.model_validate({"cell": cell, "state": "complete", "figures": figures(table), **outcome})
    write_outcome(folder, made)
    return made


def ablation(folder: Path, made: AblationRecord, signals: dict[str, float]) -> Path:
    """An ablation in `folder` whose runs of each variant in `signals` are complete."""
    claim_ablation(folder, False, made)
    for cell in made.cells():
        if cell.variant in signals:
            complete(folder, cell, signals[cell.variant])
    return folder
