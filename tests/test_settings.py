"""Settings: presets and overrides merge, and what cannot be meant is one sentence with the key in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_pipeline.errors import UserError
from data_pipeline.settings import load
from distributed.settings import RunSettings


def preset(folder: Path, text: str, name: str = "preset.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_later_presets_and_overrides_win(tmp_path: Path) -> None:
    first = preset(tmp_path, "optimiser: {lr: 1e-2, clip: 3}\ntrain: {epochs: 7}\n", "first.yaml")
    second = preset(tmp_path, "optimiser: {lr: 2e-2}\n", "second.yaml")
    settings = load(RunSettings, [first, second], ["train.epochs=9"])
    assert (settings.optimiser.lr, settings.optimiser.clip, settings.train.epochs) == (0.02, 3.0, 9)


def test_on_and_off_are_words_in_files_and_on_the_command_line(tmp_path: Path) -> None:
    file = preset(tmp_path, "objective: {terms: {grl: {on: false}}}\nmodel: {erasure: off}\n")
    settings = load(RunSettings, [file], ["objective.terms.corr.on=false", "model.erasure=off"])
    assert not settings.objective.terms.grl.on
    assert not settings.objective.terms.corr.on
    assert settings.model.erasure == "off"


def test_lists_and_words_are_read_from_overrides() -> None:
    settings = load(RunSettings, [], ["fold.train_lines=[GM12878, HeLa-S3]", "fold.test_line=NHEK"])
    assert settings.fold.train_lines == ["GM12878", "HeLa-S3"]
    assert settings.fold.test_line == "NHEK"


def test_a_mistake_on_the_command_line_is_not_laid_to_the_file_alone(tmp_path: Path) -> None:
    file = preset(tmp_path, "optimiser: {lr: 1e-2}\n")
    with pytest.raises(UserError, match=r"first.yaml and the command line: unknown key 'optimiser.learn'"):
        load(RunSettings, [file.rename(tmp_path / "first.yaml")], ["optimiser.learn=1"])


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load(RunSettings, [preset(tmp_path, "")]) == RunSettings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", r"is not valid YAML: expected the node content.* \(line 1, column 5\)$"),
        ("a: 1\na: 2", r"is not valid YAML: found duplicate key \"a\".* \(line 2, column 1\)$"),
        ("- 1", r"must hold 'key: value' lines, not a list or a single value$"),
        ("optimizer: {lr: 1}", r"unknown key 'optimizer', did you mean 'optimiser'\?$"),
        ("optimiser: {learn: 1}", r"unknown key 'optimiser\.learn'"),
        ("optimiser: {lr: -1}", r"key 'optimiser\.lr' has value -1: input should be greater than 0$"),
        ("optimiser: {lr: fast}", r"key 'optimiser\.lr' has value 'fast': input should be a valid number"),
        ("engine: {zero_stage: 4}", r"key 'engine\.zero_stage' has value 4: input should be 0, 1, 2 or 3$"),
    ],
)
def test_what_a_file_gets_wrong_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    file = preset(tmp_path, text)
    with pytest.raises(UserError, match=message) as caught:
        load(RunSettings, [file])
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.lr", r"override 'optimiser\.lr' is not of the form key=value, for example optimiser\.lr=1e-3$"),
        ("optimiser.lr=[", r"override 'optimiser\.lr=\[' cannot be read: .* \(line 1, column 2\)$"),
        ("optimiser=3", r"key 'optimiser' has value 3"),
        ("optimiser.lr=", r"key 'optimiser\.lr' has value None"),
        ("optimiser.rl=1", r"unknown key 'optimiser\.rl', did you mean 'optimiser\.lr'\?$"),
    ],
)
def test_what_an_override_gets_wrong_is_one_sentence(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(RunSettings, [], [override])
