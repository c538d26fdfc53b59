"""The figures of bench/peer_folds.py by hand, and a tuning of LightGBM that reads training lines alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from tiny_training import tiny_store
from typer.testing import CliRunner

from bench.peer_folds import BOOSTED, MODEL, figures, rows_of
from bench.tune_lightgbm import chromosome_folds, main, splits
from data_pipeline.errors import UserError
from data_pipeline.settings import load
from evaluation.candidates import equal_prevalence_precision
from evaluation.metrics import average_precision
from evaluation.rivals.boosting import BOOSTING, BoostingSettings
from evaluation.rivals.pairs import PairData


def scores(n: int = 600, seed: int = 0) -> pd.DataFrame:
    """Pairs of two folds of four chromosomes; the model knows more than the rivals."""
    generator = np.random.default_rng(seed)
    chrom = generator.integers(0, 8, n)
    labels = (generator.random(n) < 0.3).astype(np.int8)
    noise = generator.normal(size=(4, n))
    # Enhancers and genes lie on one chromosome each.
    frame = {"fold": 1 + chrom // 4, "label": labels, "chrom": chrom}
    frame |= {name: chrom * 10 + generator.integers(0, 10, n) for name in ("enhancer", "gene")}
    names = (MODEL, BOOSTED, "LightGBM base", "ABC")
    return pd.DataFrame(frame | {name: 2 * labels / (k + 1) + noise[k] for k, name in enumerate(names)})


def test_peer_figures_are_means_over_folds_with_paired_intervals() -> None:
    own = scores()
    found = figures(own, draws=100)
    folds = [part for _, part in own.groupby("fold")]
    for name in (MODEL, BOOSTED):
        plain = np.mean([average_precision(part["label"], part[name]) for part in folds])
        equal = np.mean([equal_prevalence_precision(part["label"], part[name], part["enhancer"]) for part in folds])
        assert found["scores"][name]["ap"] == pytest.approx(plain)
        assert found["scores"][name]["eq"] == pytest.approx(equal)
        low, high = found["scores"][name]["ap_interval"]
        assert low < plain < high
    lead = found["model_minus"][BOOSTED]
    for measure in ("ap", "eq"):
        low, high = lead[measure]["interval"]
        assert 0 < low < lead[measure]["difference"] < high
    same = figures(own.assign(**{BOOSTED: own[MODEL]}), draws=100)["model_minus"][BOOSTED]["ap"]
    assert (same["difference"], *same["interval"]) == (0, 0, 0)


def test_peer_figures_do_not_mind_the_scale_of_a_fold_and_quote_the_peer() -> None:
    own = scores()
    moved = own.assign(**{MODEL: own[MODEL] * np.where(own["fold"] == 1, 5.0, 1.0) + 100.0 * (own["fold"] == 1)})
    assert figures(moved, 60)["scores"][MODEL]["pooled"] == figures(own, 60)["scores"][MODEL]["pooled"]
    rows = rows_of("IMR90", figures(own, 60))
    assert [row[1] for row in rows] == [MODEL, BOOSTED, "LightGBM base", "ABC", "TransEPI (quoted)"]
    assert rows[-1][2:5] == ["0.583", "", "0.574"]
    assert {len(row) for row in rows} == {9}


def test_chromosomes_are_dealt_into_folds_of_about_one_size() -> None:
    folds = chromosome_folds(np.repeat([4, 7, 9, 2], [50, 30, 25, 10]), 2)
    assert [sorted(fold.tolist()) for fold in folds] == [[2, 4], [7, 9]]
    assert len(chromosome_folds(np.array([1, 1, 3]), 5)) == 2


def test_a_split_leaves_out_the_line_everywhere_and_its_chromosomes_in_all_lines() -> None:
    generator = np.random.default_rng(1)
    n = 400
    line, chromosomes = generator.integers(0, 3, n), generator.integers(0, 4, n)
    none = np.empty((1, 0), dtype=np.uint8)
    labels = generator.integers(-1, 2, n).astype(np.int8)
    ids = np.zeros(n, dtype=np.int64)
    pairs = PairData(labels, np.ones(n), ids, ids, line, none, none, np.zeros((n, 0), np.float32))
    made = list(splits(pairs, chromosomes, ["a", "b", "c"], 2))
    assert len(made) == 6
    for split in made:
        assert not set(line[split.train]) & set(line[split.test])
        assert not set(chromosomes[split.train]) & set(chromosomes[split.test])
        assert (labels[np.concatenate([split.train, split.test])] >= 0).all()


def test_tuning_writes_settings_that_load_and_are_not_worse_than_the_start(tmp_path: Path) -> None:
    store, out = tiny_store(tmp_path / "store").path, tmp_path / "lightgbm.yaml"
    out.write_text(BOOSTING.read_text().replace("rounds: 200", "rounds: 50"))
    words = ["--store", store, "--line", "sim1", "--line", "sim2", "--out", out, "--trials", 2, "--folds", 2]
    result = CliRunner().invoke(command(), list(map(str, words)))
    assert result.exit_code == 0, result.exception
    load(BoostingSettings, [out])
    assert "sim1, sim2 of store" in out.read_text()


def test_tuning_needs_two_lines_of_the_store(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "store").path
    for lines, says in ((["sim1"], "two lines"), (["sim1", "nobody"], "no line 'nobody'")):
        words = ["--store", str(store), *[word for line in lines for word in ("--line", line)]]
        error = CliRunner().invoke(command(), words).exception
        assert isinstance(error, UserError)
        assert says in str(error)


def command() -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    return app
