"""The study: every trial of a search, its point, its scores and how it ended, in a storage that survives a kill.

Optuna's storage is the only truth: a journal in the search folder, or a database. Tune starts and stops trials, but
what it remembers of them is thrown away: Tune's own OptunaSearch tells Optuna about a stopped trial as if it were
complete, with the value of the few folds it reached, and keeps the rungs of successive halving in memory. Here every
score is written as it comes, a trial ends as

    COMPLETE   all folds with all seeds: the only ones that are ranked, mapped and asked for importances
    PRUNED     stopped early, with the folds it reached; Optuna's TPE ranks these below the ones that got further
    FAIL       with its reason; the search goes on
    RUNNING    was interrupted, when no search is running: the next `--resume` takes it up under the same number

and the halving is Optuna's own (`SuccessiveHalvingPruner`, asynchronous), whose rungs are in the storage too. Trials
that only repeat a point with fresh seeds are a study of their own beside it, so that no sampler, importance or region
ever sees them. Only the process that runs the search writes; trials on other hosts report to it. Cost: a few
milliseconds per fold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from tune.search_space.samplers import make_sampler
from tune.search_space.settings import SearchSettings
from tune.search_space.space import Point, conditions, is_searched

FOLDS, REASON, POINT, REPEATS = "folds", "reason", "point", "repeats"
"""User attributes of a trial: finished folds, why it failed; of one that repeats: its point, and what it repeats."""
OF = "of"
"""User attribute of the study of repeats: how many trials its points were chosen from."""
DESIGN, CONFIRM = "trial", "confirm"
"""Kinds of trials, as the names of their runs begin."""
REPEATED = 3
"""Most points that are tried again."""
GOALS = ("maximize", "maximize", "minimize")
"""With several objectives: mean over folds, worst fold, mean calibration error."""


@dataclass(frozen=True)
class Proposal:
    """A trial to run."""

    kind: str
    """`DESIGN`, or `CONFIRM` for one that repeats a point with fresh seeds."""
    number: int
    """Its number among those of its kind, from 0; a trial that was interrupted keeps it."""
    point: Point
    """Value per searched key."""
    seeds: tuple[int, ...]
    """Training seeds, as counted from `train.seed`."""

    @property
    def name(self) -> str:
        """Under which it reports."""
        return f"{self.kind}-{self.number:04d}"


@dataclass(frozen=True)
class FoldScore:
    """What one finished fold of a trial says."""

    line: str
    """Validation line."""
    score: float
    """Its average precision, at the best of the run's epochs."""
    seconds: float
    """Wall-clock time of the run, 0 where a resumed search found it finished."""
    seed: int = 0
    """Training seed, as counted from `train.seed`."""
    step_seconds: float = math.nan
    """Median time of a step."""
    calibration_error: float = math.nan
    """Expected calibration error of the raw logits on the validation line at the end of the run."""
    shares: dict[str, float] = field(default_factory=dict)
    """Per term: median over the run's late steps of its gradient at the shared representation over the task's."""


