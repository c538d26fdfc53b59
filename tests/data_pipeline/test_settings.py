"""Settings: presets and overrides merge, and what cannot be meant is one sentence with the key in it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from data_pipeline.errors import UserError
from data_pipeline.settings import load
from data_pipeline.settings_text import LARGEST_MIB, yaml_text
from data_pipeline.sources.settings import StoreSettings
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


WORDS = ["K562 #2", "5637", "yes", "[a", "a: b", "null", "~", "${x}", "${oc.env:HOME}", "1e5", "007", "on",
         "'s", 'a "b"', " K562 ", "???", "2024-01-01", "{", "*x", "&x", "%", "@", "- a",
         "! b", "a=b", "", "#", "é"]  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_the_value_of_an_option_is_the_users_text(word: str) -> None:
    assert load(RunSettings, [], [], {"fold.test_line": word}).fold.test_line == word


@pytest.mark.parametrize("word", WORDS)
def test_an_override_of_text_is_the_users_text(word: str) -> None:
    assert load(RunSettings, [], [f"fold.test_line={word}"]).fold.test_line == word


@pytest.mark.parametrize("text", ['"K562 #2"', "'K562 #2'"])
def test_an_override_may_quote_text_as_yaml_does(text: str) -> None:
    assert load(RunSettings, [], [f"fold.test_line={text}"]).fold.test_line == "K562 #2"


@pytest.mark.parametrize("word", [word for word in WORDS if word])
def test_text_written_into_a_file_is_read_back(tmp_path: Path, word: str) -> None:
    file = tmp_path / "preset.yaml"
    file.write_bytes(yaml_text({"fold": {"test_line": word, "train_lines": [word, word], "valid_line": "x"}}))
    fold = load(RunSettings, [file]).fold
    assert (fold.test_line, fold.train_lines) == (word, [word, word])


@pytest.mark.parametrize("word", ["5637", "1e5", "NO", "on", "007", "0x1F", "2024-01-01", "5.10", "true", "${x}"])
def test_a_plain_word_of_a_file_is_text_where_the_field_is(tmp_path: Path, word: str) -> None:
    file = preset(tmp_path, f"fold: {{test_line: '{word}', train_lines: ['{word}', A]}}\n".replace("'", ""))
    if "{" in word:  # in braces of YAML's own it would be a mapping
        file = preset(tmp_path, f"fold:\n  test_line: {word}\n  train_lines:\n  - {word}\n  - A\n")
    fold = load(RunSettings, [file], ["fold.valid_line=B"]).fold
    assert (fold.test_line, fold.train_lines) == (word, [word, "A"])


def test_options_that_were_not_given_change_nothing_and_overrides_win() -> None:
    options = {"fold.test_line": None, "fold.valid_line": "A", "workers.count": 2}
    settings = load(RunSettings, [], ["fold.valid_line=B"], options)
    assert (settings.fold.test_line, settings.fold.valid_line, settings.workers.count) == ("", "B", 2)


@pytest.mark.parametrize(("text", "marks"), [(b"\xef\xbb\xbf", ""), (b"\xff\xfe", "utf-16-le"), (b"", "crlf")])
def test_files_of_other_systems_are_read(tmp_path: Path, text: bytes, marks: str) -> None:
    content = "fold:\n  test_line: é\n"
    content = content.replace("\n", "\r\n") if marks == "crlf" else content
    file = tmp_path / "preset.yaml"
    file.write_bytes(text + content.encode(marks if marks.startswith("utf") else "utf-8"))
    assert load(RunSettings, [file]).fold.test_line == "é"


def test_anchors_and_merge_keys_are_read(tmp_path: Path) -> None:
    file = preset(tmp_path, "fold: {test_line: &l 5637, train_lines: [*l, A]}\n")
    assert load(RunSettings, [file]).fold.train_lines == ["5637", "A"]


@pytest.mark.parametrize(("key", "value"), [("root", "${HOME}/data"), ("root", "${oc.env:HOME}"), ("root", "~/data"),
                         ("root", "$HOME/data"), ("pairs.0.csv.file", "${DATA}/pairs.csv")])  # fmt: skip
def test_a_path_that_counts_on_a_variable_is_refused_by_its_key(tmp_path: Path, key: str, value: str) -> None:
    file_name, root = (value, "x") if key.endswith("file") else ("pairs.csv", value)
    text = f"lines: [A]\nroot: {root}\npairs:\n- format: csv\n  line: A\n  file: {file_name}\n"
    with pytest.raises(UserError) as caught:
        load(StoreSettings, [preset(tmp_path, text)])
    says = "~ and variables are not replaced in settings; write the path itself"
    assert str(caught.value) == f"{tmp_path / 'preset.yaml'}: key '{key}' has value '{value}': value error, {says}"


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
        ("a: &a [*a]", r"is not valid YAML: an anchor stands inside itself \(line 1\)$"),
        ("a: 1\n---\nb: 1", r"is not valid YAML: .*another document"),
        ("a: " + "[" * 4000, r"is not valid YAML: it is nested too deeply$"),
        ("? [a]\n: b", r"is not valid YAML: unhashable type: 'list'$"),
        ("a: 2024-02-31", r"is not valid YAML: day is out of range for month$"),
        ("a: !!python/name:os.system x", r"is not valid YAML: could not determine a constructor for the tag"),
        ("a: \0", r"is not valid YAML: unacceptable character #x0000"),
        ("a:\n\t- b", r"is not valid YAML: found character '\\t' that cannot start any token \(line 2, column 1\)$"),
        ("1: a", r"unknown key '1'"),
        (
            "fold: {test_line: null}",
            r"key 'fold.test_line' has value None: .* \(if it is the word \"null\" or \"~\", put",
        ),
        ("engine: {zero_stage: 4}", r"key 'engine\.zero_stage' has value 4: input should be 0, 1, 2 or 3$"),
    ],
)
def test_what_a_file_gets_wrong_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    file = preset(tmp_path, text)
    with pytest.raises(UserError, match=message) as caught:
        load(RunSettings, [file])
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_value_that_unfolds_without_end_is_shown_in_short(tmp_path: Path) -> None:
    names = "abcdefghij"
    later = "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in itertools.pairwise(names)
    )
    file = preset(tmp_path, "a: &a [x, x]\n" + later + "fold: {train_lines: *j}\n")
    with pytest.raises(UserError, match=r"key 'fold\.train_lines\.0' has value") as caught:
        load(RunSettings, [file])
    assert len(str(caught.value)) < 20_000


def test_what_is_no_readable_file_of_settings_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"#" * (LARGEST_MIB * 2**20 + 1))
    (tmp_path / "latin").write_bytes("fold: {test_line: é}".encode("latin-1"))
    for name, message in [
        ("large", f"is larger than {LARGEST_MIB} MiB and is no file of settings"),
        ("latin", "is not valid YAML: unacceptable character #x00e9"),
        ("none", "does not exist"),
        (".", "cannot be read: Is a directory"),
        ("a\0b", "cannot be read: embedded null byte"),
    ]:
        with pytest.raises(UserError, match=f"settings file .* {message}"):
            load(RunSettings, [f"{tmp_path}/{name}"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("=3", r"override '=3' is not of the form key=value"),
        ("optimiser..lr=3", r"override 'optimiser\.\.lr=3' is not of the form key=value"),
        ("train.epochs=3 #2", r"cannot be read: what follows the # would be a comment; leave it out$"),
        ("fold.train_lines=[A, B #2]", r"cannot be read: expected ',' or '\]'"),
        ("fold.train_lines=A", r"key 'fold.train_lines' has value 'A': input should be a valid list"),
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
