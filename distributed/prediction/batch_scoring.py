"""Scores of many pairs in parts that any process can work on.

    encode     elements used by the pairs -> tokens, each once, in files of a few hundred elements
    support    pairs of all support sets  -> pair features
    score      a few thousand pairs at a time -> logits with each support draw

Parts share nothing but files in one work folder (the exported model, row numbers, tokens), so they run in this process
or as Ray tasks on hosts that see the folder. Memory is a few tokens files and one part of pairs per process, disk is
one set of tokens per element. The pieces are those of `Scorer`, so a pair has the logit that evaluation would give it.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from data_pipeline.durable import FullDiskNamed
from data_pipeline.episodes import Served, SupportSize, draw_supports
from data_pipeline.errors import UserError
from data_pipeline.store import KINDS, Kind, Store
from distributed.prediction.deployment import Deployment, open_export, write_export
from distributed.prediction.executors import Arrays, Executor
from distributed.prediction.explanation import context_groups, explained
from distributed.prediction.matched_store import MatchedStore
from evaluation import Scorer, ScoringSettings, Tokens

OPEN_FILES = 64
"""Token files of one kind that a process keeps mapped."""


@dataclass(frozen=True)
class Job:
    """What a process must know to work on a part; it travels with every part, everything large is in files."""

    work: Path
    """Folder that all processes see; the name is never used for two jobs, because a process keeps the last one open."""
    store: Path
    """Store of the pairs."""
    scoring: ScoringSettings
    """Batch sizes."""
    elements_per_file: int = 512
    """Elements that one part encodes."""
    pairs_per_part: int = 4096
    """Pairs that one part scores; also the rows that a table grows by."""
    explain: bool = False
    """Whether parts of the energy are kept."""

    def part(self, number: int) -> slice:
        """The pairs of part `number`."""
        return slice(number * self.pairs_per_part, (number + 1) * self.pairs_per_part)

    def tokens_file(self, kind: Kind, number: int, name: str) -> Path:
        """Where part `number` of the elements of `kind` keeps its `tokens` or its `mask`."""
        return self.work / f"{kind}-{number:06d}.{name}.npy"


@dataclass(frozen=True)
class Scored:
    """Scores of k pairs."""

    logits: NDArray[np.float32]
    """(k, draws)."""
    neutral: NDArray[np.float32]
    """(k,) U_I."""
    parts: NDArray[np.float32]
    """(k, P) the columns of `explained`, means over the draws; (k, 0) where nobody asked."""


@dataclass(frozen=True)
class Supports:
    """Support sets of all draws, and which of them each pair is scored with."""

    rows: NDArray[np.int64]
    """(k,) pairs to score, store rows."""
    sets: list[NDArray[np.int64]]
    """s times (m,) store rows of a support set; m is the same within a line."""
    serving: NDArray[np.int32]
    """(k, draws) support set of each pair in each draw; it shares no element with the pair."""


def progress(total: int, what: str, unit: str) -> tqdm:
    """A bar on a terminal, a line every 15 seconds in a log."""
    every = 0.5 if sys.stderr.isatty() else 15.0
    return tqdm(total=total, desc=what, unit=unit, mininterval=every, maxinterval=every)


def plan_supports(store: Store, rows: NDArray[np.int64], size: SupportSize, draws: int, seed: int) -> Supports:
    """Supports for `rows` (k,), drawn per line from these rows themselves.

    Raises `UserError` naming the line where its pairs cannot give them.
    """
    sets: list[NDArray[np.int64]] = []
    serving = np.empty((len(rows), draws), dtype=np.int32)
    line_of = store.pairs.line[rows]
    lines = np.unique(line_of)
    with progress(len(lines), "draw supports", "line") as bar:
        for line in lines:
            mine = np.flatnonzero(line_of == line)
            for part in _draw(store, rows[mine], size, draws, seed):
                serving[mine[part.positions]] = len(sets) + np.arange(draws)
                sets.extend(part.supports)
            bar.update()
    return Supports(rows, sets, serving)


def _draw(store: Store, rows: NDArray[np.int64], size: SupportSize, draws: int, seed: int) -> list[Served]:
    try:
        return draw_supports(store, rows, rows, size, draws, seed)
    except UserError as error:
        line = store.lines[store.pairs.line[rows[0]]]
        enhancers, promoters = (len(np.unique(own[rows])) for own in (store.pairs.enhancer, store.pairs.promoter))
        raise UserError(
            f"line '{line}' has too few pairs: each must be scored with {size.least} others that share no element with "
            f"it, and there are {len(rows)} pairs of {enhancers} enhancers and {promoters} promoters; add pairs of "
            "other elements of this line, or give a smaller --support"
        ) from error


def score_pairs(
    deployment: Deployment, store: MatchedStore, supports: Supports, job: Job, executor: Executor
) -> Iterator[Scored]:
    """Yield the scores of stretches of `supports.rows`, in their order."""
    write_export(deployment, job.work / "model")
    members = np.concatenate(supports.sets)
    used = np.unique(np.concatenate([supports.rows, members]))
    elements = {"enhancer": np.unique(store.pairs.enhancer[used]), "promoter": np.unique(store.pairs.promoter[used])}
    support_rows = np.unique(members)
    arrays = {f"{kind}s": elements[kind] for kind in KINDS}
    arrays |= {"rows": supports.rows, "members": members, "ends": np.cumsum([len(own) for own in supports.sets])}
    arrays |= {"serving": supports.serving, "support_rows": support_rows}
    for name, values in arrays.items():
        _save(job.work / f"{name}.npy", values)
    try:
        features = np.empty((len(support_rows), 0), dtype=np.float32)
        if deployment.description.model.trunk.shape:
            _encode_all(job, elements, executor)
            parts = executor(partial(support_part, job), _parts(len(support_rows), job.pairs_per_part))
            features = np.concatenate([part["h"] for part in parts])
        _save(job.work / "support_features.npy", features)
        with progress(len(supports.rows), "score pairs", "pair") as bar:
            for part in executor(partial(score_part, job), _parts(len(supports.rows), job.pairs_per_part)):
                bar.update(len(part["neutral"]))
                yield Scored(part["logits"], part["neutral"], part["parts"])
    finally:
        # They map files of a folder that is about to go.
        _opened.cache_clear()


def line_environments(job: Job, most: int = 20) -> dict[str, NDArray[np.float64]]:
    """z_E (s, dE) of up to `most` support sets of each line, when the pairs of `job` were scored; in this process."""
    try:
        opened = _opened(job)
        arrays, features = opened.arrays, np.load(job.work / "support_features.npy", mmap_mode="r")
        found: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
        for support in np.split(arrays["members"], arrays["ends"][:-1]):
            own = found[opened.store.lines[opened.store.pairs.line[support[0]]]]
            if len(own) < most:
                h = features[np.searchsorted(arrays["support_rows"], support)]
                # Whichever pair is asked: z_E is of the support.
                own.append(opened.scorer.heads(h, h[:1], support, support[:1]).environment)
        return {line: np.stack(own).astype(np.float64) for line, own in found.items()}
    finally:
        _opened.cache_clear()


def _encode_all(job: Job, elements: dict[str, NDArray[np.int32]], executor: Executor) -> None:
    with progress(sum(map(len, elements.values())), "encode elements", "element") as bar:
        for kind in KINDS:
            for part in executor(partial(encode_part, job, kind), _parts(len(elements[kind]), job.elements_per_file)):
                bar.update(int(part["encoded"].sum()))


def encode_part(job: Job, kind: Kind, part: int) -> Arrays:
    """Encode the elements of one tokens file."""
    opened = _opened(job)
    elements = opened.arrays[f"{kind}s"][part * job.elements_per_file : (part + 1) * job.elements_per_file]
    encoded = opened.scorer.encode(kind, elements, job.work)
    _save(job.tokens_file(kind, part, "tokens"), encoded.tokens.float().numpy())
    _save(job.tokens_file(kind, part, "mask"), encoded.mask.numpy())
    return {"encoded": np.array([len(elements)])}


def support_part(job: Job, part: int) -> Arrays:
    """Pair features h (k, d) of a part of the support pairs."""
    opened = _opened(job)
    return {"h": opened.features(opened.arrays["support_rows"][job.part(part)])}


def score_part(job: Job, part: int) -> Arrays:
    """The fields of `Scored` for a part of the pairs."""
    opened = _opened(job)
    arrays = opened.arrays
    support_h = np.load(job.work / "support_features.npy", mmap_mode="r")
    rows, serving = arrays["rows"][job.part(part)], arrays["serving"][job.part(part)]
    h = opened.features(rows)
    logits, neutral = np.empty(serving.shape, dtype=np.float32), np.empty(len(rows), dtype=np.float32)
    width = len(explained(opened.description)) if job.explain else 0
    parts = np.zeros((len(rows), width), dtype=np.float32)
    for number in np.unique(serving):
        where, draw = np.nonzero(serving == number)
        support = arrays["members"][arrays["ends"][number - 1] if number else 0 : arrays["ends"][number]]
        own = support_h[np.searchsorted(arrays["support_rows"], support)]
        found = opened.scorer.heads(own, h[where], support, rows[where])
        logits[where, draw], neutral[where] = found.logits, found.neutral
        if job.explain:
            parts[where] += found.parts / serving.shape[1]
    return {"logits": logits, "neutral": neutral, "parts": parts}


class _Opened:
    """Model, store and arrays of a job in one process."""

    def __init__(self, job: Job) -> None:
        deployment = open_export(job.work / "model")
        self.store = MatchedStore.of(job.store, deployment.description)
        model = deployment.build()
        self.description = deployment.description
        groups = context_groups(self.description) if job.explain else {}
        self.scorer = Scorer(model, self.store, self.description.support_in_use, job.scoring, groups=groups)
        names = ("enhancers", "promoters", "rows", "members", "ends", "serving", "support_rows")
        self.arrays = {name: np.load(job.work / f"{name}.npy", mmap_mode="r") for name in names}
        self.tokens: dict[Kind, Tokens] = {kind: TokenFiles(job, kind) for kind in KINDS}

    def features(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Pair features (k, d) of store `rows`, from the encoded elements; d = 0 without a trunk."""
        if self.scorer.model.trunk is None:
            return np.empty((len(rows), 0), dtype=np.float32)
        pairs, size = self.store.pairs, self.scorer.settings.pairs_per_batch
        enhancer = np.searchsorted(self.arrays["enhancers"], pairs.enhancer[rows])
        promoter = np.searchsorted(self.arrays["promoters"], pairs.promoter[rows])
        parts = [slice(first, first + size) for first in range(0, len(rows), size)]
        return np.concatenate([self.scorer.join(self.tokens, enhancer[part], promoter[part]) for part in parts])


