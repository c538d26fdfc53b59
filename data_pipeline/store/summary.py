"""What a store holds, as plain numbers (`report` prints them)."""

from __future__ import annotations

from typing import Any

import numpy as np
from bioframe.core.arrops import overlap_intervals
from numpy.typing import NDArray

from data_pipeline.store.store import ElementTable, Store

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def summarise(store: Store) -> dict[str, Any]:
    """Everything `inspect_store` reports, in types that JSON knows; one pass over the pairs per line."""
    elements = {"enhancers": store.enhancers, "promoters": store.promoters}
    return {
        "path": str(store.path),
        "checksum": store.checksum,
        "created": store.manifest.created,
        "windows": dict(store.manifest.windows),
        "lines": [_line(store, index) for index in range(len(store.lines))],
        "elements": {name: _elements(table) for name, table in elements.items()},
        "chromosomes": _chromosomes(store),
        "shared_pairs": _shared_pairs(store),
        "signals": _signals(store),
        "quarantine": quarantine_counts(store),
        "sources": store.manifest.sources,
        "truth": store.manifest.truth,
    }


def quarantine_counts(store: Store) -> dict[str, int]:
    """Rejected rows by reason."""
    counts = store.manifest.counts
    return {key.partition("/")[2]: n for key, n in counts.items() if key.startswith("quarantine/")}


def _line(store: Store, index: int) -> dict[str, Any]:
    pairs = store.pairs
    own = pairs.line == index
    label, distance = pairs.label[own], pairs.distance[own]
    known = distance[distance >= 0]
    labelled = int((label >= 0).sum())
    result: dict[str, Any] = {
        "line": store.lines[index],
        "pairs": int(own.sum()),
        "positives": int((label == 1).sum()),
        "unlabelled": int((label < 0).sum()),
        "prevalence": float((label == 1).sum() / labelled) if labelled else None,
        "distance_quantiles": np.quantile(known, QUANTILES).tolist() if known.size else None,
        "line_features": store.line_features[index].tolist(),
    }
    for name, table, column in (
        ("enhancers", store.enhancers, pairs.enhancer),
        ("promoters", store.promoters, pairs.promoter),
    ):
        used = np.zeros(len(table), dtype=bool)
        used[column[own]] = True
        others = np.zeros(len(table), dtype=bool)
        others[column[~own]] = True
        result[name] = int(used.sum())
        result[f"{name}_overlapping_other_lines"] = _overlapping(table, used, others)
    return result


def _overlapping(table: ElementTable, own: NDArray[np.bool_], others: NDArray[np.bool_]) -> float | None:
    """Share of the `own` elements that share at least one base with one of the `others`."""
    hit = np.zeros(len(table), dtype=bool)
    for chrom in np.unique(table.chrom):
        mine, theirs = (np.flatnonzero(mask & (table.chrom == chrom)) for mask in (own, others))
        first, _ = overlap_intervals(table.start[mine], table.end[mine], table.start[theirs], table.end[theirs])
        hit[mine[first]] = True
    hit |= own & others
    return float(hit.sum() / own.sum()) if own.any() else None


def _elements(table: ElementTable) -> dict[str, Any]:
    length = (table.end - table.start)[: len(table)]
    chrom, count = np.unique(table.chrom, return_counts=True)
    return {
        "count": len(table),
        "window": table.length,
        "length_quantiles": np.quantile(length, QUANTILES).tolist(),
        "by_chromosome": {table.chrom_names[code]: int(n) for code, n in zip(chrom, count, strict=True)},
    }


def _chromosomes(store: Store) -> dict[str, int]:
    code, count = np.unique(store.promoters.chrom[store.pairs.promoter], return_counts=True)
    return {store.manifest.chroms[c]: int(n) for c, n in zip(code, count, strict=True)}


def _shared_pairs(store: Store) -> list[list[int]]:
    """(C, C) numbers of pairs that two lines have in common, by element; the diagonal is the line's own pairs."""
    key = store.pairs.enhancer.astype(np.int64) * len(store.promoters) + store.pairs.promoter
    of_line = [np.unique(key[store.pairs.line == index]) for index in range(len(store.lines))]
    return [[len(np.intersect1d(a, b, assume_unique=True)) for b in of_line] for a in of_line]


def _signals(store: Store, chunk: int = 1 << 16) -> list[dict[str, Any]]:
    """Per track the share of missing values in every line, and the mean of those present."""
    names, lines, line = store.signal_names, len(store.lines), store.pairs.line
    missing, total = np.zeros((lines, len(names))), np.zeros(len(names))
    for start in range(0, len(line) if names else 0, chunk):
        rows = np.arange(start, min(start + chunk, len(line)))
        values = store.signals(rows)
        values = np.where(np.isfinite(values), values, np.nan)
        np.add.at(missing, line[rows], np.isnan(values))
        total += np.nansum(values, axis=0, dtype=np.float64)
    count = np.bincount(line, minlength=lines)
    present = count.sum() - missing.sum(axis=0)
    share = missing / np.maximum(count, 1)[:, None]
    return [
        {
            "name": name,
            "missing": dict(zip(store.lines, share[:, index].tolist(), strict=True)),
            "mean": float(total[index] / present[index]) if present[index] else None,
        }
        for index, name in enumerate(names)
    ]
