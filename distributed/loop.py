"""The training loop of one worker.

1. Open the store, resolve fold and plan, build the module, put a checkpoint's state into it if there is one.
2. For each step: take this worker's episodes from the stream, forward, backward, optimiser step.
3. At the end of an epoch, and every so many steps where asked, score the validation line; stop early on it; checkpoint
   here and every N steps.

Guarantees: the state after step s is a function of (store, fold, settings, seed, s). Random numbers are seeded per
step, so a resumed run takes the very steps an uninterrupted one would have taken. Validation runs on a copy of the
model outside the engine, so it is the same under every ZeRO stage.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from data_pipeline.episodes import EpisodeBatch, Plan, resolve_fold, started, stream
from data_pipeline.errors import UserError
from data_pipeline.settings import validate
from data_pipeline.store import Store
from distributed.assembly import build_module, judged_next, total_steps, unfitted_module, validation_rows
from distributed.engine import (
    full_moments,
    full_parameters,
    learn,
    learning_rate,
    level_buffers,
    load_moments,
    set_learning_rate,
    start_engine,
    start_process_group,
)
from distributed.failures import told
from distributed.hangs import stacks_of_a_hang
from distributed.monitoring import Observations, Watch, apply_adjustments, blame, numbers
from distributed.process_group import require_gpu
from distributed.run_folder import (
    Identity,
    Records,
    Tenure,
    TrainingState,
    checkpoints,
    continued,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
    written,
)
from distributed.settings import RunSettings
from evaluation import SCORE, epoch_figures, has_environment
from model.objective import TrainingModule

Agreed = TypeVar("Agreed")


@dataclass(frozen=True)
class Worker:
    """This process's place among the workers."""

    rank: int
    world: int
    device: torch.device


@dataclass
class Doing:
    """What this worker is at, for the sentence of one that waits in vain for the others."""

    what: str = "the start"
    step: int = 0
    alive: Callable[[], None] = lambda: None
    """Called whenever this worker turns to something else."""

    def turn_to(self, what: str, step: int) -> None:
        """Say what comes next."""
        self.what, self.step = what, step
        self.alive()

    def sentence(self) -> str:
        """For example `validation after step 40`."""
        return f"{self.what}{' after' if self.what != 'step' else ''} step {self.step}" if self.step else self.what