class TokenFiles:
    """The tokens that `encode_part` wrote, mapped as they are needed."""

    def __init__(self, job: Job, kind: Kind) -> None:
        """Nothing is opened yet."""
        self._job, self._kind = job, kind
        self._open = lru_cache(maxsize=OPEN_FILES)(self._map)

    def take(self, positions: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Tokens (k, T, d) float32 and mask (k, T) bool of the elements at `positions` (k,)."""
        files, inside = np.divmod(positions, self._job.elements_per_file)
        tokens = mask = None
        for file in np.unique(files):
            where = files == file
            own_tokens, own_mask = self._open(int(file))
            if tokens is None or mask is None:
                tokens = np.empty((len(positions), *own_tokens.shape[1:]), dtype=np.float32)
                mask = np.empty((len(positions), *own_mask.shape[1:]), dtype=bool)
            tokens[where], mask[where] = own_tokens[inside[where]], own_mask[inside[where]]
        return torch.from_numpy(tokens), torch.from_numpy(mask)

    def _map(self, part: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        tokens, mask = (
            np.load(self._job.tokens_file(self._kind, part, name), mmap_mode="r") for name in ("tokens", "mask")
        )
        return tokens, mask


@lru_cache(maxsize=1)
def _opened(job: Job) -> _Opened:
    return _Opened(job)


def _save(file: Path, values: NDArray[Any]) -> None:
    with FullDiskNamed(file):
        np.save(file, values)


def _parts(count: int, size: int) -> int:
    return -(-count // size)
