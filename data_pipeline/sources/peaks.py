"""Signals of elements from peak files: one number per (line, element, mark).

An element without an overlapping peak has 0; an element on a chromosome the file says nothing about has NaN, because
absence of a peak is only evidence where peaks were looked for. A peak without a finite strength is there but says
nothing: an element that has only such peaks has NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from bioframe.core.arrops import overlap_intervals
from numpy.typing import NDArray

from data_pipeline.errors import UserError, listed
from data_pipeline.sources.genome import ChromNames
from data_pipeline.sources.numbers_as_text import finite, values, whole_numbers
from data_pipeline.sources.quarantine import Quarantine
from data_pipeline.sources.settings import PeakSettings
from data_pipeline.sources.text_tables import BROWSER, Chunk, Tally, read_chunks

FEW = 0.5
"""Share of elements on chromosomes with peaks below which a file is worth a note."""


def peak_files(settings: PeakSettings, lines: list[str], root: Path) -> dict[tuple[int, int], Path]:
    """The file of each (line index, mark index)."""
    return {
        (c, k): root / settings.file(line, mark)
        for c, line in enumerate(lines)
        for k, mark in enumerate(settings.marks)
    }


def read_peaks(
    path: Path,
    shown: str,
    settings: PeakSettings,
    names: ChromNames,
    quarantine: Quarantine,
    advance: Callable[[int], None] | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """chrom, start, end and scaled strength (NaN where missing) of the peaks of one BED file, and notes on what is odd.

    Rows that are none are quarantined. Raises `UserError` where the file is no BED, has no peak, or too many bad rows.
    """
    file, tally = quarantine.register(shown, path), Tally()
    parts: list[pd.DataFrame] = []
    for chunk in read_chunks(path, BROWSER, header=False, tally=tally, least=settings.value_column, advance=advance):
        if not parts and chunk.cells.empty:
            raise UserError(
                f"{path} is not BED with the strength in column {settings.value_column}: no row has so many columns; "
                "give peaks.value_column"
            )
        parts.append(_judged(chunk, file, settings, quarantine))
    peaks = pd.concat(parts, ignore_index=True)
    quarantine.require_whole(file, tally, {"peaks": len(peaks)})
    quarantine.check(file, tally.rows, settings.max_bad_fraction)
    if settings.scale == "log1p":
        peaks["value"] = peaks["value"].where(peaks["value"] > -1)
    if settings.scale == "rank":
        peaks["value"] = peaks["value"].rank(method="max", pct=True)
    peaks["chrom"] = names.canonical_column(peaks["chrom"])
    missing = int(peaks["value"].isna().sum())
    told = f"{shown}: {missing} of {len(peaks)} peaks have no finite strength at scale {settings.scale}"
    return peaks, [told] if missing else []


def _judged(chunk: Chunk, file: int, settings: PeakSettings, quarantine: Quarantine) -> pd.DataFrame:
    for reason, lines in chunk.rejected.items():
        quarantine.reject(file, reason, lines)
    start, end = (whole_numbers(chunk.cells[number]) for number in (2, 3))
    strength, no_number = values(chunk.cells[settings.value_column])
    no_place = ~(start <= end).to_numpy() | (chunk.cells[1] == "").to_numpy()
    quarantine.reject(file, "bad_coordinates", chunk.line_number[no_place])
    quarantine.reject(file, "bad_number", chunk.line_number[no_number & ~no_place])
    table = pd.DataFrame({"chrom": chunk.cells[1], "start": start, "end": end, "value": strength})
    return table[~(no_place | no_number)].astype({"start": np.int64, "end": np.int64})


def peaks_apart(path: Path, peaks: pd.DataFrame, chroms: Sequence[str]) -> list[str]:
    """A note where few of `chroms`, those of the elements (one entry per element), have peaks.

    Raises `UserError` where none has: then the file calls its chromosomes otherwise, and every signal would be missing.
    """
    has = list(dict.fromkeys(peaks["chrom"]))
    wanted = list(dict.fromkeys(chroms))
    without = [chrom for chrom in wanted if chrom not in set(has)]
    if without == wanted:
        raise UserError(
            f"{path} has no peak on any chromosome of the pairs: it has {listed(has)}, they have {listed(wanted)}; "
            "add chrom_aliases if the names differ, or leave the mark out"
        )
    found = 1 - sum(pd.Series(chroms).isin(without)) / len(chroms)
    if found >= FEW:
        return []
    return [
        f"{path.name} has peaks on the chromosomes of only {found:.0%} of the elements; signals are missing on "
        f"{listed(without)}; it has {listed(has)}"
    ]


def peak_signal(elements: pd.DataFrame, peaks: pd.DataFrame, settings: PeakSettings) -> NDArray[np.float32]:
    """(n,) float32 signal of `elements` (chrom, start, end)."""
    signal = np.full(len(elements), np.nan, dtype=np.float64)
    for chrom, local in peaks.groupby("chrom"):
        rows = np.flatnonzero(elements["chrom"] == chrom)
        start, end = (elements[key].to_numpy(np.int64)[rows] for key in ("start", "end"))
        owner, peak = overlap_intervals(
            start - settings.flank, end + settings.flank, local["start"].to_numpy(), local["end"].to_numpy()
        )
        signal[rows] = 0.0
        groups = pd.Series(local["value"].to_numpy()[peak]).groupby(rows[owner])
        # The sum of nothing but missing values is missing, not 0.
        summary = groups.sum(min_count=1) if settings.aggregate == "sum" else groups.agg(settings.aggregate)
        signal[summary.index.to_numpy()] = summary.to_numpy()
    if settings.scale == "log1p":
        signal = np.log1p(np.where(signal > -1, signal, np.nan))
    return cast(NDArray[np.float32], finite(signal).astype(np.float32))


def empty_signals(settings: PeakSettings, lines: int, elements: pd.DataFrame) -> NDArray[np.float32]:
    """(C, n, marks) float32 of NaN, to be filled with `peak_signal`."""
    return np.full((lines, len(elements), len(settings.marks)), np.nan, dtype=np.float32)
