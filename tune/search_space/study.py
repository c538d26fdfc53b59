"""The study: every trial of a search, its point, its scores and how it ended, in one file that survives a kill.

Optuna's journal in the search folder is the only truth. Tune starts and stops trials, but what it remembers of them is
thrown away: Tune's own OptunaSearch tells Optuna about a stopped trial as if it were complete, with the value of the
few folds it reached, and keeps the rungs of successive halving in memory. Here every score is written as it comes, a
trial ends as

    COMPLETE   all folds: the only ones that are ranked, mapped and asked for importances
    PRUNED     stopped early, with the folds it reached; Optuna's TPE ranks these below the ones that got further
    FAIL       with its reason; the search goes on
    RUNNING    was interrupted, when no search is running: the next `--resume` takes it up under the same number

and the halving is Optuna's own (`SuccessiveHalvingPruner`, asynchronous), whose rungs are in the journal too. Only the
process that runs the search writes; trials on other hosts report to it. Cost: a few milliseconds per fold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from tune.search_space.samplers import make_sampler
from tune.search_space.space import Point, SearchSettings

JOURNAL = "study.journal"
FOLDS, REASON = "folds", "reason"
"""User attributes of a trial: its finished folds, and why it failed."""


@dataclass(frozen=True)
class Proposal:
    """A trial to run."""

    number: int
    """Its number, from 0; a trial that was interrupted keeps it."""
    point: Point
    """Value per searched key."""


@dataclass(frozen=True)
class FoldScore:
    """What one finished fold of a trial says."""

    line: str
    """Validation line."""
    score: float
    """Its average precision, at the best of the run's epochs."""
    seconds: float
    """Wall-clock time of the run, 0 where a resumed search found it finished."""


class SearchStudy:
    """The trials of one search; `changed` is called after every event."""

    def __init__(
        self,
        folder: Path,
        search: SearchSettings,
        space: dict[str, BaseDistribution],
        folds: int,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the study in `folder`, or begin it; a trial has `folds` inner folds."""
        self.search, self.space, self.folds, self._changed = search, space, folds, changed
        file = folder / JOURNAL
        _drop_torn_line(file)
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(file))),
            study_name="search",
            direction="maximize",
            pruner=_pruner(search),
            load_if_exists=True,
        )
        self._waiting = [trial for trial in self.trials() if trial.state == TrialState.RUNNING]
        self._live: dict[int, Trial] = {}

    def trials(self) -> list[FrozenTrial]:
        """All trials so far, by number."""
        return self._study.get_trials(deepcopy=False)

    @property
    def optuna(self) -> optuna.Study:
        """The study as Optuna's own functions take it."""
        return self._study

    def remaining(self) -> int:
        """Trials still to run or to finish."""
        ended = sum(trial.state.is_finished() for trial in self.trials())
        return max(0, max(self.search.trials - ended, len(self._waiting)))

    def propose(self) -> Proposal:
        """The next trial: an interrupted one if there is one, else a new point."""
        if self._waiting:
            frozen = self._waiting.pop(0)
            # Optuna has no public way back from a number to a trial that can report.
            trial = Trial(self._study, frozen._trial_id)
        else:
            self._study.sampler = make_sampler(self.search, self.space, len(self.trials()))
            trial = self._study.ask(self.space)
        self._live[trial.number] = trial
        self._changed()
        return Proposal(trial.number, dict(trial.params))

    def report(self, number: int, finished: list[FoldScore]) -> bool:
        """Take in the folds that trial `number` has finished; true if it should end now.

        Folds that were reported before are left as they stand, so a report may come twice.
        """
        trial = self._live.get(number)
        if trial is None:
            return True
        known = len(self.trials()[number].intermediate_values)
        for count in range(known + 1, len(finished) + 1):
            earlier = list(trial.user_attrs.get(FOLDS, []))[: count - 1]
            trial.set_user_attr(FOLDS, [*earlier, vars(finished[count - 1])])
            trial.report(_mean(finished[:count]), count)
        if len(finished) == self.folds:
            self._end(number, TrialState.COMPLETE, _mean(finished))
            return True
        stop = len(finished) > known and trial.should_prune()
        if stop:
            self._end(number, TrialState.PRUNED, None)
        self._changed()
        return stop

    def fail(self, number: int, reason: str) -> None:
        """Record that trial `number` failed; one that has ended stays as it is."""
        if number in self._live:
            self._live[number].set_user_attr(REASON, reason)
            self._end(number, TrialState.FAIL, None)

    def _end(self, number: int, state: TrialState, value: float | None) -> None:
        self._study.tell(self._live.pop(number), value, state)
        self._changed()


def folds_of(trial: FrozenTrial) -> list[FoldScore]:
    """The folds a trial has finished."""
    return [FoldScore(**fold) for fold in trial.user_attrs.get(FOLDS, [])]


def _mean(folds: list[FoldScore]) -> float:
    return math.fsum(fold.score for fold in folds) / len(folds)


def _pruner(search: SearchSettings) -> BasePruner:
    if not search.early_stop:
        return NopPruner()
    return SuccessiveHalvingPruner(min_resource=search.grace, reduction_factor=search.reduction)


def _drop_torn_line(file: Path) -> None:
    """Cut off a last line that a crash left unfinished; appended to, it would make the journal unreadable."""
    if not file.is_file():
        return
    content = file.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with file.open("r+b") as journal:
            journal.truncate(whole)
