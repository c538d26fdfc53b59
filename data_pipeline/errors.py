"""What may end a command without a traceback, a user's mistake or Ctrl-C, and the border that prints it.

A `UserError` is a sentence: what was wrong, where (file, row, key) and what to do. Every command runs inside
`command_line`, which prints the sentence and exits with status 2; anything else is a defect and keeps its traceback.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

NAMES_SHOWN = 40
"""Most names in a sentence."""


class UserError(Exception):
    """Something the user can mend; the message is one sentence that says what, where and what to do."""


class InterruptedByUserError(Exception):
    """Ctrl-C in work that can be continued; the message says how."""


@contextmanager
def continued_by(ways_on: Callable[[], str]) -> Iterator[None]:
    """Let Ctrl-C end the block with the sentence `ways_on()`, asked for only then."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise InterruptedByUserError(ways_on()) from stop


def listed(names: Sequence[object] | pd.Index) -> str:
    """Names for a sentence: all of a few, the first of many."""
    more = f", ... ({len(names)} in all)" if len(names) > NAMES_SHOWN else ""
    return ", ".join(map(str, names[:NAMES_SHOWN])) + more


def command_line(main: Callable[[], None]) -> None:
    """Run `main`; print a `UserError` as `error: ...` on stderr and exit with status 2 (Ctrl-C: 130)."""
    # A name that the terminal's encoding lacks must not end a run at the print of its results.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except InterruptedByUserError as stop:
        print(f"\ninterrupted: {stop}", file=sys.stderr)
        sys.exit(130)