class Training:
    """One worker's run; `run()` takes it from its checkpoint (or the start) to its end."""

    def __init__(
        self,
        settings: RunSettings,
        store_path: Path,
        run: Path,
        checkpoint: Path | None,
        worker: Worker,
        doing: Doing | None = None,
    ):
        """Build everything up to the engine; `checkpoint` None starts at step 0."""
        self.settings, self.worker, self.run_folder, self.doing = settings, worker, run, doing or Doing()
        self.store = Store.open(store_path)
        self.fold = resolve_fold(self.store, settings.fold)
        self.plan = Plan(self.store, self.fold, settings.episodes, settings.train.seed)
        self.plan.slots(worker.rank, worker.world)
        self.steps = total_steps(self.plan, settings)
        torch.manual_seed(settings.train.seed)
        module = build_module(self.store, self.fold, settings)
        moments = None
        self.state = self._first_state()
        if checkpoint is not None:
            tensors, moments, self.state = load_checkpoint(checkpoint)
            module.load_state_dict(tensors)
            self.state = continued(self.state, run, self.plan, settings)
        episodes = len(self.plan.slots(worker.rank, worker.world))
        module.to(worker.device)
        self.engine = start_engine(module, settings.optimiser, settings.engine, episodes, settings.workers.timeout)
        if moments is not None:
            load_moments(self.engine, moments)
        energies = has_environment(module.model)
        train, decay = settings.train, settings.optimiser.weight_decay
        self.watch = Watch(settings.model, settings.objective, train.responses, decay, train.patience, energies)
        apply_adjustments(self.engine, self.state.watch.adjustments, decay)
        self.observations = Observations(self.engine.module)
        self.valid_rows = validation_rows(self.store, self.fold, settings.scoring.valid_pairs)
        self.tenure = Tenure.begin(run) if worker.rank == 0 else None
        self.records = Records(run, self.state.step) if worker.rank == 0 else None

    def run(self) -> None:
        """Train to the end; the last report says so."""
        batches = self._batches(self.state.step) if self.state.step < self.steps else iter(())
        while not self.state.finished and self.state.step < self.steps:
            epoch, began = self.plan.epoch_of(self.state.step), time.perf_counter()
            end = judged_next(self.plan, self.settings, self.state.step)
            for batch, wait in timed(batches):
                self._step(batch, wait)
                every = self.settings.train.checkpoint_every
                if every and self.state.step % every == 0 and self.state.step < end:
                    self._checkpoint(self.state.model_copy(update={"score": -1.0}))
            # The next pipeline starts up while this stretch is validated.
            batches = self._batches(self.state.step) if self.state.step < self.steps else iter(())
            self._judge(epoch, time.perf_counter() - began)
        if self.records:
            self.records.close()

    def _batches(self, start: int) -> Iterator[EpisodeBatch]:
        """Batches from step `start` to the next validation; the pipeline starts at once."""
        stop = judged_next(self.plan, self.settings, start)
        rank, world = self.worker.rank, self.worker.world
        own = self.settings.model.environment
        asked = self.settings.stream, own.labelled_support, own.profile.shape
        return started(stream(self.store.path, self.plan, start, stop, rank, world, *asked))

    def _step(self, batch: EpisodeBatch, wait: float) -> None:
        step = self.state.step
        self.doing.turn_to("step", step + 1)
        began = time.perf_counter()
        torch.manual_seed(step_seed(self.settings.train.seed, step, self.worker.rank))
        rate = learning_rate(step, self.steps, self.settings.optimiser)
        set_learning_rate(self.engine, rate)
        self.engine.train()
        self.observations.keep()
        batch = batch.to(self.worker.device)
        total, report = self.engine(batch, step, step / self.plan.steps_per_epoch)
        norm = learn(self.engine, total)
        learnt = math.isfinite(norm)
        if not learnt:
            self.observations.restore()
        self.state = self.state.model_copy(
            update={"step": step + 1, "bad_steps": 0 if learnt else self.state.bad_steps + 1}
        )
        if self.records:
            values = numbers(report) | {"learning_rate": rate, "gradient_norm": norm}
            self._record(self.records, step, values, time.perf_counter() - began, wait)
        if self.state.bad_steps >= self.settings.train.bad_steps:
            raise self._stopped(batch, step, numbers(report))

    def _stopped(self, batch: EpisodeBatch, step: int, values: dict[str, float]) -> UserError:
        """What ends a run that no longer learns; collective."""
        losses = {name: value for name, value in values.items() if name.startswith("loss/")}
        epoch = step / self.plan.steps_per_epoch
        what = blame(self._copy(), batch, step, epoch, losses, self.fold.train_lines)
        count = self.state.bad_steps
        steps = f"{count} steps in a row, {step - count + 1} to {step}," if count > 1 else f"step {step}"
        return UserError(
            f"run {self.run_folder} stops because {steps} taught nothing: {what}; its checkpoints hold finite states "
            "only: start a new run with a lower optimiser.lr, without the term "
            "(objective.terms.NAME.on=false), or without what is odd in the data of the line"
        )

    def _record(self, records: Records, step: int, values: dict[str, float], seconds: float, wait: float) -> None:
        """Watch a step's report, and write it down where it is due."""
        self._check_tenure()
        watch, events = self.watch.step(self.state.watch, values, step)
        self.state = self.state.model_copy(update={"watch": watch})
        for event in events:
            records.alarm(event)
        if step % self.settings.train.log_every and step + 1 != self.steps:
            return
        pairs = self.plan.episodes_per_step * (self.plan.support_of(step) + self.settings.episodes.query)
        values |= {"seconds/step": seconds, "seconds/data_wait": wait, "pairs_per_second": pairs / (seconds + wait)}
        records.step(step, {name: value for name, value in values.items() if math.isfinite(value)})

    def _judge(self, epoch: int, seconds: float) -> None:
        self.doing.turn_to("validation", self.doing.step)
        began = time.perf_counter()
        figures = self._agreed(self._validate())
        score = figures[SCORE]
        whole = self.state.step % self.plan.steps_per_epoch == 0 or self.state.step >= self.steps
        if whole:
            figures = self._watch_epoch(figures)
        patience = self.state.watch.adjustments.patience or self.settings.train.patience
        candidate = epoch + 1 >= self.settings.train.choose_from or self.state.step >= self.steps
        self.state = self.state.judged(score, patience, self.steps, candidate)
        if self.state.finished and not whole:
            # A run that stops within an epoch is watched once more, so that its report knows of every alarm.
            figures = self._watch_epoch(figures)
        if self.records:
            timing = {"valid/seconds": time.perf_counter() - began, "seconds": seconds}
            self.records.epoch(self.state.step - 1, epoch, figures | timing)
        self._checkpoint(self.state)

    def _watch_epoch(self, figures: dict[str, float]) -> dict[str, float]:
        """Watch an epoch's end and do what responses ask for; `figures` with the means over its steps."""
        step, done = self.state.step - 1, self.state.step / self.plan.steps_per_epoch
        watch, figures, events, replies = self.watch.epoch(self.state.watch, figures, step, done)
        watch = self._agreed(watch)
        apply_adjustments(self.engine, watch.adjustments, self.settings.optimiser.weight_decay)
        self.state = self.state.model_copy(update={"watch": watch})
        if self.records:
            for event in events:
                self.records.alarm(event)
            for reply in replies:
                self.records.response(step, reply)
        return figures

    def _validate(self) -> dict[str, float]:
        """Figures of a validation; the score among them is the validation line's average precision."""
        share = (self.worker.rank, self.worker.world, self._gather_features)
        model = self._copy().model
        return epoch_figures(model, self.store, self.fold, self.settings, self.valid_rows, share)

    def _agreed(self, own: Agreed) -> Agreed:
        """Rank 0's value on every worker: rounding must not let one of them decide alone."""
        values = [own]
        if self.worker.world > 1:
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def _copy(self) -> TrainingModule:
        """A copy of the module outside the engine, on this worker's device; collective."""
        torch.manual_seed(0)
        copy = unfitted_module(self.store, self.fold, self.settings)
        copy.load_state_dict(full_parameters(self.engine))
        return copy.to(self.worker.device)

    def _gather_features(self, own: NDArray[np.float32], total: int) -> NDArray[np.float32]:
        if self.worker.world == 1:
            return own
        parts: list[NDArray[np.float32]] = [own] * self.worker.world
        dist.all_gather_object(parts, own)
        everyone = np.empty((total, own.shape[1]), dtype=np.float32)
        for rank, part in enumerate(parts):
            everyone[rank :: self.worker.world] = part
        return everyone

    def _checkpoint(self, state: TrainingState) -> None:
        self.doing.what = "the checkpoint"
        level_buffers(self.engine)
        tensors, moments = full_parameters(self.engine), full_moments(self.engine)
        if self.worker.rank == 0:
            self._check_tenure()
            save_checkpoint(self.run_folder, tensors, moments, state, self._check_tenure)
            prune_checkpoints(self.run_folder, self.settings.train.keep_best)
        # Metrics only: Ray Train's own record of checkpoints breaks when a user removes one.
        metrics = {"score": state.score, "step": state.step, "best_score": state.best_score, "finished": state.finished}
        ray.train.report(metrics)

    def _check_tenure(self) -> None:
        """Write nothing once a later attempt has taken over."""
        if self.tenure:
            self.tenure.check()

    def _first_state(self) -> TrainingState:
        store = self.store
        return TrainingState(
            step=0,
            identity=Identity(store=store.checksum, fold=self.fold.identity, plan=self.plan.identity),
            inputs={
                "signals": len(store.signal_names),
                "line_features": store.line_features.shape[1],
                "lines": len(self.fold.train_lines),
            },
            train_lines=list(self.fold.train_lines),
            signal_names=store.signal_names,
            landscape_names=store.landscape_names,
            build=store.manifest.build,
            settings=self.settings.model_dump(mode="json"),
        )


