"""What a report says the environment adds: the lead over a model trained without one; nothing where none is given."""

from __future__ import annotations

import html
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from tiny_models import tiny_run
from tiny_training import tiny_store

from data_pipeline.errors import UserError
from data_pipeline.settings import load
from data_pipeline.store.store import Store
from distributed.fold_evaluation import evaluate
from distributed.settings import RunSettings
from evaluation.intervals import draw_clusters, interval, paired_difference
from evaluation.metrics import average_precision
from evaluation.quadrants import NEUTRAL, NO_ENVIRONMENT, EvaluationSettings
from tune.ablation.variants import load_variants, resolve

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
WITHOUT = load(RunSettings, [CONFIGS / "train/no_environment.yaml"]).model.environment.model_dump(mode="json")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("environment") / "store")


def told(run: Path, without: Path | None) -> tuple[dict[str, Any], str, str]:
    """The report of `run` as data, as a page, and as it was printed."""
    printed = io.StringIO()
    evaluate(run, run / "report", EvaluationSettings(draws=100), 60, Console(file=printed, width=140), without=without)
    content = json.loads((run / "report/report.json").read_text())
    return content, html.unescape((run / "report/report.html").read_text()), printed.getvalue()


def test_beside_a_model_trained_without_environment_the_report_says_what_it_adds(store: Store, tmp_path: Path) -> None:
    run = tiny_run(tmp_path, store)
    content, page, printed = told(run, tiny_run(tmp_path, store, name="without", environment=WITHOUT))
    predictions = pd.read_parquet(run / "report/predictions.parquet")
    for row in content["lines"]:
        own = predictions[
            (predictions["line"] == row["line"])
            & (predictions["role"] == row["role"])
            & (predictions["quadrant"] == row["quadrant"])
        ]
        labels, logits = own["label"].to_numpy(), own["logit"].to_numpy(dtype=np.float64)
        alone = own[f"baseline_{NO_ENVIRONMENT}"].to_numpy(dtype=np.float64)
        draws = draw_clusters(own["cluster"].to_numpy(), 100, 0)
        found = row["rivals"][NO_ENVIRONMENT]
        assert found["ap"] == pytest.approx(average_precision(labels, alone))
        assert found["difference"] == pytest.approx(
            average_precision(labels, logits) - average_precision(labels, alone)
        )
        low, high = interval(paired_difference(labels, logits, alone, draws), draws)
        assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert list(content["lines"][0]["rivals"])[:2] == [NEUTRAL, NO_ENVIRONMENT]
    for text in (page.lower(), printed.replace("\n", " ")):
        assert "what the environment adds is the lead over 'no environment'" in text
        assert "does not say what the environment adds" not in text


@pytest.mark.parametrize(
    ("dropout", "sentence"),
    [(0.0, "untrained to stand alone (context_dropout 0)"), (0.1, "one training episode of 10")],
)
def test_alone_the_report_claims_nothing_of_what_the_environment_adds(
    store: Store, tmp_path: Path, dropout: float, sentence: str
) -> None:
    content, page, _ = told(tiny_run(tmp_path, store, environment={"context_dropout": dropout}), None)
    assert "This report does not say what the environment adds" in page
    assert sentence in page
    assert NO_ENVIRONMENT not in content["lines"][0]["rivals"]


def test_a_report_of_a_model_without_environment_does_not_speak_of_one(store: Store, tmp_path: Path) -> None:
    content, _, _ = told(tiny_run(tmp_path, store, environment=WITHOUT), None)
    assert content["environment"] == ""


@pytest.mark.parametrize(
    ("fold", "environment", "seed", "message"),
    [
        ({}, {}, 1, "has an environment; train the model without one"),
        ({"valid_line": "sim2"}, WITHOUT, 1, "another fold"),
        ({}, WITHOUT, 2, "another store"),
    ],
)
def test_a_run_that_cannot_be_compared_is_refused_before_anything_is_scored(
    store: Store, tmp_path: Path, fold: dict[str, str], environment: dict[str, Any], seed: int, message: str
) -> None:
    run = tiny_run(tmp_path, store)
    other = store if seed == 1 else tiny_store(tmp_path / "other", f"seed={seed}")
    without = tiny_run(tmp_path, other, name="without", fold=fold, environment=environment)
    with pytest.raises(UserError, match=message):
        told(run, without)
    assert not (run / "report").exists()


@pytest.mark.parametrize("spec", ["environment", "components"])
@pytest.mark.parametrize("base", ["default", "simulated", "real_chr20x", "record_09"])
def test_the_ablation_s_model_without_environment_is_the_preset_s(spec: str, base: str) -> None:
    files = [CONFIGS / f"train/{base}.yaml"]
    (variant,) = load_variants(CONFIGS / f"ablation/{spec}.yaml", ["no-environment"])
    preset = load(RunSettings, [*files, CONFIGS / "train/no_environment.yaml"])
    assert resolve(variant, files, []) == preset
    environment = preset.model.environment
    assert (environment.encoder, environment.local, environment.query_attention) == ("none", False, False)
