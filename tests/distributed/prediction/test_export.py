"""What leaves a run: the model and nothing else, whole or not at all, and bit for bit the same."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import CALIBRATION, evaluated, tiny_run
from tiny_training import tiny_plan, tiny_store
from typer.testing import CliRunner

from data_pipeline.episodes.batch import EpisodeBatch
from data_pipeline.episodes.folds import resolve_fold
from data_pipeline.episodes.reader import collate, gather, plan_steps
from data_pipeline.episodes.supports import SupportSize
from data_pipeline.errors import UserError
from data_pipeline.settings import validate
from data_pipeline.store.store import Store
from distributed.assembly import build_module
from distributed.export import app
from distributed.fold_evaluation import load_model
from distributed.prediction.deployment import ModelDescription, open_export, open_run, write_export
from distributed.run_folder.checkpoint import best_checkpoint, load_checkpoint
from distributed.run_folder.runs import read_record
from distributed.settings import RunSettings


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("export") / "store", "signals=element")


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("runs"), store)


def first_batch(store: Store) -> EpisodeBatch:
    plan = tiny_plan(store)
    return collate(gather(store, plan_steps(plan, 0, 1, 0, 1), plan.support_of(0)), plan.support_of(0))


def exported(run: Path, out: Path) -> Path:
    write_export(open_run(run), out)
    return out


def test_exported_model_gives_the_logits_of_the_run_bit_for_bit(run: Path, store: Store, tmp_path: Path) -> None:
    tensors, _, state = load_checkpoint(best_checkpoint(run))
    settings = validate(RunSettings, state.settings, "run")
    module = build_module(store, resolve_fold(store, settings.fold), settings)
    module.load_state_dict(tensors)
    batch = first_batch(store)
    with torch.no_grad():
        trained = module.model.eval().logits(batch)
        assert torch.equal(open_export(exported(run, tmp_path / "model")).build().logits(batch), trained)
        assert torch.equal(open_run(run).build().logits(batch), trained)


@pytest.mark.parametrize("encoding", ["standard", "thermometer"])
def test_what_training_left_out_is_seen_by_no_road_of_use(store: Store, tmp_path: Path, encoding: str) -> None:
    name = store.signal_names[0].partition(":")[2]
    signals = {"leave_out": [name], "encoding": encoding}
    run = tiny_run(tmp_path / "runs", store, trunk={"size": "none"}, signals=signals)
    fold = resolve_fold(store, validate(RunSettings, read_record(run).settings, "run").fold)
    models = [
        open_run(run).build(),
        open_export(exported(run, tmp_path / "model")).build(),
        load_model(best_checkpoint(run), store, fold)[0],
    ]
    batch = first_batch(store)
    gone = torch.tensor([own.endswith(f":{name}") for own in store.signal_names])
    assert gone.sum() == 2
    other, seen = batch.signals.clone(), batch.signals.clone()
    other[..., gone] += 5.0
    seen[..., ~gone] += 5.0
    with torch.no_grad():
        expected = models[0].logits(batch)
        for model in models:
            assert torch.equal(model.logits(batch), expected)
            assert torch.equal(model.logits(replace(batch, signals=other)), expected)
            assert not torch.allclose(model.logits(replace(batch, signals=seen)), expected)


def test_export_holds_the_model_and_neither_loss_heads_nor_optimiser(run: Path, tmp_path: Path) -> None:
    out = exported(run, tmp_path / "model")
    assert sorted(file.name for file in out.iterdir()) == ["model.json", "model.safetensors"]
    deployment = open_export(out)
    assert set(deployment.tensors) == set(deployment.build().state_dict())


def test_description_says_what_the_model_expects_and_where_it_comes_from(
    run: Path, store: Store, tmp_path: Path
) -> None:
    content = json.loads((exported(run, tmp_path / "model") / "model.json").read_text())
    assert content["windows"] == {"enhancer": 96, "promoter": 96}
    assert content["signal_names"] == store.signal_names
    assert content["train_lines"] == ["sim1", "sim2"]
    assert (content["support"], content["support_bound"]) == (8, 1024)
    assert content["origin"]["run"] == "tiny"
    assert content["origin"]["store"] == store.checksum


def test_export_of_before_there_was_a_bound_scores_with_supports_as_large_as_it_did(run: Path, tmp_path: Path) -> None:
    description = open_export(exported(run, tmp_path / "model")).description
    earlier = {name: value for name, value in description.model_dump().items() if name != "support_bound"}
    assert validate(ModelDescription, earlier, "model.json").support_in_use == SupportSize(8, 8)


def test_few_label_model_is_exported_with_the_number_of_labels_it_was_trained_with(
    store: Store, tmp_path: Path
) -> None:
    run = tiny_run(tmp_path / "runs", store, environment={"labelled_support": True})
    assert open_run(run).description.support_in_use == SupportSize(8, 8)


def test_export_needs_neither_its_run_nor_its_store(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "store")
    out = exported(tiny_run(tmp_path / "runs", store), tmp_path / "model")
    shutil.rmtree(tmp_path / "runs")
    shutil.rmtree(tmp_path / "store")
    assert open_export(out).build().settings.trunk.size == "tiny"


def test_calibration_travels_with_the_model(store: Store, tmp_path: Path) -> None:
    run = evaluated(tiny_run(tmp_path / "runs", store))
    calibration = open_export(exported(run, tmp_path / "model")).description.calibration
    assert calibration is not None
    assert calibration.model_dump() == CALIBRATION


def test_calibration_of_before_there_were_several_thresholds_is_read(store: Store, tmp_path: Path) -> None:
    run = evaluated(tiny_run(tmp_path / "runs", store))
    earlier = {name: value for name, value in CALIBRATION.items() if not name.startswith("at_")}
    (run / "report" / "calibration.json").write_text(json.dumps(earlier))
    file = exported(run, tmp_path / "model") / "model.json"
    content = json.loads(file.read_text())
    del content["calibration"]["at_recall70"], content["calibration"]["at_mcc"], content["checksum"]
    content["checksum"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps(content))
    calibration = open_export(tmp_path / "model").description.calibration
    assert calibration is not None
    assert (calibration.threshold_of("mcc"), calibration.threshold_of("recall70")) == (0.4, None)


def test_calibration_of_another_checkpoint_is_not_used(store: Store, tmp_path: Path) -> None:
    run = evaluated(tiny_run(tmp_path / "runs", store), "checkpoint_000000003")
    assert open_run(run).description.calibration is None


def test_export_of_a_run_that_was_not_evaluated_says_so(run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--run", str(run), "--out", str(tmp_path / "model")])
    assert result.exit_code == 0
    assert "logits but no probabilities" in result.output
    assert open_export(tmp_path / "model").description.calibration is None


def test_existing_folder_is_refused_and_left_as_it_is(run: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("kept")
    with pytest.raises(UserError, match="exists already; give another --out"):
        write_export(open_run(run), tmp_path / "model")
    assert [file.name for file in tmp_path.rglob("*")] == ["model", "mine.txt"]


def test_flipped_bit_in_the_tensors_is_one_sentence(run: Path, tmp_path: Path) -> None:
    file = exported(run, tmp_path / "model") / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-100] ^= 4
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"model.safetensors is missing or damaged \(its sha256 differs\); copy"):
        open_export(tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace('"support": 8', '"support": 9'), "does not match its own checksum"),
        (lambda text: text[: len(text) // 2], "is damaged"),
        (lambda text: text.replace('"format_version": 1', '"format_version": 2'), "has format version 2"),
    ],
)
def test_changed_description_is_one_sentence(run: Path, tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    file = exported(run, tmp_path / "model") / "model.json"
    file.write_text(change(file.read_text()))
    with pytest.raises(UserError, match=message):
        open_export(tmp_path / "model")


def test_export_of_an_earlier_version_with_other_settings_still_opens(run: Path, tmp_path: Path) -> None:
    file = exported(run, tmp_path / "model") / "model.json"
    content = json.loads(file.read_text())
    del content["model"]["signals"]["limit"], content["checksum"]
    content["model"]["competition"] |= {"pull": 0.5, "push": 0.5, "start": 2.0}  # until 0.1.0
    content["checksum"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps(content))
    assert open_export(tmp_path / "model").description.model.signals.limit == 10.0


def test_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no exported model at .*; make one with export.py"):
        open_export(tmp_path)


def test_run_whose_store_was_replaced_cannot_be_exported(store: Store, tmp_path: Path) -> None:
    tiny_store(tmp_path / "store")
    run = tiny_run(tmp_path / "runs", Store.open(tmp_path / "store"))
    shutil.rmtree(tmp_path / "store")
    shutil.copytree(store.path, tmp_path / "store")
    with pytest.raises(UserError, match="is not the one that run"):
        open_run(run)
