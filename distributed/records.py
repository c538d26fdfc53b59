"""What a run writes down while it trains: JSON lines and TensorBoard, and the live line that reads them back.

`metrics/steps.jsonl` has one record per logged step, `metrics/epochs.jsonl` one per epoch; both can be read while the
run goes on. On resume, records of steps that will be taken again are dropped first, so that a step stands there once.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

STEPS, EPOCHS = "metrics/steps.jsonl", "metrics/epochs.jsonl"


class Records:
    """Writer of a run's records; one process, rank 0, uses it."""

    def __init__(self, run: Path, step: int) -> None:
        """Continue the records of `run` at `step`: later ones are dropped."""
        (run / "metrics").mkdir(parents=True, exist_ok=True)
        for name in (STEPS, EPOCHS):
            _drop_from(run / name, step)
        self._run = run
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step or None)

    def step(self, step: int, values: dict[str, float]) -> None:
        """Record of step `step` (0-based number of the step just taken)."""
        self._append(STEPS, {"step": step, **values})
        self._show("step", step, values)

    def epoch(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """Record of the end of `epoch`, after step `step`."""
        self._append(EPOCHS, {"step": step, "epoch": epoch, **values})
        self._show("epoch", step, values)

    def close(self) -> None:
        """Flush TensorBoard."""
        self._board.close()

    def _append(self, name: str, values: dict[str, Any]) -> None:
        with (self._run / name).open("a") as file:
            file.write(json.dumps(values) + "\n")

    def _show(self, prefix: str, step: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            self._board.add_scalar(f"{prefix}/{key}", value, step)
        self._board.flush()


def read_records(file: Path) -> pd.DataFrame:
    """A table of the records in `file`; empty if there are none. A half-written last line is left out."""
    return pd.DataFrame(_complete_lines(file))


class Progress:
    """A line on the terminal (plain lines in a log) that follows a run's records from another process."""

    def __init__(self, run: Path, total_steps: int, start: int = 0) -> None:
        """Follow `run` up to `total_steps`."""
        self._run, self._stop = run, threading.Event()
        tty = sys.stderr.isatty()
        self._bar = tqdm(
            total=total_steps,
            initial=start,
            unit="step",
            desc=run.name,
            dynamic_ncols=True,
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
        steps, epochs = _complete_lines(self._run / STEPS), _complete_lines(self._run / EPOCHS)
        shown: dict[str, str] = {}
        if steps:
            shown["loss"] = f"{steps[-1]['loss/total']:.4f}"
            self._bar.n = max(steps[-1]["step"] + 1, self._bar.n)
        if epochs:
            shown["valid AP"] = f"{epochs[-1]['valid/average_precision']:.4f}"
            shown["best"] = f"{max(record['valid/average_precision'] for record in epochs):.4f}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(0)


def _complete_lines(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    text = file.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _drop_from(file: Path, step: int) -> None:
    kept = [record for record in _complete_lines(file) if record["step"] < step]
    file.write_text("".join(json.dumps(record) + "\n" for record in kept))
