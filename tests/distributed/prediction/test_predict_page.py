"""predict.py writes a page with what the training lines look like, and says at once what it cannot write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import evaluated, tiny_run
from tiny_training import tiny_fold, tiny_store
from typer.testing import CliRunner, Result

from data_pipeline.episodes.supports import SupportSize
from data_pipeline.errors import UserError
from data_pipeline.store.store import Store
from distributed.predict import app
from distributed.prediction.deployment import open_run
from evaluation.calibration import Calibration
from evaluation.line_page.freezing import freeze_ranges
from evaluation.line_page.ranges import RANGES
from evaluation.scoring import Scorer
from evaluation.settings import ScoringSettings


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("page") / "store", "signals=element")


def predicted(store: Store, run: Path, out: Path, *words: str) -> Result:
    own = ["--run", str(run), "--store", str(store.path), "--line", "sim4", "--local", "--draws", "2"]
    return CliRunner().invoke(app, [*own, "--out", str(out), *words])


def test_a_page_has_the_line_beside_the_training_lines(store: Store, tmp_path: Path) -> None:
    run = evaluated(tiny_run(tmp_path, store))
    frozen = Calibration(temperature=2.0, bias=-0.5, threshold=0.4, at_recall70=0.3)
    scorer = Scorer(open_run(run).build(), store, SupportSize(8, 8), ScoringSettings(support_draws=2))
    ranges = freeze_ranges(scorer, tiny_fold(store), 2, frozen, 200)
    (run / "report" / RANGES).write_text(ranges.model_dump_json())
    done = predicted(store, run, tmp_path / "sim4.html")
    assert done.exception is None
    page = (tmp_path / "sim4.html").read_text()
    for told in ("Predicted links of sim4", "The signals of sim4 lie", "(z_E) lies", "sim3 (validation)"):
        assert told in page, told
    assert json.loads((tmp_path / "sim4.html.json").read_text())["files"] == ["sim4.html"]


def test_a_model_of_before_there_were_ranges_has_a_page_that_says_so(store: Store, tmp_path: Path) -> None:
    run = evaluated(tiny_run(tmp_path, store))
    done = predicted(store, run, tmp_path / "sim4.html", "--threshold", "0.25")
    assert done.exception is None
    assert "The model carries no ranges of its training lines" in (tmp_path / "sim4.html").read_text()


def test_what_needs_a_calibration_is_refused_before_pairs_are_read(store: Store, tmp_path: Path) -> None:
    run = tiny_run(tmp_path, store)
    done = CliRunner().invoke(
        app, ["--run", str(run), "--yaml", str(yaml_of(tmp_path)), "--out", str(tmp_path / "a.html"), "--local"]
    )
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith("format page gives probabilities and the model has no calibration; run")


def yaml_of(folder: Path) -> Path:
    """A description of pairs that do not exist."""
    file = folder / "pairs.yaml"
    file.write_text(
        "lines: [A]\nwindows: {enhancer: 0, promoter: 0}\npairs: [{format: bedpe, file: no.bedpe, line: A}]\n"
    )
    return file


def test_an_unknown_gene_is_named_before_pairs_are_scored(store: Store, tmp_path: Path) -> None:
    done = predicted(store, evaluated(tiny_run(tmp_path, store)), tmp_path / "sim4.html", "--locus", "GATA1")
    assert isinstance(done.exception, UserError)
    assert "no pair of the input is of a gene called 'GATA1'" in str(done.exception)
    assert not list(tmp_path.glob("sim4*"))