class SearchStudy:
    """The trials of one search; `changed` is called after every event."""

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        search: SearchSettings,
        space: dict[str, BaseDistribution],
        folds: int,
        changed: Callable[[], None] = lambda: None,
        start: Point | None = None,
        repeat: Callable[[], dict[str, Point]] = dict,
    ) -> None:
        """Open the study `name` in `storage`, or begin it; a trial has `folds` inner folds with each of its seeds.

        `start` is a point to try first. `repeat` says, when all trials have ended, which points are tried again with
        fresh seeds, by a word for each.
        """
        self.search, self.space, self.folds = search, space, folds
        self._changed, self._repeat, self._start = changed, repeat, start if search.start else None
        goals = {"directions": GOALS} if search.sampler == "nsga2" else {"direction": "maximize"}
        self._studies = {
            DESIGN: optuna.create_study(
                storage=storage, study_name=name, pruner=_pruner(search), load_if_exists=True, **goals
            ),
            CONFIRM: optuna.create_study(
                storage=storage, study_name=f"{name}-confirm", direction="maximize", load_if_exists=True
            ),
        }
        self._waiting = [
            (kind, trial) for kind in self._studies for trial in self.trials(kind) if trial.state == TrialState.RUNNING
        ]
        self._live: dict[str, tuple[str, Trial, int]] = {}

    def trials(self, kind: str = DESIGN) -> list[FrozenTrial]:
        """All trials of a kind so far, by number."""
        return self._studies[kind].get_trials(deepcopy=False)

    @property
    def optuna(self) -> optuna.Study:
        """The study as Optuna's own functions take it."""
        return self._studies[DESIGN]

    def remaining(self) -> int:
        """Trials still to run or to finish, counting as many to try again as there can be until it is known."""
        waiting = sum(kind == DESIGN for kind, _ in self._waiting)
        left = max(0, self.search.trials - _ended(self.trials()), waiting)
        if not self.search.confirm:
            return left
        known = self._unrepeated() if left == 0 else {}
        return left + (len(known) + self._open(CONFIRM) if left == 0 else REPEATED)

    def propose(self) -> Proposal | None:
        """The next trial: an interrupted one if there is one, else a new point, else one to try again.

        None where there is nothing to start now: others have to end first, or all is done.
        """
        if self._waiting:
            kind, frozen = self._waiting.pop(0)
            # Optuna has no public way back from a number to a trial that can report.
            return self._begun(kind, Trial(self._studies[kind], frozen._trial_id))
        trials = self.trials()
        if len(trials) < self.search.trials:
            return self._begun(DESIGN, self._new(len(trials)))
        if not self.search.confirm or self._open(DESIGN):
            return None
        for word, point in self._unrepeated().items():
            trial = self._studies[CONFIRM].ask()
            trial.set_user_attr(POINT, point)
            trial.set_user_attr(REPEATS, word)
            return self._begun(CONFIRM, trial)
        return None

    def report(self, name: str, finished: list[FoldScore]) -> bool:
        """Take in the folds that trial `name` has finished; true if it should end now.

        Folds that were reported before are left as they stand, so a report may come twice.
        """
        if name not in self._live:
            return True
        kind, trial, wanted = self._live[name]
        known = len(trial.user_attrs.get(FOLDS, []))
        if len(finished) > known:
            trial.set_user_attr(FOLDS, [*trial.user_attrs.get(FOLDS, []), *map(vars, finished[known:])])
        if kind == DESIGN and self.search.early_stop:
            for count in range(known + 1, len(finished) + 1):
                trial.report(_mean(finished[:count]), count)
        if len(finished) == wanted:
            self._end(name, TrialState.COMPLETE, self._values(kind, finished))
            return True
        stop = kind == DESIGN and self.search.early_stop and len(finished) > known and trial.should_prune()
        if stop:
            self._end(name, TrialState.PRUNED, None)
        self._changed()
        return stop

    def fail(self, name: str, reason: str) -> None:
        """Record that trial `name` failed; one that has ended stays as it is."""
        if name in self._live:
            self._live[name][1].set_user_attr(REASON, reason)
            self._end(name, TrialState.FAIL, None)

    def _new(self, number: int) -> Trial:
        study = self._studies[DESIGN]
        if number == 0 and self._start is not None:
            study.enqueue_trial(dict(self._start))
        elsewhere = 0 if self._start is None else 1
        study.sampler = make_sampler(self.search, self.space, number, elsewhere)
        return study.ask()

    def _begun(self, kind: str, trial: Trial) -> Proposal:
        if kind == DESIGN:
            point: Point = {}
            for key, own in self.space.items():
                if is_searched(key, point, conditions(self.search)):
                    point[key] = _suggest(trial, key, own)
            seeds = tuple(range(self.search.seeds))
        else:
            point = dict(trial.user_attrs[POINT])
            seeds = tuple(range(self.search.seeds, self.search.seeds + self.search.confirm))
        proposal = Proposal(kind, trial.number, point, seeds)
        self._live[proposal.name] = (kind, trial, self.folds * len(seeds))
        self._changed()
        return proposal

    def _unrepeated(self) -> dict[str, Point]:
        """Points still to try again. Which they are is asked once per number of trials, because it takes a while."""
        confirm, count = self._studies[CONFIRM], len(self.trials())
        if confirm.user_attrs.get(OF) != count:
            confirm.set_user_attr(POINT, self._repeat())
            confirm.set_user_attr(OF, count)
        done = {trial.user_attrs.get(REPEATS) for trial in self.trials(CONFIRM)}
        return {word: point for word, point in confirm.user_attrs[POINT].items() if word not in done}

    def _open(self, kind: str) -> int:
        return sum(not trial.state.is_finished() for trial in self.trials(kind))

    def _values(self, kind: str, finished: list[FoldScore]) -> Any:
        if kind == DESIGN and self.search.sampler == "nsga2":
            lines = {fold.line for fold in finished}
            worst = min(_mean([fold for fold in finished if fold.line == line]) for line in lines)
            return [_mean(finished), worst, math.fsum(fold.calibration_error for fold in finished) / len(finished)]
        return _mean(finished)

    def _end(self, name: str, state: TrialState, value: Any) -> None:
        kind, trial, _ = self._live.pop(name)
        self._studies[kind].tell(trial, value, state)
        self._changed()


def folds_of(trial: FrozenTrial) -> list[FoldScore]:
    """The folds a trial has finished."""
    return [FoldScore(**fold) for fold in trial.user_attrs.get(FOLDS, [])]


def _mean(folds: list[FoldScore]) -> float:
    return math.fsum(fold.score for fold in folds) / len(folds)


def _ended(trials: list[FrozenTrial]) -> int:
    return sum(trial.state.is_finished() for trial in trials)


def _suggest(trial: Trial, key: str, own: BaseDistribution) -> Any:
    if isinstance(own, CategoricalDistribution):
        return trial.suggest_categorical(key, own.choices)
    if isinstance(own, IntDistribution):
        return trial.suggest_int(key, own.low, own.high, log=own.log)
    if isinstance(own, FloatDistribution):
        return trial.suggest_float(key, own.low, own.high, log=own.log)
    raise TypeError(f"no way to draw from {own}")


def _pruner(search: SearchSettings) -> BasePruner:
    if not search.early_stop:
        return NopPruner()
    return SuccessiveHalvingPruner(min_resource=search.grace, reduction_factor=search.reduction)
