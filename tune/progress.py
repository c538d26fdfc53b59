"""What a search shows while it runs: a line on the terminal and its table on disk."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from tune.search_space import CONFIRM, DESIGN, REPEATED, SearchSettings, SearchStudy, ranked, trial_table, write_table


class Progress:
    """A line on the terminal (plain lines in a log): trials ended, best so far, time left; and the table on disk."""

    def __init__(self, folder: Path, search: SearchSettings, lines: list[str]) -> None:
        """Prepare to follow the search in `folder` to its end over the validation `lines`."""
        self._folder, self._lines = folder, lines
        self._trials = search.trials + (REPEATED if search.confirm else 0)
        self._study: SearchStudy | None = None
        self._bar: tqdm | None = None

    def __enter__(self) -> Progress:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the line."""
        if self._bar is not None:
            self._bar.close()

    def follow(self, study: SearchStudy) -> None:
        """Show `study` from now on; what an earlier start did says nothing about this one's speed."""
        self._study = study
        self._bar = tqdm(
            total=self._trials,
            initial=_ended(study),
            unit="trial",
            desc=self._folder.name,
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 15.0,
            smoothing=0,  # stopped trials and whole ones take turns, so only the mean speed tells the time left
        )
        self.show()

    def show(self) -> None:
        """Write the table of trials and bring the line up to date."""
        if self._study is None or self._bar is None:
            return
        table = trial_table(self._study, self._lines)
        write_table(table, self._folder)
        best = ranked(table)
        counts = table["state"].value_counts() if len(table) else {}
        shown = {state: str(counts[state]) for state in ("running", "stopped", "failed") if state in counts}
        if len(best):
            shown["best"] = f"{best['score'].iloc[0]:.4f} (trial {best['number'].iloc[0]})"
        self._bar.n = _ended(self._study)
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(0)


def _ended(study: SearchStudy) -> int:
    return sum(trial.state.is_finished() for kind in (DESIGN, CONFIRM) for trial in study.trials(kind))
