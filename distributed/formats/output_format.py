"""What every format has in common: what it needs, which files it writes, and that all appear together at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from distributed.formats.subject import Batch, Subject


class Format(ABC):
    """A file, or two, of a prediction; a context in which batches are written."""

    calibrated: ClassVar[bool] = True
    """Whether it gives probabilities, for which the model needs a calibration."""
    placed: ClassVar[bool] = True
    """Whether it gives coordinates, which every pair then needs."""
    genes: ClassVar[bool] = False
    """Whether every promoter needs a gene's symbol or Ensembl identifier."""

    def __init__(self, file: Path, subject: Subject) -> None:
        """Nothing is opened yet."""
        self.file, self.subject = file, subject
        self._open = ExitStack()

    @property
    def files(self) -> list[Path]:
        """The files it will write."""
        return [self.file]

    @property
    def threshold(self) -> float:
        """The probability at which a pair is called; only of a format that is `calibrated`."""
        assert self.subject.threshold is not None
        return self.subject.threshold

    @abstractmethod
    def start(self, opened: ExitStack) -> None:
        """Open the files; what `opened` holds is closed, and published if all went well, at the end."""

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Take the next rows."""

    def finish(self) -> None:
        """Write what could not be written before the last row was seen; nothing, unless a format says otherwise."""
        return

    def __enter__(self) -> Self:
        """Open the files under hidden names."""
        with ExitStack() as opened:
            self.start(opened)
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the files their names if all went well, else remove them."""
        with self._open as opened:
            if error is not None:
                # What is open learns of the error and discards its draft; the error itself goes on from here.
                opened.pop_all().__exit__(kind, error, trace)
                return
            self.finish()
