"""A file whose content is known at the end and becomes visible with those that grow: all of them, or none."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from data_pipeline.durable import write_durably


class WholeFile:
    """Holds the content of a file until the formats of a prediction are published."""

    def __init__(self, out: Path) -> None:
        """Nothing is written yet."""
        self._out = out
        self.content: bytes | str | None = None
        """What the file will hold; None: it is not written."""

    def __enter__(self) -> WholeFile:
        """Nothing is to be opened."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write it if all went well."""
        if error is None and self.content is not None:
            write_durably(self._out, self.content)
