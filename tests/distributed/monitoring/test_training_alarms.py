"""Claims about what a run writes down of its alarms and responses, and how the console and the report retell it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distributed.monitoring.responses import Reply
from distributed.run_folder.records import ALARMS, EPOCHS, STEPS, Progress, Records, Tail, read_lines
from evaluation.alarms import Event
from evaluation.findings import training_findings

ON = Event(210, "drowned", "corr", True, "corr is drowned")
OFF = Event(300, "drowned", "corr", False, "corr is drowned")
AGAIN = Event(600, "drowned", "corr", True, "corr is drowned still")
BOUND = Event(310, "temperature", "", True, "T = .5 is at its bound")
REPLY = Reply("R103", "temperature", True, "L2 on t")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    records = Records(tmp_path, 0)
    records.step(0, {"loss/total": 1.0})
    records.epoch(9, 0, {"valid/average_precision": 0.5})
    for event in (ON, OFF, BOUND):
        records.alarm(event)
    records.response(319, REPLY)
    records.alarm(AGAIN)
    records.close()
    return tmp_path


def test_alarms_and_responses_stand_in_the_json_lines(run: Path) -> None:
    lines = [json.loads(line) for line in (run / ALARMS).read_text().splitlines()]
    assert [line["step"] for line in lines] == [210, 300, 310, 319, 600]
    assert lines[0] == {"step": 210, "alarm": "drowned", "place": "corr", "on": True, "says": "corr is drowned"}
    assert (lines[3]["requirement"], lines[3]["acted"]) == ("R103", True)


def test_tensorboard_shows_them_as_scalars_and_text(run: Path) -> None:
    board = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in board.Scalars("alarm/drowned/corr")] == [
        (210, 1),
        (300, 0),
        (600, 1),
    ]
    texts = set(board.Tags()["tensors"])
    assert {"alarm/drowned/corr/text_summary", "alarm/temperature/text_summary", "response/R103/text_summary"} <= texts


def test_a_resumed_run_drops_the_alarms_of_steps_it_takes_again(run: Path) -> None:
    Records(run, 310).close()
    assert [record["step"] for record in read_lines(run / ALARMS)] == [210, 300]


def test_the_console_says_an_alarm_once_when_it_turns_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = (run / ALARMS).read_text()
    (run / ALARMS).write_text("")
    with Progress(run, 700):
        (run / ALARMS).write_text(moved)
    shown = capsys.readouterr().err
    for line in (
        "step 210: ALARM: corr is drowned",
        "step 310: ALARM: T = .5 is at its bound",
        "step 319: R103 acts: L2 on t",
    ):
        assert shown.count(line + "\n") == 1
    assert "step 300" not in shown


def test_the_console_does_not_repeat_what_was_said_before_a_resume(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(run, 700, 600):
        pass
    assert "ALARM" not in capsys.readouterr().err


def test_the_report_tells_each_alarm_once_with_when_and_whether_it_ended(run: Path) -> None:
    assert training_findings(read_lines(run / ALARMS)) == [
        "in training, from step 210, 2 times in all, still on at the end: corr is drowned",
        "in training, from step 310, still on at the end: T = .5 is at its bound",
        "response R103 acted at step 319: L2 on t",
    ]
    records = read_lines(run / ALARMS)[:2]
    assert training_findings(records) == ["in training, from step 210, over at step 300: corr is drowned"]


def test_a_run_without_alarms_has_nothing_to_tell(tmp_path: Path) -> None:
    Records(tmp_path, 0).close()
    assert training_findings(read_lines(tmp_path / ALARMS)) == []
    assert {path.name for path in (tmp_path / STEPS).parent.iterdir()} == {
        Path(STEPS).name,
        Path(EPOCHS).name,
        "alarms.jsonl",
    }


def test_the_progress_line_bears_a_step_without_a_finite_loss(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (run / STEPS).open("a") as file:
        file.write(json.dumps({"step": 1, "loss/task": 0.7}) + "\n")
    with Progress(run, 700):
        pass
    assert "loss=nan" in capsys.readouterr().err


def test_a_tail_tells_each_record_once_and_lets_a_half_written_line_wait(tmp_path: Path) -> None:
    file = tmp_path / "steps.jsonl"
    tail = Tail(file)
    assert tail.news() == []
    file.write_text('{"step": 0}\n{"step": 1}\n{"st')
    assert tail.news() == [{"step": 0}, {"step": 1}]
    assert tail.news() == []
    with file.open("a") as end:
        end.write('ep": 2}\n')
    assert tail.news() == [{"step": 2}]


@pytest.mark.parametrize("content", ['{"step": 7}\n', '{"step": 7}\n' * 9], ids=["shorter", "longer"])
@pytest.mark.parametrize("anew", ["replaced", "overwritten"])
def test_a_tail_reads_a_file_that_was_begun_anew_from_its_start(tmp_path: Path, anew: str, content: str) -> None:
    file = tmp_path / "steps.jsonl"
    file.write_text('{"step": 0, "loss": 1}\n{"step": 1}\n')
    tail = Tail(file)
    assert len(tail.news()) == 2
    if anew == "replaced":
        (tmp_path / "new").write_text(content)
        (tmp_path / "new").replace(file)
    else:
        file.write_text(content)
    assert tail.news() == [json.loads(line) for line in content.splitlines()]


def test_a_look_at_a_long_file_reads_what_is_new_only(tmp_path: Path) -> None:
    file = tmp_path / "steps.jsonl"
    file.write_text('{"step": 0}\n' * 20_000)
    tail = Tail(file)
    assert len(tail.news()) == 20_000
    # What was read is no JSON any more, which a second reading would notice.
    size = file.stat().st_size
    with file.open("r+b") as both:
        both.write(b"x" * (size - 1))
        both.seek(size)
        both.write(b'{"step": 1}\n')
    assert tail.news() == [{"step": 1}]
