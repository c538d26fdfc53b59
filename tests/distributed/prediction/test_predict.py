"""Scores for a line nobody measured: which pairs, from which supports, in which order, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_models import CALIBRATION, evaluated, tiny_run
from tiny_training import tiny_store
from typer.testing import CliRunner

from data_pipeline.episodes.supports import SupportSize
from data_pipeline.errors import UserError
from data_pipeline.store.store import Store
from distributed.predict import app
from distributed.prediction.batch_scoring import Job, plan_supports, score_pairs
from distributed.prediction.deployment import Deployment, open_export, open_run, write_export
from distributed.prediction.executors import in_process
from distributed.prediction.matched_store import MatchedStore
from evaluation.scoring import Scorer
from evaluation.settings import ScoringSettings


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with store/ and the exported, calibrated model/ trained on it."""
    place = tmp_path_factory.mktemp("predict")
    store = tiny_store(place / "store")
    write_export(open_run(evaluated(tiny_run(place / "runs", store))), place / "model")
    return place


def command(*options: object) -> tuple[int, str, UserError | None]:
    """Run predict.py in this process: exit status, what it printed, and the mistake it named."""
    result = CliRunner().invoke(app, list(map(str, options)))
    error = result.exception
    if error is not None and not isinstance(error, (UserError, SystemExit)):
        raise error
    return result.exit_code, result.output, error if isinstance(error, UserError) else None


def predicted(place: Path, out: Path, *options: object) -> pd.DataFrame:
    """The table that predict.py --local writes for pairs given by `options`."""
    status, _, error = command("--model", place / "model", "--out", out, "--local", *options)
    assert status == 0, error
    return pd.read_parquet(out) if out.suffix == ".parquet" else pd.read_csv(out, sep="\t")


def mistake(place: Path, *options: object) -> str:
    """The one sentence that predict.py --local ends in."""
    _, _, error = command("--model", place / "model", "--local", *options)
    assert error is not None
    return str(error)


