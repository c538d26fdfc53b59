"""Scores of pairs outside training: validation, evaluation and prediction take this one road.

    elements -> tokens, each once -> pair features h, each once -> per support draw: environment, energy -> logits

The pieces are the ones training calls (`trunk.encode`, `trunk.pair_features`, `score_episodes`), so a pair scored here
with some support has the logit training would have given it. The trunk runs once per element and once per pair
whatever the number of support draws. Tokens of large stores live in a memory-mapped temporary file.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_pipeline.episodes import SupportSize, draw_supports, support_labels
from data_pipeline.errors import UserError
from data_pipeline.store import KINDS, MASKS, Kind, Store
from evaluation.settings import ScoringSettings
from evaluation.smoothing import smoothed
from model.energy import FreeEnergy
from model.episode_model import EpisodeModel
from model.scores import Scores

IN_MEMORY = 2 << 30
"""Bytes of tokens kept in memory; more go to a temporary file."""

TRUNK_BATCHES = 8
"""Batches of the trunk's joint attention that are scored with a support at a time. More would spare encoding it often,
but where pairs attend to their support the memory they take is a multiple of its size."""

Gather = Callable[[NDArray[np.float32], int], NDArray[np.float32]]
"""Puts the pair features of all workers together: (own features, total pairs) -> all features."""


class Tokens(Protocol):
    """Encoded elements, wherever they are kept."""

    def take(self, positions: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Tokens (k, T, d) and mask (k, T) bool of the elements at `positions` (k,)."""


