"""Ray Train around the training loop: attempts, and what ends them.

Ray Train itself would retry whatever a worker raises. Here an attempt is one Ray Train run without retries, and only
the loss of a worker or a host starts another, from the latest checkpoint; a mistake ends the run in its sentence.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray.train
from ray.train.torch import TorchTrainer

from data_pipeline.errors import UserError
from distributed.cluster import Device, on_cluster, worker_resources
from distributed.failures import failure_of
from distributed.process_group import torch_config
from distributed.settings import RunSettings

START_SECONDS = 180
"""How long the workers of an attempt may take to get their places; `require_room` has seen that there is room."""


def fit(
    settings: RunSettings, store: Path, run: Path, device: Device, attempt: Callable[..., None] | None = None
) -> None:
    """Run Ray Train on the claimed folder `run` until training ends there, from its latest checkpoint if it has one.

    `attempt` (settings, store, run, device) makes one try; by default with workers of its own. Raises `UserError` for
    what the user can mend; a defect keeps its own exception.
    """
    left = settings.train.max_failures
    while True:
        try:
            (attempt or _attempt)(settings, store, run.resolve(), device)
            return
        except Exception as error:
            failure = failure_of(error)
            if failure.sentence is None:
                raise
            if not failure.lost:
                raise UserError(failure.sentence) from error
            if left == 0:
                raise UserError(
                    f"run {run} stopped: {failure.sentence}, and train.max_failures={settings.train.max_failures} is "
                    "used up; its checkpoints are whole: mend the cause and continue with --resume"
                ) from error
            left -= 1
            print(f"{run.name}: {failure.sentence}; going on from the latest checkpoint", file=sys.stderr, flush=True)


def start_trainer(
    work: Callable[[dict[str, Any]], None], config: dict[str, Any], settings: RunSettings, notes: Path, device: Device
) -> TorchTrainer:
    """A Ray Train run of `work(config)` on the workers that `settings` asks for, without retries; not started yet.

    `notes` is the folder for what Ray Train writes of its own.
    """
    cuda = device == "cuda"
    # Ray Train's own waits, which have no end by default; it hands this on to its controller and workers.
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(START_SECONDS)
    os.environ["RAY_TRAIN_COLLECTIVE_TIMEOUT_S"] = str(settings.workers.timeout)
    if not on_cluster():
        # Nobody takes this machine back, and the process that would watch for it takes seconds to start.
        os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
    return TorchTrainer(
        work,
        train_loop_config=config,
        torch_config=torch_config(cuda, settings.workers.timeout, loopback=not on_cluster()),
        scaling_config=ray.train.ScalingConfig(
            num_workers=settings.workers.count,
            use_gpu=cuda,
            resources_per_worker=worker_resources(settings, device),
            placement_strategy=settings.workers.placement,
        ),
        run_config=ray.train.RunConfig(
            name="ray",
            storage_path=str(notes.resolve()),
            failure_config=ray.train.FailureConfig(  # mypy takes it for that of Ray Train's former version
                max_failures=0,
                controller_failure_limit=0,  # type: ignore[call-arg]
                max_preemption_failures=0,
            ),
        ),
    )


def _attempt(settings: RunSettings, store: Path, run: Path, device: Device) -> None:
    """One Ray Train run; Ctrl-C ends the wait for it at once."""
    order = {"settings": settings.model_dump(mode="json"), "store": str(store), "run": str(run), "device": device}
    trainer = start_trainer(_work, order, settings, run, device)
    ended: list[BaseException | None] = []

    def wait() -> None:
        try:
            trainer.fit()
            ended.append(None)
        except BaseException as error:
            ended.append(error)

    # In the main thread Ray Train would take Ctrl-C for itself, and end the process without a word and with status 0.
    waiting = threading.Thread(target=wait, name="ray-train", daemon=True)
    waiting.start()
    while waiting.is_alive():
        waiting.join(0.2)
    if ended[0] is not None:
        raise ended[0]


def _work(config: dict[str, Any]) -> None:
    # The driver needs no DeepSpeed: importing it takes seconds and prints what it found.
    from distributed.loop import train_worker

    train_worker(config)
