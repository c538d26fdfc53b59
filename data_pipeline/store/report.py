"""A store's summary as tables for people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from data_pipeline.errors import listed
from data_pipeline.store.store import Store
from data_pipeline.store.summary import QUANTILES, summarise

OTHER_COUNTS = ("edge_padded", "usable", "joined", "files", "comments", "blank", "genes", "without_genes")
"""Counts of a source without a column of their own."""
_ASSAYS = re.compile(r"^context:.* \[(.+)\]$")
"""A column of context with the assays it needs."""
WIDEST_MATRIX = 6
"""Lines up to which the table shows every two of them; with more it names each one's closest."""


def print_ingest_summary(store: Store, console: Console) -> None:
    """Tables of sources, lines and rejected rows."""
    summary = summarise(store)
    _print(console, _source_table(summary["sources"]))
    _print(console, _line_table(summary["lines"]))
    _print(console, _reason_table(summary["quarantine"]))
    _print_notes(console, summary)


def print_summary(store: Store, console: Console) -> None:
    """Everything `summarise` finds, as tables."""
    summary = summarise(store)
    console.print(f"{summary['path']}  checksum {summary['checksum']}  created {summary['created']}", soft_wrap=True)
    _print(console, _source_table(summary["sources"]))
    _print(console, _line_table(summary["lines"]))
    _print(console, _distance_table(summary["lines"]))
    _print(console, _element_table(summary["elements"]))
    _print(console, _chromosome_table(summary))
    _print(console, _shared_table(summary["lines"], summary["shared_pairs"]))
    if summary["signals"]:
        _print(console, _signal_table(store.lines, summary["signals"]))
    _print(console, _reason_table(summary["quarantine"]))
    _print_notes(console, summary)


def _print_notes(console: Console, summary: dict[str, Any]) -> None:
    """What is unusual: as the readers of the files noted it, and lines that have no value of a track at all."""
    notes = [note for source in summary["sources"] for note in source.get("notes", [])]
    empty: dict[tuple[str, ...], list[str]] = {}
    for line in (row["line"] for row in summary["lines"] if row["pairs"]):
        tracks = tuple(track["name"] for track in summary["signals"] if track["missing"][line] == 1)
        empty.setdefault(tracks, []).append(f"'{line}'")
    for tracks, lines in empty.items():
        if tracks:
            has = "line {} has" if len(lines) == 1 else "lines {} have"
            notes.append(f"{has.format(', '.join(lines))} no value of {_told(tracks)}")
    for note in notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)


def _told(tracks: Sequence[str]) -> str:
    """Tracks for a sentence; columns of context, of which an assay has dozens, by the assays they need."""
    needs = {name: found[1].split("+") for name in tracks if (found := _ASSAYS.search(name))}
    others = [name for name in tracks if name not in needs]
    if not needs:
        return listed(others)
    # A column of two assays is missing because of one of them; which, those of one assay tell.
    assays = {own[0] for own in needs.values() if len(own) == 1} or {one for own in needs.values() for one in own}
    context = f"the {len(needs)} columns of context that need {listed(sorted(assays))}"
    return f"{listed(others)} and {context}" if others else context


def _print(console: Console, table: Table) -> None:
    if table.row_count:
        console.print(table)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(columns[0], overflow="fold")
    for name in columns[1:]:
        table.add_column(name, justify="right")
    return table


def _source_table(sources: list[dict[str, Any]]) -> Table:
    table = _table("Sources", "file", "rows", "outside", "bad", "duplicate", "pairs")
    for source in sources:
        if source.get("kind") == "simulator":
            continue
        bad = sum(source["quarantined"].values()) if "quarantined" in source else None
        numbers = (source.get("rows"), source.get("outside_regions"), bad, source.get("duplicates"))
        rest = ", ".join(f"{key} {n:,}" for key, n in source.items() if key in OTHER_COUNTS)
        kept = ", ".join(filter(None, [_count(source["pairs"]) if "pairs" in source else "", rest]))
        files = str(source.get("file", "")).split(", ")
        table.add_row("\n".join(file.rpartition("/")[2] for file in files), *map(_count, numbers), kept)
    return table


def _line_table(lines: list[dict[str, Any]]) -> Table:
    table = _table("Cell lines", "line", "pairs", "positive", "unknown", "prevalence", "enhancers", "promoters")
    for row in lines:
        prevalence = "" if row["prevalence"] is None else f"{row['prevalence']:.3f}"
        counts = (_count(row[key]) for key in ("pairs", "positives", "unlabelled"))
        table.add_row(row["line"], *counts, prevalence, _count(row["enhancers"]), _count(row["promoters"]))
    return table


def _distance_table(lines: list[dict[str, Any]]) -> Table:
    table = _table("Distance between enhancer and promoter, kb", "line", *(f"{q:.0%}" for q in QUANTILES))
    for row in lines:
        if row["distance_quantiles"]:
            table.add_row(row["line"], *(f"{value / 1000:.1f}" for value in row["distance_quantiles"]))
    return table


def _element_table(elements: dict[str, dict[str, Any]]) -> Table:
    table = _table("Elements (length in bp)", "kind", "count", "stored", *(f"{q:.0%}" for q in QUANTILES))
    for name, entry in elements.items():
        quantiles = (f"{value:.0f}" for value in entry["length_quantiles"])
        table.add_row(name, _count(entry["count"]), _count(entry["window"]), *quantiles)
    return table


def _chromosome_table(summary: dict[str, Any]) -> Table:
    table = _table("Chromosomes", "chromosome", "pairs", "enhancers", "promoters")
    for chrom, pairs in summary["chromosomes"].items():
        counts = (summary["elements"][kind]["by_chromosome"].get(chrom, 0) for kind in ("enhancers", "promoters"))
        table.add_row(chrom, _count(pairs), *map(_count, counts))
    return table


def _shared_table(summary: list[dict[str, Any]], shared: list[list[int]]) -> Table:
    lines = [row["line"] for row in summary]
    wide = len(lines) <= WIDEST_MATRIX
    table = _table(
        "Overlap: pairs in common, and share of elements that overlap another line's",
        "line",
        *(lines if wide else ["most pairs in common with", "pairs in common"]),
        "enhancers",
        "promoters",
    )
    for index, (row, counts) in enumerate(zip(summary, shared, strict=True)):
        cells = [_count(count) for count in counts]
        if not wide:
            closest = max((other for other in range(len(lines)) if other != index), key=lambda other: counts[other])
            cells = [lines[closest], cells[closest]]
        overlaps = (row[f"{kind}_overlapping_other_lines"] for kind in ("enhancers", "promoters"))
        table.add_row(row["line"], *cells, *("" if o is None else f"{o:.0%}" for o in overlaps))
    return table


def _signal_table(lines: list[str], signals: list[dict[str, Any]]) -> Table:
    table = _table("Signals: mean, and missing values by line", "track", "mean", *lines)
    for track in signals:
        mean = "" if track["mean"] is None else f"{track['mean']:.4g}"
        table.add_row(track["name"], mean, *(f"{track['missing'][line]:.1%}" for line in lines))
    return table


def _reason_table(counts: dict[str, int]) -> Table:
    table = _table("Quarantined rows", "reason", "rows")
    for reason, rows in counts.items():
        table.add_row(reason, _count(rows))
    return table


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
