"""Workers that stay: one Ray Train group takes training run after training run.

A short run costs less than the start of its workers: Ray's processes, the imports of torch and DeepSpeed, the process
group. A crew pays for them once. Its workers ask a desk for orders; an order is a run as distributed/fit.py would give
it to a group of its own, and everything that belongs to a run (seeds, module, engine, streams, records) is made anew
for each, so its numbers are the same to the bit. A run that ends in a user's mistake leaves a single worker as it was.
Any other failure ends the group, because what it left behind in a process is not to be trusted, or because the other
workers wait for one that will not come; the next order starts another. Places stay reserved between orders.
"""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.actor import ActorHandle

from data_pipeline.errors import UserError
from distributed.cluster import Device
from distributed.desk import Desk
from distributed.fit import fit, start_trainer
from distributed.settings import RunSettings

LOOK_SECONDS = 5.0
"""How often an order in progress is checked against the life of its group."""


class Crew:
    """A group of workers for runs that ask for the same workers; one order at a time, from one thread."""

    def __init__(self, notes: Path) -> None:
        """`notes` is the folder for what Ray Train writes of its own."""
        self._notes, self._kind = notes, ""
        self._group: _Group | None = None

    def fit(self, settings: RunSettings, store: Path, run: Path, device: Device) -> None:
        """As `distributed.fit.fit`, with the workers that are there."""
        fit(settings, store, run, device, self._attempt)

    def close(self) -> None:
        """Let the workers go."""
        if self._group is not None:
            self._group.end()
        self._group = None

    def _attempt(self, settings: RunSettings, store: Path, run: Path, device: Device) -> None:
        kind = f"{settings.workers.model_dump_json()} {settings.engine.threads} {device}"
        if self._group is not None and (kind != self._kind or not self._group.alive()):
            self.close()
        if self._group is None:
            # Ray Train takes up what it finds under a name it knows.
            self._group, self._kind = _Group(settings, self._notes / uuid.uuid4().hex[:8], device), kind
        try:
            self._group.train({"settings": settings.model_dump(mode="json"), "store": str(store), "run": str(run)})
        except UserError:
            if not self._group.alive():
                self._group = None
            raise
        except BaseException:
            self._group = None
            raise


class _Group:
    """One Ray Train run and its desk."""

    def __init__(self, settings: RunSettings, notes: Path, device: Device) -> None:
        self._world, self._order = settings.workers.count, 0
        # Its signatures know no actors of several threads.
        office: Any = ray.remote(num_cpus=0, max_concurrency=4 * self._world + 4)(Desk)  # type: ignore[call-overload]
        self._desk = office.remote(self._world)
        self._ended: list[BaseException | None] = []
        trainer = start_trainer(_serve, {"desk": self._desk, "device": device}, settings, notes, device)
        threading.Thread(target=self._follow, args=(trainer,), name="crew", daemon=True).start()

    def _follow(self, trainer: Any) -> None:
        try:
            trainer.fit()
            self._ended.append(None)
        except BaseException as error:
            self._ended.append(error)

    def alive(self) -> bool:
        """Whether the workers can take an order."""
        return not self._ended

    def train(self, order: dict[str, Any]) -> None:
        """Hand out an order and wait for its end; raises what ended the group instead."""
        self._order += 1
        ray.get(self._desk.post.remote(order))
        done = self._desk.wait.remote(self._order)
        while not ray.wait([done], timeout=LOOK_SECONDS)[0]:
            if self._ended:
                raise self._ended[0] or RuntimeError("the workers went before their run was done")
        mistake = ray.get(done)
        if mistake is not None:
            raise UserError(mistake)

    def end(self) -> None:
        """Send the workers home."""
        if not self._ended:
            ray.get(self._desk.post.remote(None))


def _serve(config: dict[str, Any]) -> None:
    """What each worker of a crew runs until it is sent home."""
    # The driver needs no DeepSpeed: importing it takes seconds and prints what it found.
    from distributed.loop import train_worker

    desk: ActorHandle = config["desk"]
    alone = ray.train.get_context().get_world_size() == 1
    number, mistake = 1, None
    order: Any
    while (order := ray.get(desk.take.remote(number))) is not None:
        try:
            train_worker({**order, "device": config["device"]})
            mistake = None
        except UserError as error:
            if not alone:
                raise
            mistake = str(error)
        ray.get(desk.done.remote(number, mistake))
        number += 1
