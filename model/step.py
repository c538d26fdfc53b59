"""The global step: every worker's episodes, in one order, after the shared representation.

Pair features travel once, autograd-aware, and everything else a loss needs travels in one flat tensor beside them.
Episodes are then put in an order that depends on their content only, so heads, losses and balancing see bit for bit
the same tensors whatever the number of workers, and need no communication of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from data_pipeline.episodes import EpisodeBatch

Gather = Callable[[Tensor], Tensor]
"""Concatenates all workers' tensors along axis 0; its backward returns W times this worker's slice (W workers whose
gradients are averaged). The identity in a single process."""


@dataclass(frozen=True)
class GlobalStep:
    """G episodes of one step; fields as in `EpisodeBatch`, and the shared representation."""

    h: Tensor
    """(G, m+n, d) float32 pair features."""
    distance: Tensor
    """(G, m+n) float32 bp."""
    signals: Tensor
    """(G, m+n, S) float32."""
    labels: Tensor
    """(G, n) float32, NaN unknown."""
    line: Tensor
    """(G,) int64, -1 for a line not trained on."""
    line_features: Tensor
    """(G, F) float32."""
    rows: Tensor
    """(G, m+n) int64, row numbers of the pairs in the store."""
    support: int
    """m."""
    support_labels: Tensor | None = None
    """(G, m) float32 in the labelled protocol, None in every other."""
    profile: Tensor | None = None
    """(G, n, L, 2 W + 4) float32 where profiles are read."""
    composition: Tensor | None = None
    """(G, n, q) float32 what the query's sequences are made of, where something asks for it."""


def gather_step(batch: EpisodeBatch, h: Tensor, gather: Gather, composition: Tensor | None = None) -> GlobalStep:
    """The global step from this worker's batch, its features h (E, m+n, d) and its composition (E, n, q), if any."""
    # Two halves of 20 bits, because float32 holds no larger integer exactly; an ordering key, so sums may wrap.
    key = batch.rows.sum(dim=1)
    columns = [key >> 20, key & 0xFFFFF, batch.line, batch.distance, batch.labels, batch.signals, batch.line_features]
    columns += [batch.rows >> 20, batch.rows & 0xFFFFF]
    offered = {"support_labels": batch.support_labels, "profile": batch.profile, "composition": composition}
    optional = {name: column for name, column in offered.items() if column is not None}
    columns += optional.values()
    flat = [column.reshape(len(key), -1).float() for column in columns]
    everyone = gather(torch.cat(flat, dim=1)).split([part.shape[1] for part in flat], dim=1)
    high, low, line, distance, labels, signals, line_features, rows_high, rows_low, *rest = everyone
    order = torch.argsort(_whole(high, low).squeeze(1), stable=True)
    return GlobalStep(
        h=gather(h).index_select(0, order),
        distance=distance[order],
        signals=signals.view(len(order), *batch.signals.shape[1:])[order],
        labels=labels[order],
        line=line[order].long().squeeze(1),
        line_features=line_features[order],
        rows=_whole(rows_high, rows_low)[order],
        support=batch.support,
        **{
            name: part[order].view(len(order), *optional[name].shape[1:])
            for name, part in zip(optional, rest, strict=True)
        },
    )


def _whole(high: Tensor, low: Tensor) -> Tensor:
    return high.long() << 20 | low.long()
