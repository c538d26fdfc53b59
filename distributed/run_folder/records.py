"""What a run writes down while it trains: JSON lines and TensorBoard, and the live line that reads them back.

`metrics/steps.jsonl` has one record per logged step, `metrics/epochs.jsonl` one per validation (means over an epoch's
steps stand in that of its end), `metrics/alarms.jsonl` one per alarm that turned on or off and per response; all can be
read while the run goes on. On resume, records of steps that will be taken again are dropped first, so that a step
stands there once.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import pandas as pd
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from data_pipeline.durable import write_durably
from distributed.monitoring import Reply
from evaluation import Event

STEPS, EPOCHS, ALARMS = "metrics/steps.jsonl", "metrics/epochs.jsonl", "metrics/alarms.jsonl"


class Records:
    """Writer of a run's records; one process, rank 0, uses it."""

    def __init__(self, run: Path, step: int) -> None:
        """Continue the records of `run` at `step`: later ones are dropped."""
        (run / "metrics").mkdir(parents=True, exist_ok=True)
        for name in (STEPS, EPOCHS, ALARMS):
            _drop_from(run / name, step)
        self._run = run
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step or None)

    def step(self, step: int, values: dict[str, float]) -> None:
        """Record of step `step` (0-based number of the step just taken)."""
        self._append(STEPS, {"step": step, **values})
        self._show("step", step, values)

    def epoch(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """Record of a validation in `epoch` or at its end, after step `step`."""
        self._append(EPOCHS, {"step": step, "epoch": epoch, **values})
        self._show("epoch", step, values)

    def alarm(self, event: Event) -> None:
        """Record of an alarm that turned on or off."""
        self._append(ALARMS, asdict(event))
        name = f"{event.alarm}/{event.place}".rstrip("/")
        self._board.add_scalar(f"alarm/{name}", float(event.on), event.step)
        if event.on:
            self._board.add_text(f"alarm/{name}", event.says, event.step)
        self._board.flush()

    def response(self, step: int, reply: Reply) -> None:
        """Record of what a response said or did after step `step`."""
        self._append(ALARMS, {"step": step, **asdict(reply)})
        self._board.add_text(f"response/{reply.requirement}", reply.says, step)
        self._board.flush()

    def close(self) -> None:
        """Flush TensorBoard."""
        self._board.close()

    def _append(self, name: str, values: dict[str, Any]) -> None:
        with (self._run / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def _show(self, prefix: str, step: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            self._board.add_scalar(f"{prefix}/{key}", value, step)
        self._board.flush()


class _PlainLines:
    """Where the progress line goes in a log: each state of it on a line of its own."""

    def write(self, text: str) -> None:
        if text.strip():
            sys.stderr.write(text.strip() + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def told(record: dict[str, Any]) -> str | None:
    """The console's line for a record of an alarm or response; None for an alarm that turned off."""
    if "response" in record:
        did = "acts" if record["acted"] else "advises"
        return f"step {record['step']}: {record['requirement']} {did}: {record['says']}"
    return f"step {record['step']}: ALARM: {record['says']}" if record["on"] else None


def read_records(file: Path) -> pd.DataFrame:
    """A table of the records in `file`; empty if there are none. A half-written last line is left out."""
    return pd.DataFrame(read_lines(file))


class Progress:
    """A line on the terminal (plain lines in a log) that follows a run's records from another process."""

    def __init__(self, run: Path, total_steps: int, start: int = 0) -> None:
        """Follow `run` up to `total_steps`."""
        self._stop = threading.Event()
        self._steps, self._epochs, self._alarms = (Tail(run / name) for name in (STEPS, EPOCHS, ALARMS))
        self._said = set(self._told())
        self._best = -math.inf
        self._shown: dict[str, str] = {}
        tty = sys.stderr.isatty()
        log: Any = sys.stderr if tty else _PlainLines()
        self._bar = tqdm(
            total=total_steps,
            initial=start,
            unit="step",
            desc=run.name,
            dynamic_ncols=True,
            file=log,
            mininterval=0.5 if tty else 15.0,
            maxinterval=1.0 if tty else 15.0,
        )
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Progress:
        """Begin to follow."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show the last record and end the line."""
        self._stop.set()
        self._thread.join()
        self._update()
        self._bar.close()

    def _follow(self) -> None:
        while not self._stop.wait(1.0):
            self._update()

    def _update(self) -> None:
        for record in self._steps.news()[-1:]:
            self._shown["loss"] = f"{record.get('loss/total', math.nan):.4f}"
            self._bar.n = max(record["step"] + 1, self._bar.n)
        for record in self._epochs.news():
            self._best = max(self._best, record["valid/average_precision"])
            self._shown |= {"valid AP": f"{record['valid/average_precision']:.4f}", "best": f"{self._best:.4f}"}
        for line in self._told():
            if line not in self._said:
                self._said.add(line)
                self._bar.write(line, file=sys.stderr)
        self._bar.set_postfix(self._shown, refresh=False)
        self._bar.update(0)

    def _told(self) -> list[str]:
        return [line for record in self._alarms.news() if (line := told(record))]


class Tail:
    """What a growing file of JSON lines gained since the last look; a look costs what is new, whatever came before.

    A half-written last line waits for its end. A file that was begun anew, as a resumed run does, is read from its
    start.
    """

    def __init__(self, file: Path) -> None:
        """Nothing of `file`, which need not exist yet, is read before the first look."""
        self._file = file
        self._read, self._inode = 0, 0

    def news(self) -> list[dict[str, Any]]:
        """The records that were added since the last call, in order."""
        try:
            source = self._file.open("rb")
        except OSError:
            # Whoever only looks on must not end a run, nor hide what ends it.
            return []
        with source:
            if not self._goes_on(source):
                self._read = 0
            source.seek(self._read)
            content = source.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        return [json.loads(line) for line in whole.splitlines()]

    def _goes_on(self, source: BinaryIO) -> bool:
        """Whether the file is the one of before and has a line's end where reading stopped."""
        before, self._inode = self._inode, os.fstat(source.fileno()).st_ino
        source.seek(max(self._read - 1, 0))
        return before == self._inode and (self._read == 0 or source.read(1) == b"\n")


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The records in `file`, in order; a half-written last line is left out."""
    if not file.is_file():
        return []
    text = file.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _drop_from(file: Path, step: int) -> None:
    kept = [record for record in read_lines(file) if record["step"] < step]
    write_durably(file, "".join(json.dumps(record) + "\n" for record in kept).encode())
