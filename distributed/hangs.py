"""Where every thread of a worker stood when it had made no step for almost as long as workers wait for each other.

The worker that gives up waiting says during what, but not why another one never came: a hung file system, a lock, a
debugger. That one's own stack does, and is written while it still hangs.
"""

from __future__ import annotations

import faulthandler
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PAUSE = 0.01
"""Share of that time for which the clock that was set last still does: setting it costs a thread."""
SHARE = 0.9
"""Of the time workers wait for each other: before the waiting ones end it all."""


@contextmanager
def stacks_of_a_hang(file: Path, seconds: float) -> Iterator[Callable[[], None]]:
    """Yield `alive`; when it is not called for `SHARE` of `seconds`, the stacks of all threads are appended to `file`.

    Nothing else happens then. A file that stays empty is removed at the end.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as sink:
        set_at = -math.inf

        def alive() -> None:
            nonlocal set_at
            if (now := time.monotonic()) - set_at >= PAUSE * seconds:
                set_at = now
                faulthandler.dump_traceback_later(SHARE * seconds, repeat=False, file=sink)

        try:
            yield alive
        finally:
            faulthandler.cancel_dump_traceback_later()
    if file.stat().st_size == 0:
        file.unlink()
        with suppress(OSError):  # where another worker's lies there
            file.parent.rmdir()
