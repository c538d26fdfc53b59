"""From the plan to batches: Ray Data reads a worker's episodes ahead of the step that needs them.

    plan slice (row numbers) -> blocks of a few steps -> Ray Data tasks gather rows from the memory-mapped store
      -> iter_batches, in order, prefetched -> collate (each element once) -> EpisodeBatch

Every worker has its own pipeline over its own slice of the plan, starting at any step, so nothing is dropped, cut or
reordered by a split. Tasks hold one block each; backpressure is Ray Data's. The same `gather` and `collate` serve
prediction and tests without Ray.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import Field

from data_pipeline.episodes.batch import EpisodeBatch
from data_pipeline.episodes.plan import Plan
from data_pipeline.episodes.supports import support_labels
from data_pipeline.settings import Settings
from data_pipeline.store import Store

Columns = dict[str, NDArray[Any]]
_PER_PAIR = ("rows", "enhancer", "promoter", "enhancer_packed", "promoter_packed", "distance", "signals")
"""Columns (k, m+n, ...) of gathered episodes."""


class StreamSettings(Settings):
    """How far and how wide to read ahead."""

    steps_per_block: int = Field(8, ge=1, le=1024)
    """Steps gathered by one Ray Data task."""
    prefetch: int = Field(4, ge=1, le=256)
    """Batches held ready in the worker."""
    tasks: int = Field(1, ge=0, le=64)
    """Read tasks at a time, per worker; 0: the worker reads by itself, without Ray Data, for runs so short that its
    start would be felt. The batches are the same."""
    cpus_per_task: float = Field(0.25, gt=0, le=8)
    """CPUs a read task reserves from Ray; gathering is memory-bound, so a share of one is enough."""


def plan_steps(plan: Plan, start: int, stop: int, rank: int, world: int) -> Columns:
    """The episodes of worker `rank` of `world` in steps [start, stop): step (k,), line (k,), rows (k, M+n).

    M is the plan's largest support, so that all steps have one shape on the way; a smaller support is followed by
    repeats of its first pair, which `collate` takes out.
    """
    slots = plan.slots(rank, world)
    episodes = [(step, plan.episode(step, slot)) for step in range(start, stop) for slot in slots]
    width = plan.supports[-1] + plan.settings.query
    return {
        "step": np.array([step for step, _ in episodes], dtype=np.int64),
        "line": np.array([episode.line for _, episode in episodes], dtype=np.int64),
        "rows": np.stack([_widened(episode.rows, plan.settings.query, width) for _, episode in episodes]),
    }


def gather(
    store: Store, episodes: Columns, support: int, labelled: bool = False, profile: tuple[int, int] | None = None
) -> Columns:
    """Add to `episodes` (k of them) everything the store knows of their pairs; labels after the first `support` only.

    Adds enhancer and promoter (k, m+n) int32 element rows, their packed bases (k, m+n, L/2) uint8, distance (k, m+n)
    float32 with NaN for unknown, signals (k, m+n, S) float32, labels (k, n) float32 and line_features (k, F) float32;
    in the `labelled` protocol also support_labels (k, m) float32, and where the shape of a `profile` is given (see
    `Store.profile`) the profiles (k, n, L, C) float32 of the query.
    """
    rows = episodes["rows"]
    shape, flat = rows.shape, rows.reshape(-1)
    pairs = store.pairs
    distance = pairs.distance[flat].astype(np.float32)
    distance[distance < 0] = np.nan
    labels = pairs.label[rows[:, support:]].astype(np.float32)
    labels[labels < 0] = np.nan
    enhancer, promoter = pairs.enhancer[flat], pairs.promoter[flat]
    asked = {"support_labels": support_labels(store, rows[:, :support])} if labelled else {}
    if profile:
        query = rows[:, support:]
        own = store.profile(query.reshape(-1), profile)
        asked["profile"] = own.reshape(*query.shape, *own.shape[1:])
    return (
        episodes
        | asked
        | {
            "enhancer": enhancer.reshape(shape),
            "promoter": promoter.reshape(shape),
            "enhancer_packed": store.enhancers.packed(enhancer).reshape(*shape, -1),
            "promoter_packed": store.promoters.packed(promoter).reshape(*shape, -1),
            "distance": distance.reshape(shape),
            "signals": store.signals(flat).reshape(*shape, -1),
            "labels": labels,
            "line_features": store.line_features[pairs.line[rows[:, 0]]],
        }
    )


def collate(columns: Columns, support: int) -> EpisodeBatch:
    """The `EpisodeBatch` of gathered episodes with `support` pairs each, with each distinct element once.

    Pairs between these and the query, which `plan_steps` filled up with, are left out.
    """
    columns = _narrowed(columns, support)
    enhancer_packed, enhancer = _distinct(columns["enhancer"], columns["enhancer_packed"])
    promoter_packed, promoter = _distinct(columns["promoter"], columns["promoter_packed"])
    return EpisodeBatch(
        enhancer_packed=enhancer_packed,
        promoter_packed=promoter_packed,
        enhancer=enhancer,
        promoter=promoter,
        distance=_tensor(columns["distance"]),
        signals=_tensor(columns["signals"]),
        labels=_tensor(columns["labels"]),
        line=_tensor(columns["line"]),
        line_features=_tensor(columns["line_features"]),
        rows=_tensor(columns["rows"]),
        support=support,
        profile=_tensor(columns["profile"]) if "profile" in columns else None,
        support_labels=_tensor(columns["support_labels"]) if "support_labels" in columns else None,
    )


def stream(
    store_path: Path,
    plan: Plan,
    start: int,
    stop: int,
    rank: int,
    world: int,
    settings: StreamSettings,
    labelled: bool = False,
    profile: tuple[int, int] | None = None,
) -> Iterator[EpisodeBatch]:
    """Yield worker `rank`'s batch of each step in [start, stop), read ahead by Ray Data.

    `labelled`: with the labels of the support pairs, for the protocol of that name; `profile`: with profiles of this
    shape.
    """
    widest = plan.supports[-1]
    if settings.tasks == 0:
        store = _opened(store_path)
        for step in range(start, stop):
            columns = gather(store, plan_steps(plan, step, step + 1, rank, world), widest, labelled, profile)
            yield collate(columns, plan.support_of(step))
        return
    # Not at the top: settings and `gather` are also used where there is no Ray (prediction with --local).
    import ray.data

    per_step = len(plan.slots(rank, world))
    blocks = [
        _to_arrow(plan_steps(plan, first, min(first + settings.steps_per_block, stop), rank, world))
        for first in range(start, stop, settings.steps_per_block)
    ]
    # Tensors of zero width do not survive the trip through Arrow; they are put back on arrival.
    store = _opened(store_path)
    empty = {
        name: width
        for name, width in (
            ("enhancer_packed", store.enhancers.length // 2),
            ("promoter_packed", store.promoters.length // 2),
            ("signals", len(store.signal_names)),
            ("line_features", store.line_features.shape[1]),
        )
        if width == 0
    }

    def read(block: pa.Table) -> Columns:
        columns = gather(_opened(store_path), _from_arrow(block), widest, labelled, profile)
        return {name: values for name, values in columns.items() if name not in empty}

    dataset: ray.data.Dataset = ray.data.from_arrow(blocks)
    context = dataset.context
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ray.data.ExecutionResources()
    context.enable_progress_bars = False
    dataset = dataset.map_batches(
        read,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=settings.cpus_per_task,
        compute=ray.data.TaskPoolStrategy(size=settings.tasks),
    )
    for columns in dataset.iter_batches(
        batch_size=per_step, prefetch_batches=settings.prefetch, batch_format="numpy", drop_last=False
    ):
        shape = columns["rows"].shape
        for name in empty:
            lead = shape[:1] if name == "line_features" else shape
            columns[name] = np.empty((*lead, 0), dtype=np.uint8 if name.endswith("packed") else np.float32)
        yield collate(columns, plan.support_of(int(columns["step"][0])))


def started(batches: Iterator[EpisodeBatch]) -> Iterator[EpisodeBatch]:
    """The same batches, with the first one being fetched in the background from now on."""
    pool = ThreadPoolExecutor(max_workers=1)
    first = pool.submit(next, batches, None)
    pool.shutdown(wait=False)

    def go_on() -> Iterator[EpisodeBatch]:
        batch = first.result()
        while batch is not None:
            yield batch
            batch = next(batches, None)

    return go_on()


def _widened(rows: NDArray[np.int64], query: int, width: int) -> NDArray[np.int64]:
    """Rows (m+n,) of an episode as (width,), with repeats of the first between support and query."""
    support = len(rows) - query
    return np.concatenate([rows[:support], np.repeat(rows[:1], width - len(rows)), rows[support:]])


def _narrowed(columns: Columns, support: int) -> Columns:
    """`columns` with `support` support pairs per episode in place of the most there is room for."""
    width, query = columns["rows"].shape[1], columns["labels"].shape[1]
    if width == support + query:
        return columns
    kept = np.r_[:support, width - query : width]
    cut = {name: columns[name][:, kept] for name in _PER_PAIR}
    if "support_labels" in columns:
        cut["support_labels"] = columns["support_labels"][:, :support]
    return columns | cut


def _distinct(elements: NDArray[Any], packed: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
    _, first, inverse = np.unique(elements, return_index=True, return_inverse=True)
    flat = packed.reshape(elements.size, packed.shape[-1])
    return torch.from_numpy(flat[first]), torch.from_numpy(inverse.reshape(elements.shape).astype(np.int64))


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.array(values))


def _to_arrow(episodes: Columns) -> pa.Table:
    rows = episodes["rows"]
    nested = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    return pa.table({"step": episodes["step"], "line": episodes["line"], "rows": nested})


def _from_arrow(block: pa.Table) -> Columns:
    rows = block.column("rows").combine_chunks()
    return {
        "step": block.column("step").to_numpy(),
        "line": block.column("line").to_numpy(),
        "rows": rows.flatten().to_numpy().reshape(len(rows), -1),
    }


@lru_cache(maxsize=4)
def _opened(path: Path) -> Store:
    return Store.open(path)
