"""Count the ranges of the training lines and of the validation line when a run is evaluated.

Of a line larger than `most` pairs whole genes and whole enhancers are drawn, because a gene of which only some pairs
are scored has too few links. Pairs are scored as a new line's are, with supports of their own line, and labels are not
read. Scores of training lines are of pairs that the model has learnt from, which the validation line's are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_pipeline.episodes import Fold
from data_pipeline.store import Store
from evaluation.calibration import Calibration
from evaluation.line_page.ranges import (
    COUNT_CUTS,
    DISTANCE_CUTS,
    LineRanges,
    LinkRanges,
    Spread,
    counts_of,
    quantile_cuts,
    spread_of,
)
from evaluation.rivals import gene_codes
from evaluation.scoring import Scorer

SIGNAL_BINS, LOGIT_BINS = 16, 40
SEED = 4


@dataclass(frozen=True)
class _Line:
    """What was seen of one line."""

    distance: NDArray[np.float64]
    """(k,) bp of pairs of whole genes, NaN where unknown."""
    logit: NDArray[np.float64]
    """(k,) their scores."""
    gene: NDArray[np.int64]
    """(k,) their genes ..."""
    enhancer: NDArray[np.int64]
    """(k,) ... and enhancers."""
    own: NDArray[np.bool_]
    """(k,) whether the enhancer overlaps the promoter."""
    signals: NDArray[np.float32]
    """(k, S) their signals."""
    by_enhancer: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]
    """Enhancer, gene, score and own promoter of pairs of whole enhancers, each (l,)."""
    environment: NDArray[np.float64]
    """(draws, dE) z_E of its supports."""


def freeze_ranges(scorer: Scorer, fold: Fold, draws: int, calibration: Calibration, most: int) -> LineRanges:
    """Ranges of the lines that `scorer`'s model was trained and calibrated on, over about `most` pairs of each.

    `draws` support sets are drawn per line. The store of the scorer is the one trained on.
    """
    store, lines = scorer.store, [*fold.train_lines, fold.valid_line]
    genes = gene_codes(store.promoters)
    seen = {line: _look(scorer, fold.rows(store, line), genes, draws, most) for line in lines}
    logit_cuts = _even_cuts([own.logit for own in seen.values()])
    spreads = np.stack([own.environment.var(axis=0, ddof=1 if draws > 1 else 0) for own in seen.values()])
    named = (calibration.threshold, calibration.at_recall70, calibration.at_mcc)
    thresholds = sorted({own for own in named if own is not None})
    return LineRanges(
        train_lines=list(fold.train_lines),
        held_out=fold.valid_line,
        pairs={line: len(own.logit) for line, own in seen.items()},
        distance=spread_of({line: counts_of(DISTANCE_CUTS, own.distance) for line, own in seen.items()}),
        logit=spread_of({line: counts_of(logit_cuts, own.logit) for line, own in seen.items()}),
        considered=_members({line: (own.gene, own.enhancer) for line, own in seen.items()}),
        links=[_links(seen, calibration, own) for own in thresholds],
        signals={
            name: _signal([(line, own.signals[:, column]) for line, own in seen.items()])
            for column, name in enumerate(store.signal_names)
        },
        environment={line: _rounded(own.environment.mean(axis=0)) for line, own in seen.items()},
        support_sd=_rounded(np.sqrt(spreads.mean(axis=0))),
    )


def links_per(
    group: NDArray[np.int64], member: NDArray[np.int64], called: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct members of each group, and those of them called with it in any of the pairs; each of shape (groups,).

    `group`, `member` and `called` are (k,), one entry per pair.
    """
    order = np.lexsort((~called, member, group))
    group, member, called = group[order], member[order], called[order]
    first = np.ones(len(group), dtype=bool)
    first[1:] = (np.diff(group) != 0) | (np.diff(member) != 0)
    _, place = np.unique(group[first], return_inverse=True)
    return np.bincount(place), np.bincount(place, weights=called[first]).astype(np.int64)


