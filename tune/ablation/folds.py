"""The folds of an ablation, from the words of the command line.

A list of lines is read against the lines of the store, so that a name may hold commas, colons and spaces. Words that
can be read in two ways (the store has `a`, `b` and `a,b`) are refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from data_pipeline.errors import UserError
from data_pipeline.store import Store
from distributed.settings import RunSettings

Folds = list[tuple[str, str]]
"""(test line, validation line) of each; the latter is empty where it is to be chosen."""


def choose_folds(store: Store, settings: RunSettings, folds: Sequence[str], test_lines: Sequence[str]) -> Folds:
    """(test line, validation line) of each fold: `folds` as TEST:VALID, or `test_lines`, or the one of `settings`.

    Each word of `folds` and `test_lines` may name several by comma. A test line without a validation line gets the one
    of `settings`, or the next line of the store that is neither it nor named for training. Raises `UserError`.
    """
    if folds and test_lines:
        raise UserError("give --folds or --test-lines, not both")
    pairs = [fold for word in folds for fold in _read("--folds", word, store.lines, True)]
    pairs += [fold for word in test_lines for fold in _read("--test-lines", word, store.lines, False)]
    pairs = pairs or [(settings.fold.test_line, settings.fold.valid_line)]
    chosen = [(test, valid or _next_line(store, settings, test)) for test, valid in pairs]
    for line in (line for fold in chosen for line in fold):
        if line not in store.lines:
            raise _unknown(line, store.lines)
    if len(set(chosen)) < len(chosen):
        raise UserError("a fold is named twice; every run would be there twice")
    return chosen


def _read(option: str, words: str, lines: Sequence[str], with_valid: bool) -> Folds:
    """The folds that `words` name; raises `UserError` unless there is one way to read them."""
    readings = list(islice(_readings(words, lines, with_valid), 2))
    if len(readings) == 1:
        return readings[0]
    if readings:
        raise UserError(
            f"{option} '{words}' can be read in two ways, because names of lines hold what separates them: as "
            f"{' or as '.join(map(str, readings))}; give one fold at a time, with fold.test_line= and fold.valid_line="
        )
    names = [name for fold in words.split(",") for name in (fold.split(":") if with_valid else [fold])]
    raise _unknown(next((name.strip() for name in names if name.strip() not in lines), words), lines)


def _readings(words: str, lines: Sequence[str], with_valid: bool) -> Iterator[Folds]:
    """Every way to read `words` as TEST, or TEST:VALID or TEST:, by comma; a comma may end them."""
    for test, rest in _after(words, lines):
        ways = [("", rest)]
        if with_valid and rest.startswith(":"):
            ways = [("", rest[1:].lstrip()), *_after(rest[1:], lines)]
        for valid, left in ways:
            if not left.strip(" ,"):
                yield [(test, valid)]
            elif left.startswith(","):
                yield from ([(test, valid), *others] for others in _readings(left[1:], lines, with_valid))


def _after(words: str, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(line, what follows it) for every line that `words` may begin with."""
    for line in lines:
        for text in {words, words.lstrip()}:
            if text.startswith(line):
                yield line, text[len(line) :].lstrip()


def _unknown(line: str, lines: Sequence[str]) -> UserError:
    return UserError(f"the store has no line '{line}'; --folds and --test-lines take {', '.join(lines)}")


def _next_line(store: Store, settings: RunSettings, test_line: str) -> str:
    if settings.fold.valid_line not in ("", test_line):
        return settings.fold.valid_line
    place = store.lines.index(test_line) if test_line in store.lines else 0
    order = [*store.lines[place + 1 :], *store.lines[:place]]
    # With named training lines, one of them is given up only where no other is left.
    return next((line for line in order if line not in settings.fold.train_lines), order[0] if order else "")