def train_worker(config: dict[str, Any]) -> None:
    """What Ray Train runs on each worker; `config` has settings, store and run as JSON values."""
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    settings = validate(RunSettings, config["settings"], "settings")
    context = ray.train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size(), own_device(config["device"]))
    if worker.device.type == "cpu":
        torch.set_num_threads(settings.engine.threads or max(1, _cores() // context.get_local_world_size()))
    run, doing, seconds = Path(config["run"]), Doing(), settings.workers.timeout
    stacks = run / "stacks" / f"rank-{worker.rank}.txt"
    with told(worker.rank, seconds, doing.sentence), written(run), stacks_of_a_hang(stacks, seconds) as doing.alive:
        start_process_group(worker.device.type == "cuda", seconds)
        Training(settings, Path(config["store"]), run, latest_checkpoint(run, worker), worker, doing).run()


def own_device(wanted: str) -> torch.device:
    """The device Ray has set for this worker; raises `UserError` where `wanted` is cuda and torch cannot use it."""
    if wanted == "cpu":
        return torch.device("cpu")
    require_gpu()
    device: torch.device = ray.train.torch.get_device()
    return device


def latest_checkpoint(run: Path, worker: Worker) -> Path | None:
    """The latest checkpoint of `run` as rank 0 sees it, because a shared folder may look different elsewhere."""
    found: list[Path | None] = [folder for folder, _ in checkpoints(run)[-1:]] or [None]
    if worker.world > 1:
        dist.broadcast_object_list(found, src=0)
    return found[0]


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of one worker's random numbers (dropout of the trunk) in one step."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def timed(batches: Iterator[EpisodeBatch]) -> Iterator[tuple[EpisodeBatch, float]]:
    """Each batch with the seconds the loop waited for it."""
    while True:
        began = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - began


def _cores() -> int:
    return len(os.sched_getaffinity(0))
