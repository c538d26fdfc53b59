"""The tree of settings of a run: every key documented and checked, every mistake named by its path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from data_pipeline.errors import UserError
from data_pipeline.settings import load
from distributed.settings import RunSettings


def fields(cls: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every leaf of the tree by its dotted key."""
    for name, field in cls.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from fields(annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


LEAVES = dict(fields(RunSettings))


def test_every_key_has_a_meaning_and_a_default() -> None:
    assert len(LEAVES) > 50
    assert [key for key, field in LEAVES.items() if not (field.description or "").strip()] == []
    assert [key for key, field in LEAVES.items() if field.is_required()] == []


def test_every_number_has_a_range() -> None:
    numbers = [key for key, field in LEAVES.items() if field.annotation in (int, float)]
    assert [key for key in numbers if not LEAVES[key].metadata] == []


def test_the_defaults_are_valid_and_survive_their_own_json() -> None:
    defaults = RunSettings()
    assert RunSettings.model_validate(defaults.model_dump(mode="json")) == defaults
    assert RunSettings.model_validate_json(defaults.model_dump_json()) == defaults


def test_settings_cannot_be_changed_after_they_are_read() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RunSettings().train.epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize("key", sorted({key.rpartition(".")[0] for key in LEAVES}))
def test_an_unknown_key_in_any_branch_is_named_with_its_path(key: str) -> None:
    name = f"{key}.no_such_key".lstrip(".")
    with pytest.raises(UserError, match=rf"settings: unknown key '{name}'"):
        load(RunSettings, overrides=[f"{name}=1"])


@pytest.mark.parametrize(
    "key", sorted(key for key, field in LEAVES.items() if field.annotation in (int, float) and field.metadata)
)
def test_a_number_out_of_range_is_named_with_its_path_and_its_range(key: str) -> None:
    value = "-1e9" if LEAVES[key].annotation is float else "-1000000000"
    with pytest.raises(UserError, match=rf"key '{key}' has value -1\S*: input should be (greater|less) than"):
        load(RunSettings, overrides=[f"{key}={value}"])


@pytest.mark.parametrize("value", [".nan", ".inf"])
def test_a_number_is_finite(value: str) -> None:
    with pytest.raises(UserError, match=r"key 'optimiser\.lr' has value (nan|inf): input should be a finite number"):
        load(RunSettings, overrides=[f"optimiser.lr={value}"])


def test_later_presets_and_then_words_of_the_command_line_win(tmp_path: Path) -> None:
    for name, text in (("one", "train: {epochs: 3, seed: 1}"), ("two", "train: {seed: 2}")):
        (tmp_path / name).write_text(text)
    settings = load(RunSettings, [tmp_path / "one", tmp_path / "two"], ["optimiser.lr=1e-4", "optimiser.lr=2e-4"])
    assert (settings.train.epochs, settings.train.seed, settings.optimiser.lr) == (3, 2, 2e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [", "is not valid YAML"),
        ("- train", "must hold 'key: value' lines, not a list or a single value"),
        ("train: {epoch: 3}", "unknown key 'train.epoch', did you mean 'train.epochs'?"),
        (
            "model: {competition: {pull: 1}}",
            "unknown key 'model.competition.pull', it is objective.terms.pull.weight now",
        ),
        ("train: 3", "key 'train' has value 3"),
    ],
)
def test_a_preset_that_is_wrong_is_named_with_its_file(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "preset.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as raised:
        load(RunSettings, [file])
    assert str(file) in str(raised.value)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["engine.offload_optimiser=true", "engine.zero_stage=0"],
            "offload_optimiser=true does nothing at zero_stage=0",
        ),
        (["engine.offload_parameters=true", "engine.zero_stage=2"], "offload_parameters=true does nothing at zero_st"),
        (["engine.offload_parameters=true", "engine.zero_stage=0"], "offload_parameters=true does nothing at zero_st"),
    ],
)
def test_offloading_what_a_stage_does_not_share_out_is_refused(words: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load(RunSettings, overrides=words)
    assert load(RunSettings, overrides=["engine.offload_parameters=true", "engine.zero_stage=3"])
