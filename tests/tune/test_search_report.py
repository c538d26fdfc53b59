"""The report of a search from its folder: which files it is, what it recommends, and what it says of broken folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from search_tables import LINES, lambda_search

from data_pipeline.errors import UserError
from data_pipeline.settings import load
from distributed.settings import RunSettings
from tune.identity import SearchRecord
from tune.search_report import write_search_report
from tune.search_space import SearchSettings, load_space, presets_of, run_words, write_table

SPACE = {f"objective.terms.{term}.weight": {"low": 0.01, "high": 4.0, "log": True} for term in ("corr", "grl")}


def searched(folder: Path, points: int = 16) -> Path:
    """A search over two weights that has ended, as it lies on disk."""
    search = SearchSettings.model_validate(
        {"parameters": SPACE, "seeds": 2, "trials": points, "confirm": 3, "run": {"objective.terms.grl.on": True}}
    )
    words = [*run_words(search), "objective.terms.corr.on=true"]
    run = load(RunSettings, presets_of(load_space("lambda", []), "lambda"), words, {"fold.test_line": "HepG2"})
    folder.mkdir()
    record = SearchRecord(
        created="2026-11-27T00:00:00+00:00", store="stores/one", store_checksum="0" * 64, lines=LINES,
        search=search.model_dump(mode="json"), run=run.model_dump(mode="json"), versions={"python": "3.13"},
    )  # fmt: skip
    (folder / "search.json").write_text(record.model_dump_json())
    table = lambda_search(points, terms=("corr", "grl")).table
    table.loc[table["repeats"] == "default", list(SPACE)] = float("nan")  # nothing of them is changed
    write_table(table, folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = searched(tmp_path_factory.mktemp("runs") / "one")
    write_search_report(made)
    return made


def test_page_tables_and_numbers_are_written(folder: Path) -> None:
    assert "The test line HepG2 was never read" in (folder / "report.html").read_text()
    assert "## Region per setting" in (folder / "region.md").read_text()
    assert json.loads((folder / "region.json").read_text())["folds"] == LINES


def test_the_default_that_was_run_again_is_known_by_its_settings(folder: Path) -> None:
    again = json.loads((folder / "region.json").read_text())["noise"]["confirmations"]
    assert len(again) == 3
    assert None not in [own["search"] for own in again]


def test_the_best_trial_stands_behind_the_optimism_of_the_answer(folder: Path) -> None:
    found = json.loads((folder / "region.json").read_text())
    best = found["parts"][0]["landscape"]["best_trial"]["score"]
    assert found["noise"]["confirmations"][0]["search"] == pytest.approx(best)


def test_the_report_can_lie_elsewhere_and_names_the_preset_of_the_search(tmp_path: Path) -> None:
    made = searched(tmp_path / "one", points=4)
    (made / "recommended.yaml").write_text("{}")
    write_search_report(made, tmp_path / "elsewhere")
    assert f"--config {made}/recommended.yaml" in (tmp_path / "elsewhere/report.html").read_text()
    assert not (made / "report.html").exists()


def test_a_search_without_a_table_says_so(tmp_path: Path) -> None:
    made = searched(tmp_path / "one", points=4)
    (made / "trials.parquet").unlink()
    with pytest.raises(UserError, match=r"no trials\.parquet yet"):
        write_search_report(made)


def test_a_damaged_table_says_so(tmp_path: Path) -> None:
    made = searched(tmp_path / "one", points=4)
    (made / "trials.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read"):
        write_search_report(made)


def test_settings_that_this_version_does_not_know_are_named(tmp_path: Path) -> None:
    folder = searched(tmp_path / "other", points=2)
    record = json.loads((folder / "search.json").read_text())
    record["search"]["sampler"] = "bayes"
    (folder / "search.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"search\.json: key 'sampler' has value 'bayes': input should be 'sobol'"):
        write_search_report(folder)
