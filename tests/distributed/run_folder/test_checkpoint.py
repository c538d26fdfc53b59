"""Checkpoints: what goes in comes out bit for bit, damage is seen, a failed write costs nothing that was there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from full_disks import no_file_larger_than
from tiny_training import tiny_settings
from torch import Tensor

from data_pipeline.durable import draft_of
from data_pipeline.errors import UserError
from distributed.run_folder.checkpoint import (
    FILES,
    Identity,
    TrainingState,
    best_checkpoint,
    checkpoints,
    load_checkpoint,
    prune_checkpoints,
    read_state,
    save_checkpoint,
    set_aside_damaged,
)
from distributed.run_folder.runs import Tenure, claim, held


def state_at(step: int, score: float = -1.0) -> TrainingState:
    return TrainingState(
        step=step,
        score=score,
        identity=Identity(store="s", fold="f", plan="p"),
        inputs={"signals": 0},
        train_lines=["sim1"],
        signal_names=[],
        settings={"train": {"seed": 0}},
    )


def tensors_of(step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {"weight": torch.randn(3, 5, generator=generator), "scale": torch.tensor(float(step))}


def saved(run: Path, *steps: int, scores: dict[int, float] | None = None) -> list[Path]:
    return [
        save_checkpoint(run, tensors_of(step), tensors_of(-step - 1), state_at(step, (scores or {}).get(step, -1.0)))
        for step in steps
    ]


def steps_of(run: Path) -> list[int]:
    return [state.step for _, state in checkpoints(run)]


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    (folder,) = saved(tmp_path, 12, scores={12: 0.25})
    model, optimiser, state = load_checkpoint(folder)
    assert state == state_at(12, 0.25) == read_state(folder)
    for found, wanted in ((model, tensors_of(12)), (optimiser, tensors_of(-13))):
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_a_view_of_a_larger_tensor_is_saved_as_itself(tmp_path: Path) -> None:
    view = torch.arange(12.0).view(3, 4).t()[1:3]
    folder = save_checkpoint(tmp_path, {"view": view}, {}, state_at(1))
    assert torch.equal(load_checkpoint(folder)[0]["view"], view)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_seen(tmp_path: Path, name: str) -> None:
    (folder,) = saved(tmp_path, 3)
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(
        UserError, match=rf"checkpoint file .*{name} is missing or damaged; remove .* to use an earlier"
    ):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_or_missing_file_is_seen(tmp_path: Path, name: str) -> None:
    (folder,) = saved(tmp_path, 3)
    (folder / name).write_bytes((folder / name).read_bytes()[:-5])
    with pytest.raises(UserError, match="is missing or damaged"):
        load_checkpoint(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match="is missing or damaged"):
        load_checkpoint(folder)


def test_a_truncated_state_is_seen(tmp_path: Path) -> None:
    (folder,) = saved(tmp_path, 3)
    state = folder / "state.json"
    state.write_text(state.read_text()[:-20])
    with pytest.raises(UserError, match=r"state\.json is damaged .* to use an earlier checkpoint"):
        read_state(folder)
    assert steps_of(tmp_path) == []


def test_damaged_checkpoints_are_set_aside_down_to_the_latest_whole_one(tmp_path: Path) -> None:
    folders = saved(tmp_path, 3, 6, 9, 12)
    for folder in (folders[0], folders[2], folders[3]):
        (folder / FILES[0]).write_bytes(b"rubbish")
    moved = set_aside_damaged(tmp_path)
    assert [folder.name for folder in moved] == ["damaged_checkpoint_000000012", "damaged_checkpoint_000000009"]
    assert steps_of(tmp_path) == [3, 6]
    assert set_aside_damaged(tmp_path) == []


def test_the_best_are_kept_and_the_latest_and_nothing_else(tmp_path: Path) -> None:
    saved(tmp_path, 3, 6, 9, 12, 15, scores={6: 0.4, 9: 0.6, 12: 0.5})
    prune_checkpoints(tmp_path, keep=2)
    assert steps_of(tmp_path) == [9, 12, 15]
    saved(tmp_path, 18, scores={18: 0.55})
    prune_checkpoints(tmp_path, keep=2)
    assert steps_of(tmp_path) == [9, 18]


def test_what_a_killed_writer_left_is_no_checkpoint_and_is_cleared_away(tmp_path: Path) -> None:
    saved(tmp_path, 3)
    left = draft_of(tmp_path / "checkpoint_000000006")
    left.mkdir()
    (left / "state.json").write_text("{")
    assert steps_of(tmp_path) == [3]
    prune_checkpoints(tmp_path, keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_000000003"]


def test_the_best_checkpoint_has_the_best_score_and_of_equals_is_the_later_one(tmp_path: Path) -> None:
    saved(tmp_path, 3, 6, 9, 12, scores={3: 0.2, 6: 0.4, 9: 0.4})
    assert best_checkpoint(tmp_path).name == "checkpoint_000000009"


def test_the_best_is_a_candidate_whatever_other_epochs_scored(tmp_path: Path) -> None:
    for step, score, candidate in ((3, 0.9, False), (6, 0.4, True), (9, 0.3, True), (12, -1.0, True)):
        state = state_at(step, score).model_copy(update={"candidate": candidate})
        save_checkpoint(tmp_path, tensors_of(step), tensors_of(step), state)
    assert best_checkpoint(tmp_path).name == "checkpoint_000000006"
    prune_checkpoints(tmp_path, keep=1)
    assert steps_of(tmp_path) == [6, 12]


def test_without_scores_the_latest_checkpoint_is_the_best(tmp_path: Path) -> None:
    saved(tmp_path, 3, 6)
    assert best_checkpoint(tmp_path).name == "checkpoint_000000006"


def test_a_run_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no checkpoint; train it first"):
        best_checkpoint(tmp_path)


def test_a_checkpoint_written_again_replaces_the_first(tmp_path: Path) -> None:
    saved(tmp_path, 3)
    saved(tmp_path, 3, scores={3: 0.7})
    assert [state.score for _, state in checkpoints(tmp_path)] == [0.7]


def test_a_disk_that_takes_no_more_is_one_sentence_and_leaves_the_earlier_checkpoint_whole(tmp_path: Path) -> None:
    (earlier,) = saved(tmp_path, 3)
    large = {"weight": torch.zeros(100_000)}
    with (
        no_file_larger_than(50_000),
        pytest.raises(UserError, match=r"checkpoint_000000006 cannot be written: .*; the earlier ones are whole: make"),
    ):
        save_checkpoint(tmp_path, large, large, state_at(6))
    assert [path.name for path in tmp_path.iterdir()] == [earlier.name]
    assert load_checkpoint(earlier)[2].step == 3


def test_a_run_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match=r"cannot be written: .*Not a directory"):
        save_checkpoint(tmp_path / "run", tensors_of(1), tensors_of(2), state_at(1))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("place", ["model", "optimiser"])
def test_a_tensor_that_is_not_finite_is_never_saved(tmp_path: Path, place: str, value: float) -> None:
    saved(tmp_path, 3)
    tensors = {"model": tensors_of(6), "optimiser": tensors_of(-7)}
    tensors[place]["weight"][1, 2] = value
    with pytest.raises(
        UserError, match=r"checkpoint_000000006 is not written: weight would not be finite; the earlier"
    ):
        save_checkpoint(tmp_path, tensors["model"], tensors["optimiser"], state_at(6))
    assert steps_of(tmp_path) == [3]


def test_a_score_that_is_not_finite_never_makes_the_best_checkpoint(tmp_path: Path) -> None:
    first = state_at(3).judged(0.4, patience=0, steps=9)
    second = first.model_copy(update={"step": 6}).judged(float("nan"), patience=0, steps=9)
    assert (second.score, second.best_score, second.best_step, second.epochs_without_gain) == (-1.0, 0.4, 3, 1)
    for state in (first, second):
        save_checkpoint(tmp_path, tensors_of(state.step), tensors_of(state.step), state)
    assert best_checkpoint(tmp_path).name == "checkpoint_000000003"


def test_what_a_killed_writer_of_the_same_process_number_left_stops_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / f".draft_{os.getpid()}").mkdir()
    draft_of(tmp_path / "checkpoint_000000003").mkdir()
    saved(tmp_path, 3)
    assert steps_of(tmp_path) == [3]


def test_a_writer_that_lost_the_run_while_it_wrote_leaves_no_checkpoint(tmp_path: Path) -> None:
    run = claim(tmp_path, "first", False, tmp_path / "store", "abc", tiny_settings())
    with held(run):
        old = Tenure.begin(run)
        save_checkpoint(run, tensors_of(3), tensors_of(-4), state_at(3), old.check)
        before = {path.name for path in run.iterdir()}

        def taken_over_meanwhile() -> None:
            Tenure.begin(run)
            old.check()

        with pytest.raises(UserError, match="was taken over by another process; these workers stop"):
            save_checkpoint(run, tensors_of(6), tensors_of(-7), state_at(6), taken_over_meanwhile)
        assert {path.name for path in run.iterdir()} == before
