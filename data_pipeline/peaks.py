"""Signals of elements from peak files: one number per (line, element, mark).

An element without an overlapping peak has 0; an element on a chromosome the file says nothing about has NaN, because
absence of a peak is only evidence where peaks were looked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from bioframe.core.arrops import overlap_intervals
from numpy.typing import NDArray

from data_pipeline.errors import UserError
from data_pipeline.genome import ChromNames
from data_pipeline.store_settings import PeakSettings
from data_pipeline.text_tables import open_bytes


def peak_files(settings: PeakSettings, lines: list[str], root: Path) -> dict[tuple[int, int], Path]:
    """The file of each (line index, mark index)."""
    parts = re.split(r"(\{line\}|\{mark\})", settings.pattern)
    return {
        (c, k): root / "".join({"{line}": line, "{mark}": mark}.get(part, part) for part in parts)
        for c, line in enumerate(lines)
        for k, mark in enumerate(settings.marks)
    }


def read_peaks(
    path: Path, settings: PeakSettings, names: ChromNames, advance: Callable[[int], None] | None = None
) -> pd.DataFrame:
    """chrom, start, end and scaled strength of the peaks of one BED file; raises `UserError` if it is no such file."""
    columns = [0, 1, 2, settings.value_column - 1]
    with open_bytes(path, advance) as stream:
        try:
            peaks = pd.read_csv(stream, sep="\t", header=None, usecols=columns, comment="#")
            peaks = peaks.set_axis(["chrom", "start", "end", "value"], axis=1)
            peaks = peaks.astype({"chrom": str, "start": np.int64, "end": np.int64, "value": np.float64})
        except ValueError as error:
            raise UserError(
                f"{path} is not BED with the strength in column {settings.value_column}: {str(error).strip()}"
            ) from error
    if settings.scale == "rank":
        peaks["value"] = peaks["value"].rank(method="max", pct=True)
    return peaks.assign(chrom=names.canonical_column(peaks["chrom"]))


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
        summary = pd.Series(local["value"].to_numpy()[peak]).groupby(rows[owner]).agg(settings.aggregate)
        signal[summary.index.to_numpy()] = summary.to_numpy()
    return cast(NDArray[np.float32], (np.log1p(signal) if settings.scale == "log1p" else signal).astype(np.float32))


def empty_signals(settings: PeakSettings, lines: int, elements: pd.DataFrame) -> NDArray[np.float32]:
    """(C, n, marks) float32 of NaN, to be filled with `peak_signal`."""
    return np.full((lines, len(elements), len(settings.marks)), np.nan, dtype=np.float32)
