"""Two ways to work through the parts of a prediction: in this process, or as Ray Data tasks.

Both call the same function with the part numbers 0, 1, ... and yield its results in that order, so they give the same
numbers. This module imports Ray only when it is asked to use it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipeline.errors import UserError

Arrays = dict[str, NDArray[Any]]
"""Equally long columns, (k, ...)."""
Part = Callable[[int], Arrays]
"""Works on one part; importable and picklable, because it may run in another process."""
Executor = Callable[[Part, int], Iterator[Arrays]]
"""(function, number of parts) -> results in order; several parts may come as one."""
_MISTAKE = "mistake"
"""Column of a part that ended in a `UserError`."""


def in_process(function: Part, parts: int) -> Iterator[Arrays]:
    """One part after the other, here."""
    return map(function, range(parts))


def on_ray(workers: int = 0) -> Executor:
    """Ray Data tasks on the cluster that is there or a local one; `workers` at a time, 0: one per GPU, or per CPU."""

    def run(function: Part, parts: int) -> Iterator[Arrays]:
        return _ray_data(function, parts, workers)

    return run


def _ray_data(function: Part, parts: int, workers: int) -> Iterator[Arrays]:
    from distributed.cluster import join_ray
    from distributed.failures import failure_of

    join_ray(max(workers, 1))
    import ray.data

    total = ray.cluster_resources()
    gpus = int(total.get("GPU", 0))
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # It would warn that its progress bars are off; the caller shows its own.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)

    def work(batch: Arrays) -> Arrays:
        try:
            return function(int(batch["part"][0]))
        except Exception as error:
            sentence = failure_of(error).sentence
            if sentence is None:
                raise
            # As a result, because Ray Data would wrap the sentence in the stack of the other process.
            return {_MISTAKE: np.array([sentence])}

    dataset: ray.data.Dataset = ray.data.from_items(
        [{"part": part} for part in range(parts)], override_num_blocks=parts
    )
    context = dataset.context
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    dataset = dataset.map_batches(
        work,
        batch_size=1,
        num_cpus=1,
        num_gpus=1 if gpus else 0,
        compute=ray.data.TaskPoolStrategy(size=min(workers or gpus or int(total["CPU"]), parts)),
    )
    for arrays in _told(dataset.iter_batches(batch_size=None, batch_format="numpy")):
        if _MISTAKE in arrays:
            raise UserError(str(arrays[_MISTAKE][0]))
        yield arrays


def _told(batches: Iterable[Arrays]) -> Iterator[Arrays]:
    """The same batches; what Ray raises in place of one, and the user can mend, as a `UserError`."""
    from distributed.failures import failure_of

    try:
        yield from batches
    except Exception as error:
        sentence = failure_of(error).sentence
        if sentence is None:
            raise
        raise UserError(f"the prediction stopped: {sentence}; nothing was written, start it again") from error