def whole_groups(group: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Positions (l,) in `group` (k,) of all pairs of randomly drawn groups, about `most` of them or all there are."""
    if len(group) <= most:
        return np.arange(len(group))
    names, place, count = np.unique(group, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    drawn = order[: int(np.searchsorted(np.cumsum(count[order]), most)) + 1]
    return np.flatnonzero(np.isin(place, drawn))


def _look(scorer: Scorer, pool: NDArray[np.int64], genes: NDArray[np.int64], draws: int, most: int) -> _Line:
    store = scorer.store
    pairs = store.pairs
    by_gene = pool[whole_groups(genes[pairs.promoter[pool]], most, SEED)]
    by_enhancer = pool[whole_groups(pairs.enhancer[pool].astype(np.int64), most, SEED)]
    rows = np.union1d(by_gene, by_enhancer)
    scores = scorer.score_line(rows, pool, draws, SEED)
    logit = scores.logits.mean(axis=1).astype(np.float64)
    own = _own_promoter(store, rows)
    first, second = np.searchsorted(rows, by_gene), np.searchsorted(rows, by_enhancer)
    distance = pairs.distance[by_gene].astype(np.float64)
    return _Line(
        distance=np.where(distance >= 0, distance, np.nan),
        logit=logit[first],
        gene=genes[pairs.promoter[by_gene]],
        enhancer=pairs.enhancer[by_gene].astype(np.int64),
        own=own[first],
        signals=store.signals(by_gene),
        by_enhancer=(
            pairs.enhancer[by_enhancer].astype(np.int64),
            genes[pairs.promoter[by_enhancer]],
            logit[second],
            own[second],
        ),
        environment=scores.environment.astype(np.float64),
    )


def _own_promoter(store: Store, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(k,) whether the enhancer of each pair overlaps the promoter it is paired with."""
    enhancer, promoter = store.pairs.enhancer[rows], store.pairs.promoter[rows]
    one, other = store.enhancers, store.promoters
    overlap: NDArray[np.bool_] = (
        (one.chrom[enhancer] == other.chrom[promoter])
        & (one.start[enhancer] < other.end[promoter])
        & (one.end[enhancer] > other.start[promoter])
    )
    return overlap


def _links(seen: dict[str, _Line], calibration: Calibration, threshold: float) -> LinkRanges:
    per_gene, per_enhancer, distance, called = {}, {}, {}, {}
    for line, own in seen.items():
        call = calibration.apply(own.logit) >= threshold
        called[line] = round(float(call.mean()), 5)
        distance[line] = counts_of(DISTANCE_CUTS, own.distance[call])
        per_gene[line] = counts_of(COUNT_CUTS, links_per(own.gene, own.enhancer, call & ~own.own)[1])
        enhancer, gene, logit, at_home = own.by_enhancer
        call = (calibration.apply(logit) >= threshold) & ~at_home
        per_enhancer[line] = counts_of(COUNT_CUTS, links_per(enhancer, gene, call)[1])
    return LinkRanges(
        threshold=threshold,
        called=called,
        per_gene=spread_of(per_gene),
        per_enhancer=spread_of(per_enhancer),
        distance=spread_of(distance),
    )


def _members(pairs: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]) -> Spread:
    counted = {}
    for line, (group, member) in pairs.items():
        counted[line] = counts_of(COUNT_CUTS, links_per(group, member, np.zeros(len(group), dtype=bool))[0])
    return spread_of(counted)


def _signal(values: Sequence[tuple[str, NDArray[np.float32]]]) -> Spread:
    cuts = quantile_cuts([own for _, own in values], SIGNAL_BINS)
    return spread_of({line: counts_of(cuts, own) for line, own in values})


def _even_cuts(values: list[NDArray[np.float64]]) -> list[float]:
    """Cuts at like distances over nearly all of the lines' scores."""
    ends = np.array([np.quantile(own, [0.001, 0.999]) for own in values])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    step = max((high - low) / LOGIT_BINS, 1e-3)
    return [float(f"{low + step * place:.6g}") for place in range(LOGIT_BINS + 1)]


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
