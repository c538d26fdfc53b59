"""How Tune runs a study: which trial is next, when one is stopped, and how many fit at a time.

Both adapters keep no state of their own worth saving: the study on disk has it all (see study.py). A trial is one small
Tune actor that reserves the spare CPU of `distributed.cluster` and starts Ray Train workers beside it.
"""

from __future__ import annotations

import math
import os
from typing import Any, Literal

import ray
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from data_pipeline.errors import UserError
from distributed.cluster import join_ray, needed_cpus, resolve_device
from distributed.settings import RunSettings
from tune.search_space import FoldScore, SearchStudy


class StudySearcher(Searcher):
    """Proposes the study's trials to Tune, `concurrent` at a time."""

    def __init__(self, study: SearchStudy, concurrent: int, task: dict[str, Any]) -> None:
        """`task` goes into every trial's configuration."""
        super().__init__()
        self._study, self._concurrent, self._task = study, concurrent, task
        self._names: dict[str, str] = {}

    def suggest(self, trial_id: str) -> Any:
        """The next trial; None while as many as fit are running, or while what comes next waits for those that run."""
        if len(self._names) >= self._concurrent:
            return None
        proposal = self._study.propose()
        if proposal is None:
            return None if self._names else str(Searcher.FINISHED)
        self._names[trial_id] = proposal.name
        words = {"name": proposal.name, "point": proposal.point, "seeds": list(proposal.seeds)}
        return {**words, "task": self._task}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Make room; a trial that ended without a word has lost its process."""
        name = self._names.pop(trial_id)
        if error:
            self._study.fail(name, "the trial's process died, perhaps for want of memory; see the logs of Ray")

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is on disk already."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: every start makes a new searcher on the study."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its configuration, and an open study must not travel."""
        return {}


class StudyScheduler(FIFOScheduler):
    """Hands results to the study and stops the trials that it says should end."""

    def __init__(self, study: SearchStudy) -> None:
        """Schedule the trials of `study`."""
        super().__init__()
        self._study = study

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        """Called after every fold, and once more when the trial's function returns."""
        name = trial.config["name"]
        if "reason" in result:
            self._study.fail(name, result["reason"])
            return str(TrialScheduler.STOP)
        stop = self._study.report(name, [FoldScore(**fold) for fold in result.get("finished", [])])
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its configuration, and an open study must not travel."""
        return {}


def trial_capacity(settings: RunSettings, asked: int) -> tuple[int, Literal["cpu", "cuda"]]:
    """Join Ray, or start a local one; return how many trials fit at a time, and their device.

    A trial takes its workers, their read tasks and a spare CPU. A local Ray is given as many logical CPUs as the trials
    need whose workers find a core each. `asked` > 0 is taken instead. Raises `UserError` where not one trial fits.
    """
    per_trial = needed_cpus(settings)
    cores = len(os.sched_getaffinity(0))
    at_home = asked or max(1, math.floor(cores / (settings.workers.count * settings.workers.cpus)))
    join_ray(at_home * per_trial)
    device = resolve_device(settings)
    free = ray.available_resources()
    room = math.floor(free.get("CPU", 0) / per_trial)
    if device == "cuda":
        room = min(room, math.floor(free.get("GPU", 0) / settings.workers.count))
    if room < max(1, asked):
        gpus = f" and {settings.workers.count} GPUs" if device == "cuda" else ""
        raise UserError(
            f"{max(1, asked)} trials at a time need {per_trial:g} CPUs{gpus} each, and {free.get('CPU', 0):g} CPUs and "
            f"{free.get('GPU', 0):g} GPUs are free; lower --concurrent, workers.count or workers.cpus, or wait"
        )
    return asked or room, device
