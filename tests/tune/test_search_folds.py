"""Inner folds and identity of a search: what no trial touches, and what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_search import run_settings, search_settings
from tiny_training import tiny_store

from data_pipeline.episodes.folds import resolve_fold
from data_pipeline.episodes.plan import Plan
from data_pipeline.errors import UserError
from data_pipeline.store.store import Store
from distributed.assembly import validation_rows
from distributed.run_folder.runs import held
from tune.ablation.run import Cell
from tune.identity import claim_search, read_search
from tune.search_space.settings import load_space
from tune.search_space.trial import fold_settings, reason_of, run_name
from tune.searching import check_folds, inner_lines, search


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("stores") / "tiny")


def test_every_line_but_the_test_line_is_the_validation_line_once(store: Store) -> None:
    assert sorted(inner_lines(store, search_settings(), run_settings())) == ["sim1", "sim2", "sim3"]


def test_fewer_folds_are_the_first_of_the_same_order(store: Store) -> None:
    whole = inner_lines(store, search_settings(seed=3), run_settings())
    assert inner_lines(store, search_settings(seed=3, folds=2), run_settings()) == whole[:2]


def test_named_training_lines_bound_the_inner_folds(store: Store) -> None:
    settings = run_settings("fold.train_lines=[sim1,sim2]", "fold.valid_line=sim3")
    lines = inner_lines(store, search_settings(), settings)
    assert sorted(lines) == ["sim1", "sim2", "sim3"]
    assert fold_settings(run_settings("fold.train_lines=[sim1,sim2]"), "sim1").fold.train_lines == ["sim2"]


def test_no_inner_fold_reads_a_pair_of_the_test_line_or_of_the_test_zone(store: Store) -> None:
    settings = run_settings()
    of_test_line = store.pairs.line == store.lines.index("sim4")
    for line in inner_lines(store, search_settings(), settings):
        own = fold_settings(settings, line)
        fold = resolve_fold(store, own.fold)
        plan = Plan(store, fold, own.episodes, own.train.seed)
        slots = [(step, slot) for step in range(plan.steps_per_epoch) for slot in plan.slots(0, 1)]
        trained = np.unique(np.concatenate([plan.episode(*place).rows for place in slots]))
        scored = validation_rows(store, fold, own.scoring.valid_pairs)
        held_out = np.concatenate([fold.rows(store, other, "test") for other in store.lines])
        used = np.union1d(trained, scored)
        assert not of_test_line[used].any()
        assert not np.intersect1d(used, held_out).size
        assert set(np.unique(store.pairs.line[scored])) == {store.lines.index(line)}
        assert store.lines.index(line) not in store.pairs.line[trained]


def test_the_zones_of_the_genome_are_the_same_in_all_inner_folds(store: Store) -> None:
    regions = {
        str(resolve_fold(store, fold_settings(run_settings(), line).fold).regions)
        for line in inner_lines(store, search_settings(), run_settings())
    }
    assert len(regions) == 1


def test_an_unknown_test_line_is_answered_with_the_lines_there_are(store: Store) -> None:
    with pytest.raises(UserError, match="choose one of sim1, sim2, sim3, sim4"):
        inner_lines(store, search_settings(), run_settings("fold.test_line=sim9"))


def test_where_there_are_fewer_lines_than_folds_every_line_is_a_fold(store: Store) -> None:
    assert inner_lines(store, search_settings(folds=4), run_settings()) == inner_lines(
        store, search_settings(), run_settings()
    )


def test_a_weight_that_never_acts_is_refused(store: Store) -> None:
    settings = run_settings("objective.terms.corr.start=2", "train.epochs=2")
    with pytest.raises(UserError, match=r"'corr' counts from epoch 2 .* end at epoch 2"):
        check_folds(store, load_space("lambda", []), settings, ["sim1"])


def test_a_line_that_cannot_fill_an_episode_is_found_before_anything_starts(store: Store) -> None:
    with pytest.raises(UserError, match="has too few pairs for an episode"):
        check_folds(store, search_settings(), run_settings("episodes.query=2000"), ["sim1"])


def claimed(
    folder: Path, store: Store, resume: bool = False, overrides: tuple[str, ...] = (), **changes: object
) -> Path:
    settings = run_settings(*overrides)
    lines = inner_lines(store, search_settings(**changes), settings)
    claim_search(folder, resume, store, search_settings(**changes), settings, lines)
    return folder


def test_an_existing_name_is_refused_without_resume(tmp_path: Path, store: Store) -> None:
    claimed(tmp_path / "one", store)
    with pytest.raises(UserError, match="exists already; add --resume to continue it, or choose another --name"):
        claimed(tmp_path / "one", store)


def test_an_existing_name_is_refused_before_ray_is_started(tmp_path: Path, store: Store) -> None:
    claimed(tmp_path / "one", store)
    with pytest.raises(UserError, match="exists already"):
        search(search_settings(), run_settings(), store.path, tmp_path / "one", resume=False, concurrent=1)


def test_a_search_that_is_not_there_cannot_be_resumed(tmp_path: Path, store: Store) -> None:
    with pytest.raises(UserError, match="there is no search at"):
        claimed(tmp_path / "none", store, resume=True)


def test_a_search_cannot_be_resumed_on_another_store(tmp_path: Path, store: Store) -> None:
    claimed(tmp_path / "one", store)
    other = tiny_store(tmp_path / "other", "seed=2")
    with pytest.raises(UserError, match="was begun on another store"):
        claimed(tmp_path / "one", other, resume=True)


@pytest.mark.parametrize(
    ("changes", "overrides", "key"),
    [
        ({"seed": 1}, (), "search.seed"),
        ({"sampler": "tpe"}, (), r"search.sampler \(was 'sobol', is 'tpe'\)"),
        ({"parameters": {"optimiser.lr": {"low": 1e-4, "high": 2e-2}}}, (), "search.parameters.optimiser.lr.high"),
        ({"folds": 2}, (), "lines"),
        ({}, ("train.epochs=3",), "run.train.epochs"),
        ({}, ("train.patience=9",), "run.train.patience"),
        ({}, ("scoring.valid_pairs=60",), "run.scoring.valid_pairs"),
    ],
)
def test_a_search_cannot_be_resumed_with_what_changes_a_score(
    tmp_path: Path, store: Store, changes: dict[str, object], overrides: tuple[str, ...], key: str
) -> None:
    claimed(tmp_path / "one", store)
    with pytest.raises(UserError, match=f"cannot be resumed with other settings: .*{key}"):
        claimed(tmp_path / "one", store, resume=True, overrides=overrides, **changes)


def test_a_search_can_be_resumed_with_more_trials_and_other_resources(tmp_path: Path, store: Store) -> None:
    claimed(tmp_path / "one", store, trials=4)
    claimed(tmp_path / "one", store, resume=True, overrides=("workers.count=2", "engine.zero_stage=0"), trials=9)
    assert read_search(tmp_path / "one").search["trials"] == 4


def test_a_damaged_record_is_named(tmp_path: Path, store: Store) -> None:
    (claimed(tmp_path / "one", store) / "search.json").write_text("{")
    with pytest.raises(UserError, match=r"search\.json is damaged"):
        read_search(tmp_path / "one")


def test_two_processes_cannot_continue_the_same_search(tmp_path: Path, store: Store) -> None:
    folder = claimed(tmp_path / "one", store)
    with held(folder), pytest.raises(UserError, match="by another process"), held(folder):
        pass


def test_a_line_with_any_name_has_a_run_name() -> None:
    assert run_name("HeLa-S3", 0) == "HeLa-S3-s0"
    assert run_name("T cell/CD4+", 1).startswith("T_cell_CD4_-")
    assert len(run_name("x" * 300, 0)) <= 100


def test_lines_of_different_names_never_share_a_run() -> None:
    names = ["T cell/CD4+", "T cell/CD4-", "T_cell_CD4_", "a" * 90 + "1", "a" * 90 + "2"]
    assert len({run_name(name, 0) for name in names}) == len(names)
    long = [f"ENCODE experiment of donor {number}" for number in range(3)]
    cells = {Cell(variant="a", test_line=one, valid_line=two, seed=0).run for one in long for two in long}
    assert len(cells) == 9
    assert all(len(name) < 60 for name in cells)
    assert Cell(variant="a", test_line="sim4", valid_line="IMR90", seed=0).run == "a-sim4-IMR90-0"


def test_the_reason_of_a_failure_is_what_was_raised_first() -> None:
    assert reason_of(UserError("line 'a' has too few pairs")) == "UserError: line 'a' has too few pairs"
    assert reason_of(ValueError("first\nlast\n")) == "ValueError: last"
