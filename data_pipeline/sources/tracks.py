"""Signals along the genome from the files people have: bigWig, bedGraph and peaks, one landscape per chromosome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyBigWig

from data_pipeline.context import Landscape, stepwise
from data_pipeline.errors import UserError, listed
from data_pipeline.sources.genome import ChromNames
from data_pipeline.sources.numbers_as_text import values, whole_numbers
from data_pipeline.sources.quarantine import Quarantine
from data_pipeline.sources.text_tables import BROWSER, Tally, read_chunks

GRID = 500
"""Resolution in bp of landscapes from files; context looks at 10 kb bins and at 2 kb around a TSS."""
BIG_WIG = (".bw", ".bigwig")
MAX_BAD = 0.02
"""Share of a bedGraph's rows that may be quarantined."""
_BIG_WIG_MAGIC, _BIG_BED_MAGIC = 0x888FFC26, 0x8789F2EB
AT_A_TIME = 10_000_000
"""Bases of a bigWig that are read at a time, a multiple of `GRID`: 40 MB."""


@dataclass(frozen=True)
class Track:
    """One signal of one line."""

    chroms: list[str]
    """Chromosomes that the file speaks of, as the store names them."""
    read: Callable[[str], Landscape | None]

    def __call__(self, chrom: str) -> Landscape | None:
        """The landscape on `chrom`; None where the file has nothing there."""
        return self.read(chrom) if chrom in self.chroms else None


def intervals(table: pd.DataFrame) -> Track:
    """Landscapes by chromosome of a table of stretches: chrom, start, end, value; overlapping ones add up."""
    # As narrow as they are exact, because tracks of all lines wait here for their chromosomes' turn.
    by_chrom = {
        str(chrom): (own["start"].to_numpy(np.int32), own["end"].to_numpy(np.int32), own["value"].to_numpy(np.float64))
        for chrom, own in table.dropna(subset="value").groupby("chrom")
    }

    def of(chrom: str) -> Landscape:
        start, end, value = by_chrom[chrom]
        return stepwise(start.astype(np.int64), end.astype(np.int64), np.maximum(value, 0.0), GRID)

    return Track(list(by_chrom), of)


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
        parts.append(table.assign(value=value)[~(no_place | no_number)])
    quarantine.require_whole(file, tally, {"stretches": sum(map(len, parts))})
    quarantine.check(file, tally.rows, MAX_BAD)
    stretches = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"value": []})
    if not stretches["value"].notna().any():
        raise UserError(f"{path} has no stretch with a value; give a bedGraph (chrom, start, end, value) or a bigWig")
    return intervals(stretches)


def read_big_wig(path: Path, names: ChromNames, at_a_time: int = AT_A_TIME) -> Track:
    """The track of a bigWig, read `at_a_time` bp (a multiple of `GRID`) at a time.

    Raises `UserError` where the file is none, or is not whole.
    """
    _require_whole(path)
    with pyBigWig.open(str(path)) as track:
        own = list(track.chroms())
    called = dict(zip(names.canonical_column(pd.Series(own, dtype=str)), own, strict=True))

    def of(chrom: str) -> Landscape | None:
        try:
            with pyBigWig.open(str(path)) as track:
                return _landscape(track, called[chrom], at_a_time)
        except RuntimeError as error:
            raise UserError(f"{path} cannot be read on {called[chrom]}; copy or make it again") from error

    return Track(list(called), of)


def _landscape(track: Any, chrom: str, at_a_time: int) -> Landscape | None:
    """The landscape of an open bigWig; None where no base of `chrom` has a value."""
    length, known = track.chroms()[chrom], False
    reached = [np.zeros(1)]
    for first in range(0, length, at_a_time):
        last = min(first + at_a_time, length)
        signal = track.values(chrom, first, last, numpy=True)
        finite = np.isfinite(signal)
        known |= bool(finite.any())
        own = np.where(finite & (signal > 0), signal, 0.0).astype(np.float64)
        reached.append(reached[-1][-1] + np.cumsum(np.add.reduceat(own, np.arange(0, last - first, GRID))))
    if not known:
        return None
    integral = np.concatenate(reached)
    return Landscape(GRID * np.arange(len(integral)), integral[:, None])


def _require_whole(path: Path) -> None:
    """Raise `UserError` unless `path` begins and ends as a bigWig does.

    The format repeats its first number at the very end. The library is not asked, because it crashes on half a file.
    """
    with path.open("rb") as file:
        begin = file.read(4)
        file.seek(max(path.stat().st_size - 4, 0))
        end = file.read(4)
    magic = {int.from_bytes(begin, "little"), int.from_bytes(begin, "big")}
    if _BIG_BED_MAGIC in magic:
        raise UserError(f"{path} is a bigBed, and a landscape needs a bigWig or bedGraph; check context.tracks")
    if _BIG_WIG_MAGIC not in magic:
        raise UserError(
            f"{path} is not a bigWig; check context.tracks, and name a bedGraph otherwise than {path.suffix}"
        )
    if end != begin:
        raise UserError(f"{path} is cut off: it does not end as a bigWig does; copy or make it again")


def require_together(path: Path, track: Track, chroms: list[str]) -> None:
    """Raise `UserError` where `track` has nothing on any of `chroms`, those of the pairs."""
    if not set(chroms) & set(track.chroms):
        raise UserError(
            f"{path} has no signal on any chromosome of the pairs: it has {listed(track.chroms)}, they have "
            f"{listed(chroms)}; add chrom_aliases if the names differ, or leave the assay out"
        )