@dataclass(frozen=True)
class EncodedElements:
    """Encoded elements in memory, or in one memory-mapped file."""

    tokens: Tensor
    """(U, T, d)."""
    mask: Tensor
    """(U, T) bool, true where a token holds a known base."""

    def take(self, positions: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Tokens (k, T, d) and mask (k, T) bool of the elements at `positions` (k,)."""
        index = torch.from_numpy(positions)
        return self.tokens[index], self.mask[index]


@dataclass(frozen=True)
class LineScores:
    """Scores of k pairs of one line."""

    rows: NDArray[np.int64]
    """(k,) row numbers."""
    logits: NDArray[np.float32]
    """(k, draws), log-odds with each support draw."""
    neutral: NDArray[np.float32]
    """(k,) U_I, the energy in a neutral environment; no support enters it."""
    environment: NDArray[np.float32]
    """(draws, dE), z_E of each draw's first support."""
    alike: NDArray[np.bool_]
    """(k,) pairs that each draw's first support serves; others were scored in another environment."""


class HeadScores(NamedTuple):
    """What the heads say of n pairs given one support."""

    logits: NDArray[np.float32]
    """(n,)."""
    neutral: NDArray[np.float32]
    """(n,) U_I."""
    environment: NDArray[np.float32]
    """(dE,) z_E."""
    parts: NDArray[np.float32]
    """(n, 3 K + 3 + G): what adds up to the logits, which is the background, the environment's price and K channels
    (`FreeEnergy`); then u_k, g_k and r; then what each group of signals adds (G = 0 where no groups were given)."""


class Scorer:
    """Scores pairs of a store with a model in evaluation mode."""

    def __init__(
        self,
        model: EpisodeModel,
        store: Store,
        support: SupportSize,
        settings: ScoringSettings,
        progress: Callable[[int], None] | None = None,
        groups: Mapping[str, NDArray[np.int64]] | None = None,
    ) -> None:
        """`support` is the size of supports; `progress` is called with the number of pairs put through the trunk.

        `groups` are signals, by position, whose part in each logit is asked; each costs one more pass of the heads.
        """
        self.model, self.store, self.support, self.settings = model.eval(), store, support, settings
        self.device = next(model.parameters()).device
        self._progress = progress or (lambda pairs: None)
        self._groups = groups or {}

    def score_line(
        self,
        rows: NDArray[np.int64],
        pool: NDArray[np.int64],
        draws: int,
        seed: int,
        share: tuple[int, int, Gather] | None = None,
    ) -> LineScores:
        """Score `rows` (k,) of one line with `draws` supports from `pool`.

        `share` = (rank, world, gather) splits the trunk's work over workers; all get the same result.
        """
        served = draw_supports(self.store, rows, pool, self.support, draws, seed)
        needed = np.unique(np.concatenate([rows, *[part.supports.reshape(-1) for part in served]]))
        if share is None:
            h = self.pair_features(needed)
        else:
            rank, world, gather = share
            h = gather(self.pair_features(needed[rank::world]), len(needed))
        logits = np.empty((len(rows), draws), dtype=np.float32)
        neutral = np.empty(len(rows), dtype=np.float32)
        environments = []
        for part, draw in itertools.product(served, range(draws)):
            support, query = part.supports[draw], rows[part.positions]
            own = h[np.searchsorted(needed, support)], h[np.searchsorted(needed, query)]
            found = self.heads(*own, support, query)
            logits[part.positions, draw], neutral[part.positions] = found[:2]
            environments.append(found[2])
        logits, neutral = self.smoothed(rows, logits), self.smoothed(rows, neutral)
        alike = np.isin(np.arange(len(rows)), served[0].positions)
        return LineScores(rows, logits, neutral, np.stack(environments[:draws]), alike)

    def smoothed(self, rows: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.float32]:
        """`values` (k, ...) of pairs `rows` (k,) of one line, averaged over neighbours as the settings say."""
        enhancer, promoter = self.settings.smooth_enhancer, self.settings.smooth_promoter
        return smoothed(self.store, rows, values, enhancer, promoter) if enhancer or promoter else values

    @torch.no_grad()
    def pair_features(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(k, d) float32 pair features of `rows`; d = 0 without a trunk."""
        trunk = self.model.trunk
        if trunk is None:
            self._progress(len(rows))
            return np.empty((len(rows), 0), dtype=np.float32)
        pairs = self.store.pairs
        enhancers, enhancer = np.unique(pairs.enhancer[rows], return_inverse=True)
        promoters, promoter = np.unique(pairs.promoter[rows], return_inverse=True)
        with tempfile.TemporaryDirectory() as folder:
            tokens: dict[Kind, Tokens] = {
                kind: self.encode(kind, elements, Path(folder))
                for kind, elements in zip(KINDS, (enhancers, promoters), strict=True)
            }
            features = []
            for first in range(0, len(rows), self.settings.pairs_per_batch):
                part = slice(first, first + self.settings.pairs_per_batch)
                features.append(self.join(tokens, enhancer[part], promoter[part]))
                self._progress(len(features[-1]))
        return np.concatenate(features) if features else np.empty((0, 0), dtype=np.float32)

    @torch.no_grad()
    def join(
        self, tokens: dict[Kind, Tokens], enhancer: NDArray[np.int64], promoter: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Pair features (k, d) float32 of one batch of pairs given as positions (k,) among the encoded elements."""
        assert self.model.trunk is not None
        sides, places = [], []
        for kind, elements in zip(KINDS, (enhancer, promoter), strict=True):
            distinct, place = np.unique(elements, return_inverse=True)
            vectors, mask = tokens[kind].take(distinct)
            sides.append((vectors.to(self.device), mask.to(self.device)))
            places.append(torch.from_numpy(place).to(self.device))
        with self.model.precision_context(self.device.type):
            h = self.model.trunk.pair_features(sides[0], sides[1], places[0], places[1])
        features: NDArray[np.float32] = h.float().cpu().numpy()
        return features

    @torch.no_grad()
    def encode(self, kind: Kind, elements: NDArray[Any], folder: Path) -> EncodedElements:
        """Encode `elements` (U,), rows of the table of `kind`; what is too large for memory goes to `folder`."""
        assert self.model.trunk is not None
        table = self.store.enhancers if kind == "enhancer" else self.store.promoters
        tokens = mask = None
        for first in range(0, len(elements), self.settings.elements_per_batch):
            part = elements[first : first + self.settings.elements_per_batch]
            packed = torch.from_numpy(np.array(table.packed(part))).to(self.device)
            with self.model.precision_context(self.device.type):
                own_tokens, own_mask = self.model.trunk.encode(kind, packed)
            if tokens is None or mask is None:
                tokens = _room(len(elements), own_tokens, folder / f"{kind}.tokens")
                mask = torch.empty((len(elements), *own_mask.shape[1:]), dtype=own_mask.dtype)
            tokens[first : first + len(part)] = own_tokens.cpu()
            mask[first : first + len(part)] = own_mask.cpu()
        assert tokens is not None
        assert mask is not None
        return EncodedElements(tokens, mask)

    def heads(
        self,
        support_h: NDArray[np.float32],
        query_h: NDArray[np.float32],
        support: NDArray[np.int64],
        query: NDArray[np.int64],
    ) -> HeadScores:
        """Scores of the pairs `query` (n,) given the pairs `support` (m,); their features query_h (n, d), support_h.

        The pairs go through the heads a few thousand at a time.
        """
        found, size = [], TRUNK_BATCHES * self.settings.pairs_per_batch
        for first in range(0, len(query), size):
            part = slice(first, first + size)
            found.append(self._episode_heads(np.concatenate([support_h, query_h[part]]), support, query[part]))
        logits, neutral, environment, parts = zip(*found, strict=True)
        return HeadScores(np.concatenate(logits), np.concatenate(neutral), environment[0], np.concatenate(parts))

    @torch.no_grad()
    def _episode_heads(
        self, h: NDArray[np.float32], support: NDArray[np.int64], query: NDArray[np.int64]
    ) -> HeadScores:
        """Scores of `query` given `support`, one episode; h (m + n, d) are the features of both.

        Raises `UserError` for a score that is not finite: nothing can be ranked, averaged or calibrated with it.
        """
        rows = np.concatenate([support, query])
        distance = self.store.pairs.distance[rows].astype(np.float32)
        distance[distance < 0] = np.nan
        features = self.store.line_features[self.store.pairs.line[rows[:1]]]
        environment = self.model.settings.environment
        signals, shape = self.store.signals(rows), environment.profile.shape
        profile = self.store.profile(query, shape) if shape else None
        labelled = environment.labelled_support
        inputs = self._episode(h), self._episode(distance)
        given = torch.from_numpy(np.array(features)).to(self.device), len(support)
        labels = self._episode(support_labels(self.store, support)) if labelled else None

        def scored(signals: NDArray[np.float32], profile: NDArray[np.float32] | None) -> Scores:
            own = None if profile is None else self._episode(profile)
            seen = *inputs, self._episode(signals), *given
            return self.model.score_episodes(*seen, support_labels=labels, profile=own)

        scores = scored(signals, profile)
        logits, neutral = scores.logits[0].cpu().numpy(), scores.neutral[0].cpu().numpy()
        self._require_finite(query, logits + neutral)
        own, shift = FreeEnergy.of(scores), scores.shift.expand_as(scores.logits)
        gates = scores.gates.expand_as(scores.channels)
        parts = [*(one.unsqueeze(-1) for one in (own.background, own.environment)), own.channels]
        parts += [scores.channels, gates, shift.unsqueeze(-1)]
        for places in self._groups.values():
            # Missing in the pairs to score alone, so that the line's z_E is the same.
            without = signals.copy()
            without[len(support) :, places[places < signals.shape[1]]] = np.nan
            less = scored(without, _without(profile, places[places >= signals.shape[1]] - signals.shape[1]))
            parts.append((scores.logits - less.logits).unsqueeze(-1))
        joined = torch.cat(parts, dim=-1)[0].cpu().numpy()
        return HeadScores(logits, neutral, scores.environment[0].cpu().numpy(), joined)

    def _require_finite(self, query: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        unfit = query[~np.isfinite(values)]
        if len(unfit):
            line = self.store.lines[int(self.store.pairs.line[unfit[0]])]
            raise UserError(
                f"the model's scores of {len(unfit)} pairs of line '{line}' are not finite, the first of them row "
                f"{unfit[0]} of {self.store.path}: its weights have grown too large; train with a lower optimiser.lr"
            )

    def _episode(self, values: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(values).unsqueeze(0).to(self.device)


def _without(profile: NDArray[np.float32] | None, tracks: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """`profile` (n, L, 2 W + 4) with `tracks` as if they had not been measured."""
    if profile is None or not len(tracks):
        return profile
    width = (profile.shape[2] - len(MASKS)) // 2
    missing = profile.copy()
    # Also where nothing is there, which nobody looks at.
    missing[..., np.concatenate([tracks, width + tracks])] = np.nan
    return missing


def _room(count: int, like: Tensor, file: Path) -> Tensor:
    shape, dtype = (count, *like.shape[1:]), like.dtype
    numel = int(np.prod(shape))
    if numel * like.element_size() <= IN_MEMORY:
        return torch.empty(shape, dtype=dtype)
    return torch.from_file(str(file), shared=True, size=numel, dtype=dtype).view(shape)
