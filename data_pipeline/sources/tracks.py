"""Signals along the genome from the files people have: bigWig, bedGraph and peaks, one landscape per chromosome."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyBigWig

from data_pipeline.context import Landscape, stepwise
from data_pipeline.errors import UserError, listed
from data_pipeline.sources.genome import ChromNames
from data_pipeline.sources.numbers_as_text import values
from data_pipeline.sources.pair_rows import whole_numbers
from data_pipeline.sources.quarantine import Quarantine
from data_pipeline.sources.text_tables import BROWSER, Tally, read_chunks

GRID = 500
"""Resolution in bp of landscapes from files; context looks at 10 kb bins and at 2 kb around a TSS."""
Track = Callable[[str], Landscape | None]
"""The landscape of one signal by the store's name of a chromosome; None where the file has nothing there."""
BIG_WIG = (".bw", ".bigwig")
MAX_BAD = 0.02
"""Share of a bedGraph's rows that may be quarantined."""


def intervals(table: pd.DataFrame) -> Track:
    """Landscapes by chromosome of a table of stretches: chrom, start, end, value; overlapping ones add up."""
    by_chrom = {str(chrom): own for chrom, own in table.dropna(subset="value").groupby("chrom")}

    def of(chrom: str) -> Landscape | None:
        if (own := by_chrom.get(chrom)) is None:
            return None
        start, end = (own[key].to_numpy(np.int64) for key in ("start", "end"))
        return stepwise(start, end, own["value"].to_numpy(np.float64), GRID)

    return of


def read_bed_graph(
    path: Path, shown: str, names: ChromNames, quarantine: Quarantine, advance: Callable[[int], None] | None = None
) -> Track:
    """The track of a bedGraph (chrom, start, end, value; plain or gzip); rows that are none are quarantined.

    Raises `UserError` where the file is no bedGraph or more than one row in fifty is bad.
    """
    file, tally, parts = quarantine.register(shown, path), Tally(), []
    for chunk in read_chunks(path, BROWSER, header=False, tally=tally, least=4, advance=advance):
        for reason, lines in chunk.rejected.items():
            quarantine.reject(file, reason, lines)
        if chunk.cells.empty:
            continue
        start, end = (whole_numbers(chunk.cells[number]) for number in (2, 3))
        value, no_number = values(chunk.cells[4])
        no_place = ~(start < end).to_numpy() | (chunk.cells[1] == "").to_numpy()
        quarantine.reject(file, "bad_coordinates", chunk.line_number[no_place])
        quarantine.reject(file, "bad_number", chunk.line_number[no_number & ~no_place])
        table = pd.DataFrame({"chrom": names.canonical_column(chunk.cells[1]), "start": start, "end": end})
        parts.append(table.assign(value=np.maximum(value, 0.0))[~(no_place | no_number)])
    quarantine.require_whole(file, tally, {"stretches": sum(map(len, parts))})
    quarantine.check(file, tally.rows, MAX_BAD)
    if not sum(map(len, parts)):
        raise UserError(f"{path} has no stretch with a value; give a bedGraph (chrom, start, end, value) or a bigWig")
    return intervals(pd.concat(parts, ignore_index=True))


def read_big_wig(path: Path, names: ChromNames) -> Track:
    """The track of a bigWig; raises `UserError` where the file is none."""
    with _opened(path) as track:
        own = list(track.chroms())
    canonical = names.canonical_column(pd.Series(own, dtype=str))
    return _big_wig(path, dict(zip(canonical, own, strict=True)))


def _big_wig(path: Path, chroms: dict[str, str]) -> Track:
    """The track of a bigWig, of which `chroms` has the own name of each chromosome of the store."""

    def of(chrom: str) -> Landscape | None:
        with _opened(path) as track:
            length = track.chroms().get(chroms.get(chrom, ""))
            if not length:
                return None
            reached, edges = [np.zeros(1)], np.arange(0, length + GRID, GRID)
            for first in range(0, length, _AT_A_TIME):
                last = min(first + _AT_A_TIME, length)
                signal = np.nan_to_num(track.values(chroms[chrom], first, last, numpy=True)).astype(np.float64)
                own = np.add.reduceat(np.maximum(signal, 0.0), np.arange(0, last - first, GRID))
                reached.append(reached[-1][-1] + np.cumsum(own))
        return Landscape(edges[: sum(map(len, reached))], np.concatenate(reached)[:, None])

    return of


_AT_A_TIME = 10_000_000
"""Bases of a bigWig that are read at a time, a multiple of `GRID`: 40 MB."""


def _opened(path: Path) -> Any:
    try:
        track = pyBigWig.open(str(path))
    except RuntimeError as error:
        raise UserError(f"{path} is not a bigWig file, or is damaged; check context.tracks") from error
    if not track.isBigWig():
        raise UserError(f"{path} is a bigBed, and a landscape needs a bigWig or bedGraph; check context.tracks")
    return track


def require_together(path: Path, track: Track, chroms: list[str]) -> None:
    """Raise `UserError` where `track` has nothing on any of `chroms`, those of the pairs."""
    if not any(track(chrom) is not None for chrom in chroms):
        raise UserError(
            f"{path} has no signal on any chromosome of the pairs ({listed(chroms)}); add chrom_aliases if the names "
            "differ, or leave the assay out"
        )