def digests(folder: Path) -> dict[str, str]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def scores(
    deployment: Deployment, store: MatchedStore, rows: np.ndarray, work: Path, **sizes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (k, 3) and neutral energies of `rows`, in parts of `sizes`."""
    work.mkdir()
    job = Job(work, store.path, ScoringSettings(), **sizes)
    supports = plan_supports(store, rows, SupportSize.exactly(8), 3, seed=5)
    parts = list(score_pairs(deployment, store, supports, job, in_process))
    return np.concatenate([part.logits for part in parts]), np.concatenate([part.neutral for part in parts])


def test_scores_are_those_of_the_road_that_evaluation_takes(place: Path, tmp_path: Path) -> None:
    deployment = open_export(place / "model")
    store = MatchedStore.of(place / "store", deployment.description)
    rows = np.flatnonzero(store.pairs.line == 3)
    logits, neutral = scores(deployment, store, rows, tmp_path / "work")
    expected = Scorer(deployment.build(), store, SupportSize.exactly(8), ScoringSettings()).score_line(
        rows, rows, 3, seed=5
    )
    np.testing.assert_allclose(logits, expected.logits, atol=1e-5)
    np.testing.assert_allclose(neutral, expected.neutral, atol=1e-5)


def test_the_parts_add_up_to_the_mean_logit_and_are_kept_only_where_asked(place: Path, tmp_path: Path) -> None:
    deployment = open_export(place / "model")
    store = MatchedStore.of(place / "store", deployment.description)
    rows = np.flatnonzero(store.pairs.line == 3)
    supports = plan_supports(store, rows, SupportSize.exactly(8), 3, seed=5)
    for explain in (True, False):
        work = tmp_path / str(explain)
        work.mkdir()
        job = Job(work, store.path, ScoringSettings(), pairs_per_part=7, explain=explain)
        channels = deployment.description.model.energy.channels
        for scored in score_pairs(deployment, store, supports, job, in_process):
            assert scored.parts.shape[1] == (3 * channels + 3) * explain
            if explain:
                summands = scored.parts[:, : channels + 2].sum(axis=1)
                np.testing.assert_allclose(summands, scored.logits.mean(axis=1), atol=1e-5)


def test_scores_do_not_depend_on_how_the_work_is_cut(place: Path, tmp_path: Path) -> None:
    deployment = open_export(place / "model")
    store = MatchedStore.of(place / "store", deployment.description)
    rows = np.flatnonzero(store.pairs.line >= 2)
    whole, _ = scores(deployment, store, rows, tmp_path / "whole")
    parts, _ = scores(deployment, store, rows, tmp_path / "parts", elements_per_file=7, pairs_per_part=50)
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_no_pair_is_scored_with_a_support_that_holds_it_or_its_elements(place: Path) -> None:
    store = Store.open(place / "store")
    rows = np.arange(len(store.pairs))
    supports = plan_supports(store, rows, SupportSize.exactly(8), 3, seed=0)
    for row, serving in zip(supports.rows, supports.serving, strict=True):
        used = np.stack([supports.sets[number] for number in serving])
        assert (store.pairs.line[used] == store.pairs.line[row]).all()
        assert not (store.pairs.enhancer[used] == store.pairs.enhancer[row]).any()
        assert not (store.pairs.promoter[used] == store.pairs.promoter[row]).any()


def test_pairs_keep_the_order_of_the_store_across_lines(place: Path, tmp_path: Path) -> None:
    store = Store.open(place / "store")
    options = ("--store", place / "store", "--line", "sim4", "--line", "sim2")
    table = predicted(place, tmp_path / "scores.parquet", *options)
    rows = np.flatnonzero(np.isin(store.pairs.line, [1, 3]))
    assert table["line"].tolist() == [store.lines[code] for code in store.pairs.line[rows]]
    assert table["enhancer"].tolist() == [store.enhancers.names[row] for row in store.pairs.enhancer[rows]]
    assert table["promoter_start"].tolist() == store.promoters.start[store.pairs.promoter[rows]].tolist()
    assert table["distance"].tolist() == store.pairs.distance[rows].tolist()


def test_columns_follow_from_logits_and_the_frozen_calibration(place: Path, tmp_path: Path) -> None:
    table = predicted(place, tmp_path / "scores.parquet", "--store", place / "store", "--line", "sim4")
    assert (table["logit_lower"] <= table["logit"]).all()
    assert (table["logit"] <= table["logit_upper"]).all()
    assert (table["logit_lower"] < table["logit_upper"]).any()
    for end in ("", "_lower", "_upper"):
        expected = 1 / (1 + np.exp(-(table[f"logit{end}"].astype(float) / 2.0 - 0.5)))
        np.testing.assert_allclose(table[f"probability{end}"], expected, rtol=1e-6)
    assert table["call"].tolist() == (table["probability"] >= CALIBRATION["threshold"]).astype(int).tolist()


@pytest.mark.parametrize(("asked", "threshold"), [("recall70", 0.3), ("mcc", 0.4), ("0.55", 0.55)])
def test_pairs_are_called_at_the_threshold_asked_for(place: Path, tmp_path: Path, asked: str, threshold: float) -> None:
    options = ("--store", place / "store", "--line", "sim4", "--threshold", asked)
    table = predicted(place, tmp_path / "scores.parquet", *options)
    assert table["call"].tolist() == (table["probability"] >= threshold).astype(int).tolist()
    assert json.loads((tmp_path / "scores.parquet.json").read_text())["threshold"] == threshold


def test_a_threshold_needs_a_calibration_that_has_it(place: Path, tmp_path: Path) -> None:
    run, pairs = tiny_run(tmp_path / "runs", Store.open(place / "store")), ("--store", place / "store")
    out = tmp_path / "scores.tsv"
    _, _, error = command("--run", run, *pairs, "--out", out, "--local", "--threshold", "mcc")
    assert "--threshold is a probability, and the model has no calibration" in str(error)
    _, _, error = command("--run", run, *pairs, "--out", out, "--local", "--format", "per_gene")
    assert "format per_gene gives probabilities and the model has no calibration; run evaluate.py" in str(error)
    earlier = {name: value for name, value in CALIBRATION.items() if not name.startswith("at_")}
    (evaluated(run) / "report" / "calibration.json").write_text(json.dumps(earlier))
    _, _, error = command("--run", run, *pairs, "--out", out, "--local", "--threshold", "recall70")
    assert "has no threshold 'recall70', because its run was evaluated by an earlier version" in str(error)
    assert [file.name for file in tmp_path.iterdir()] == ["runs"]


def test_several_formats_come_of_one_scoring(place: Path, tmp_path: Path) -> None:
    wanted = ("parquet", "abc", "bedpe", "interact", "per_gene", "per_enhancer")
    formats = [part for name in wanted for part in ("--format", name)]
    status, output, error = command(
        "--model", place / "model", "--local", "--store", place / "store", "--line", "sim4", "--out", tmp_path / "sim4",
        *formats,
    )  # fmt: skip
    assert status == 0, error
    assert "sim4.bedpe.gz" in output
    files = json.loads((tmp_path / "sim4.json").read_text())["files"]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*files, "sim4.json"])
    table = pd.read_parquet(tmp_path / "sim4.parquet")
    called = int(table["call"].sum())
    assert len(pd.read_csv(tmp_path / "sim4.abc_threshold0.4.tsv.gz", sep="\t")) == called
    genes = pd.read_csv(tmp_path / "sim4.per_gene.tsv", sep="\t")
    assert (genes["nEnhancersConsidered"].sum(), genes["nDistalEnhancersPredicted"].sum()) == (240, called)
    assert (table["tss"] == (table["promoter_start"] + table["promoter_end"]) // 2).all()


def test_the_energy_is_told_by_channel_and_by_group_of_signals(tmp_path: Path) -> None:
    trained = tiny_store(tmp_path / "trained", "signals=both")
    run = tiny_run(tmp_path / "runs", trained, energy={"channels": 2})
    fewer = tiny_store(tmp_path / "fewer", "signals=element")
    tables = []
    for store in (trained, fewer):
        out = tmp_path / f"{store.path.name}.parquet"
        options = ("--store", store.path, "--line", "sim4", "--draws", 1, "--explain", "--out", out)
        assert command("--run", run, *options, "--local")[0] == 0
        tables.append(pd.read_parquet(out))
    table, without = tables
    assert table.columns[-12:].tolist() == [
        *("logit_background", "logit_environment", "logit_channel_1", "logit_channel_2"),
        *("energy_channel_1", "energy_channel_2", "gate_1", "gate_2", "shift"),
        *("context_pair", "context_enhancer", "context_promoter"),
    ]
    np.testing.assert_allclose(table["energy_channel_1"] + table["energy_channel_2"], table["neutral"], atol=1e-5)
    for channel in (1, 2):
        product = table[f"energy_channel_{channel}"] * table[f"gate_{channel}"]
        np.testing.assert_allclose(table[f"logit_channel_{channel}"] * table["shift"],
                                   -product * table["logit_environment"], atol=1e-5)  # fmt: skip
    assert table["context_pair"].abs().median() > 1e-5
    assert (without["context_pair"] == 0).all()
    assert without["context_enhancer"].abs().median() > 1e-5


def test_one_draw_has_no_interval(place: Path, tmp_path: Path) -> None:
    options = ("--store", place / "store", "--line", "sim4", "--draws", 1)
    table = predicted(place, tmp_path / "scores.parquet", *options)
    assert table[["logit_lower", "logit_upper", "probability_lower", "probability_upper"]].isna().all(axis=None)
    assert table["logit"].notna().all()


def test_without_calibration_there_are_logits_and_no_probabilities(place: Path, tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "runs", Store.open(place / "store"))
    out = tmp_path / "scores.parquet"
    status, output, _ = command("--run", run, "--store", place / "store", "--line", "sim4", "--out", out, "--local")
    assert status == 0
    assert "no probabilities: the model has no calibration; run evaluate.py --run runs/tiny" in output
    table = pd.read_parquet(out)
    assert table["logit"].notna().all()
    assert table[["probability", "call"]].isna().all(axis=None)


def test_tsv_and_parquet_hold_the_same(place: Path, tmp_path: Path) -> None:
    options = ("--store", place / "store", "--line", "sim4")
    parquet = predicted(place, tmp_path / "scores.parquet", *options)
    tsv = predicted(place, tmp_path / "scores.tsv", *options)
    pd.testing.assert_frame_equal(tsv, parquet, check_dtype=False, rtol=1e-6)
    assert (tmp_path / "scores.tsv").read_text().startswith("line\tenhancer\t")


def test_record_beside_the_table_says_how_it_was_made(place: Path, tmp_path: Path) -> None:
    options = ("--store", place / "store", "--line", "sim4", "--seed", 3)
    predicted(place, tmp_path / "scores.tsv", *options)
    record = json.loads((tmp_path / "scores.tsv.json").read_text())
    model = open_export(place / "model").description
    assert (record["pairs"], record["lines"], record["seed"]) == (240, ["sim4"], 3)
    assert 8 < record["support"]["sim4"] <= 240 // 4
    assert record["model"]["checksum"] == model.checksum
    assert record["store"] == Store.open(place / "store").checksum
    assert record["calibration"] == CALIBRATION


def test_prediction_writes_nothing_but_the_table_and_its_record(place: Path, tmp_path: Path) -> None:
    before = digests(place)
    predicted(place, tmp_path / "scores.parquet", "--store", place / "store")
    assert digests(place) == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["scores.parquet", "scores.parquet.json"]


def test_existing_table_is_kept_unless_told_otherwise(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.tsv"
    out.write_text("mine")
    assert "exists already; give another --out, or --overwrite" in mistake(
        place, "--store", place / "store", "--out", out
    )
    assert out.read_text() == "mine"
    assert len(predicted(place, out, "--store", place / "store", "--line", "sim4", "--overwrite")) == 240


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--line", "A549"), "has no line 'A549'; its lines are sim1, sim2, sim3, sim4"),
        (("--line", "sim4", "--support", 400), "line 'sim4' has too few pairs"),
        (("--draws", 0), "key 'draws' has value 0"),
        (("--pairs", "pairs.csv"), "give the pairs with one of --store, --pairs and --yaml"),
        (("--run", "runs/tiny"), "give either --model .* or --run"),
    ],
)
def test_wrong_option_is_one_sentence_and_leaves_nothing(
    place: Path, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    _, _, error = command(
        "--model", place / "model", "--store", place / "store", "--out", tmp_path / "out.tsv", "--local", *options
    )
    with pytest.raises(UserError, match=message):
        raise error or AssertionError("no mistake was named")
    assert list(tmp_path.iterdir()) == []


def test_name_of_the_table_must_say_how_it_is_written(place: Path, tmp_path: Path) -> None:
    sentence = mistake(place, "--store", place / "store", "--out", tmp_path / "scores.xlsx")
    assert sentence.endswith("or its --format be given")


def test_pairs_that_all_share_an_element_cannot_support_each_other(place: Path) -> None:
    store = Store.open(place / "store")
    promoters, counts = np.unique(store.pairs.promoter[store.pairs.line == 3], return_counts=True)
    rows = np.flatnonzero((store.pairs.line == 3) & (store.pairs.promoter == promoters[counts.argmax()]))
    assert len(rows) > 2
    with pytest.raises(UserError, match=f"there are {len(rows)} pairs of .* and 1 promoters; add pairs of other"):
        plan_supports(store, rows, SupportSize.exactly(2), 1, seed=0)


def test_store_with_other_windows_is_refused(place: Path, tmp_path: Path) -> None:
    tiny_store(tmp_path / "wide", "enhancer_window=120")
    sentence = mistake(place, "--store", tmp_path / "wide", "--out", tmp_path / "out.tsv")
    assert "holds 120 bp per enhancer and 96 bp per promoter, the model was trained on 96 bp per enhancer" in sentence
    assert sentence.endswith("windows.enhancer=96 windows.promoter=96")


def test_tracks_are_matched_by_name_and_missing_ones_are_missing_values(tmp_path: Path) -> None:
    trained = tiny_store(tmp_path / "trained", "signals=element")
    run = tiny_run(tmp_path / "runs", trained)
    fewer = tiny_store(tmp_path / "fewer", "signals=pair")
    model = open_run(run).description
    tracks = [*model.signal_names[::-1], *fewer.signal_names]
    matched = MatchedStore.of(trained.path, model.model_copy(update={"signal_names": tracks}))
    rows = np.array([3, 700, 12])
    signals = matched.signals(rows)
    np.testing.assert_array_equal(signals[:, :-1], trained.signals(rows)[:, ::-1])
    assert np.isnan(signals[:, -1]).all()
    out = tmp_path / "scores.tsv"
    status, output, _ = command("--run", run, "--store", fewer.path, "--line", "sim4", "--out", out, "--local")
    assert status == 0
    assert "taken as missing, because the input has none: enhancer:occupancy1, " in output
    assert "not used, because the model was trained without: pair:" in output
    assert pd.read_csv(out, sep="\t")["logit"].notna().all()


def test_signals_only_model_needs_a_track_and_no_sequence(tmp_path: Path) -> None:
    trained = tiny_store(tmp_path / "trained", "signals=element")
    run = tiny_run(tmp_path / "runs", trained, trunk={"size": "none"})
    wide = tiny_store(tmp_path / "wide", "signals=element", "enhancer_window=120")
    without = tiny_store(tmp_path / "without")
    out = tmp_path / "scores.tsv"
    assert command("--run", run, "--store", wide.path, "--out", out, "--local")[0] == 0
    assert pd.read_csv(out, sep="\t")["logit"].notna().all()
    _, _, error = command("--run", run, "--store", without.path, "--out", tmp_path / "none.tsv", "--local")
    assert "reads no sequence, only signals, and store" in str(error)


def test_a_few_label_model_says_which_labels_it_reads(tmp_path: Path) -> None:
    trained = tiny_store(tmp_path / "trained")
    run = tiny_run(tmp_path / "runs", trained, environment={"labelled_support": True})
    status, output, _ = command("--run", run, "--store", trained.path, "--out", tmp_path / "out.tsv", "--local")
    assert status == 0
    assert "trained with labelled support: it reads labels of support pairs where --store has them" in output


def test_damaged_model_is_one_sentence(place: Path, tmp_path: Path) -> None:
    write_export(open_export(place / "model"), tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert "is missing or damaged (its sha256 differs)" in mistake(
        tmp_path, "--store", place / "store", "--out", tmp_path / "out.tsv"
    )


def test_damaged_store_is_one_sentence(place: Path, tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "store")
    file = next((store.path / "enhancers").iterdir())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert "does not match its sha256" in mistake(place, "--store", store.path, "--out", tmp_path / "out.tsv")
