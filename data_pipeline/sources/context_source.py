"""The context of pairs at ingest: a landscape per line and chromosome from what the store's description names.

Ingest and prediction make context here, from the same kinds of input, and neither reads a label. An assay that a line
lacks is missing in the columns that need it, and in no other; where no line has any, or the tables cannot give
landscapes, that is an error, because it is a mistake in the description.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_pipeline.context import (
    MARKS,
    TRACKS,
    Bins,
    Landscape,
    Places,
    Scene,
    Stretches,
    binned,
    column_names,
    context_columns,
    reconstruct,
)
from data_pipeline.errors import UserError, listed
from data_pipeline.sources.annotation import Genes
from data_pipeline.sources.content import Content
from data_pipeline.sources.context_settings import ContextSettings


@dataclass(frozen=True)
class Measured:
    """Landscapes of the assays of one line on one chromosome."""

    assays: tuple[str, ...]
    """Those of `MARKS` that the line has."""
    landscape: Landscape
    """Of all `MARKS`, 0 where the line has none."""

    @staticmethod
    def of(signals: Mapping[str, Landscape]) -> Measured:
        """Landscapes of one signal each, by assay, put together; at least one."""
        assays = tuple(mark for mark in MARKS if mark in signals)
        return Measured(assays, Landscape.joined([signals.get(mark) for mark in MARKS]))


NOTHING = Measured((), Landscape(np.array([0, 1]), np.zeros((2, len(MARKS)))))
"""Where no assay was measured: what needs none is known even so."""
Landscapes = Callable[[int, str, NDArray[np.int64]], Measured | None]
"""(line, chromosome, rows of its pairs) -> landscapes; None where nothing is known there."""


@dataclass(frozen=True)
class Profile:
    """Bins of all lines and chromosomes with pairs, and which of them each pair lies in."""

    line: NDArray[np.int16]
    """(b,) index of the line; bins of one line and chromosome follow one another."""
    chrom: NDArray[np.int16]
    """(b,) index of the chromosome."""
    bin: NDArray[np.int32]
    """(b,) number of the bin on its chromosome."""
    values: NDArray[np.float32]
    """(b, len(TRACKS)), NaN where unknown."""
    places: dict[str, NDArray[Any]]
    """Of each of N pairs: enhancer_bin and promoter_bin (N,) int32, rows of the bins above or -1 where there are none,
    and outward (N,) int8, +1 where the promoter lies at higher positions."""


@dataclass(frozen=True)
class Context:
    """Columns of context, and the profile where it was asked for."""

    names: list[str]
    values: NDArray[np.float32]
    """(N, columns), NaN where unknown."""
    profile: Profile | None = None


def context_of(content: Content, settings: ContextSettings, genes: Genes | None, landscapes: Landscapes) -> Context:
    """Context of all pairs of `content`, line by line and chromosome by chromosome."""
    names = column_names(settings.groups)
    values = np.full((len(content.pairs), len(names)), np.nan, dtype=np.float32)
    told, stretches = 0, list[tuple[int, str, NDArray[np.int64], Bins]]()
    for line, chrom, rows in _stretches(content):
        measured = landscapes(line, chrom, rows)
        told += 0 if measured is None else len(rows)
        measured = measured or NOTHING
        own = genes.tss[genes.on(chrom)] if genes else np.empty(0, np.int64)
        scene = Scene(_places(content, rows), measured.landscape, np.unique(own))
        values[rows] = context_columns(scene, settings.groups, measured.assays)
        if settings.profile:
            stretches.append((line, chrom, rows, binned(scene, measured.assays, genes is not None)))
    if not told:
        raise UserError(
            "no pair has a context: the landscapes and the pairs have no line and chromosome in common; check `context`"
        )
    return Context(names, values, _profile(content, stretches) if settings.profile else None)


def _profile(content: Content, stretches: list[tuple[int, str, NDArray[np.int64], Bins]]) -> Profile:
    count, first = len(content.pairs), 0
    places: dict[str, NDArray[Any]] = {name: np.full(count, -1, np.int32) for name in ("enhancer_bin", "promoter_bin")}
    places["outward"] = np.ones(count, np.int8)
    columns: dict[str, list[NDArray[Any]]] = {"line": [], "chrom": [], "bin": [], "values": []}
    for line, chrom, rows, bins in stretches:
        length = len(bins.values)
        columns["line"].append(np.full(length, line, np.int16))
        columns["chrom"].append(np.full(length, content.chroms.index(chrom), np.int16))
        columns["bin"].append(np.arange(bins.first, bins.first + length, dtype=np.int32))
        columns["values"].append(bins.values)
        places["enhancer_bin"][rows], places["promoter_bin"][rows] = first + bins.enhancer, first + bins.promoter
        places["outward"][rows] = bins.outward
        first += length
    return Profile(**{name: np.concatenate(parts) for name, parts in columns.items()}, places=places)


def profile_tracks(settings: ContextSettings | None) -> tuple[str, ...]:
    """Names of what is stored of every bin; none where no profile is asked for."""
    return TRACKS if settings and settings.profile else ()


def from_pairs(
    content: Content, tracks: list[str], values: NDArray[np.float32], settings: ContextSettings
) -> Landscapes:
    """Landscapes out of signals of pairs that are means over enhancer, promoter and the window between.

    Raises `UserError` where the tracks have no such signals.
    """
    columns = {
        mark: [tracks.index(name) for place in ("window", "enhancer", "promoter")
               if (name := f"{settings.called(mark)} ({place})") in tracks]
        for mark in MARKS
    }  # fmt: skip
    assays = tuple(mark for mark, own in columns.items() if len(own) == 3)
    if not assays:
        raise UserError(
            "context.landscape=pairs needs signals named `ASSAY (enhancer)`, `ASSAY (promoter)` and `ASSAY (window)`, "
            f"and the tables have {listed(tracks)}; give signal tables, context.assays, or another context.landscape"
        )

    def landscapes(line: int, chrom: str, rows: NDArray[np.int64]) -> Measured | None:
        places, found = _places(content, rows), values[rows].astype(np.float64)
        first = places.enhancer_start < places.promoter_start
        windows = Stretches(
            np.where(first, places.enhancer_end, places.promoter_end),
            np.where(first, places.promoter_start, places.enhancer_start),
            found[:, [columns[mark][0] for mark in assays]],
        )
        elements = Stretches(
            np.concatenate([places.enhancer_start, places.promoter_start]),
            np.concatenate([places.enhancer_end, places.promoter_end]),
            np.concatenate([found[:, [columns[mark][at] for mark in assays]] for at in (1, 2)]),
        )
        signals: dict[str, Landscape] = {}
        for marks in _known_together(assays, windows.mean, elements.mean):
            own = [assays.index(mark) for mark in marks]
            if (whole := reconstruct(windows.of(own), elements.of(own))) is not None:
                signals |= {mark: whole.alone(column) for column, mark in enumerate(marks)}
        return Measured.of(signals) if signals else None

    return landscapes


def _known_together(assays: tuple[str, ...], *means: NDArray[np.float64]) -> list[list[str]]:
    """`assays`, columns of `means`, in groups that are known of the same stretches: one system of equations each."""
    known = np.isfinite(np.concatenate(means))
    together: dict[bytes, list[str]] = {}
    for column, mark in enumerate(assays):
        together.setdefault(known[:, column].tobytes(), []).append(mark)
    return list(together.values())


def from_tracks(signals: Mapping[tuple[int, str], Callable[[str], Landscape | None]]) -> Landscapes:
    """Landscapes of one signal each by (line, assay) and then chromosome, put together."""

    def landscapes(line: int, chrom: str, rows: NDArray[np.int64]) -> Measured | None:
        found = {
            mark: own for mark in MARKS
            if (line, mark) in signals and (own := signals[line, mark](chrom)) is not None
        }  # fmt: skip
        return Measured.of(found) if found else None

    return landscapes


def _stretches(content: Content) -> Iterator[tuple[int, str, NDArray[np.int64]]]:
    """Line, chromosome and rows of all pairs that lie on one chromosome."""
    chrom = {kind: content.elements[kind]["chrom"].to_numpy(object)[content.pairs[kind]] for kind in content.elements}
    together = np.flatnonzero(chrom["enhancer"] == chrom["promoter"])
    table = pd.DataFrame({"line": content.pairs["line"].to_numpy()[together], "chrom": chrom["enhancer"][together]})
    for (line, name), rows in table.groupby(["line", "chrom"], sort=False).indices.items():
        yield int(line), str(name), together[rows]


def _places(content: Content, rows: NDArray[np.int64]) -> Places:
    sides = {
        kind: content.elements[kind].iloc[content.pairs[kind].to_numpy()[rows]] for kind in ("enhancer", "promoter")
    }
    enhancer, promoter = sides["enhancer"], sides["promoter"]
    return Places(
        enhancer["start"].to_numpy(np.int64),
        enhancer["end"].to_numpy(np.int64),
        promoter["start"].to_numpy(np.int64),
        promoter["end"].to_numpy(np.int64),
        promoter["anchor"].to_numpy(np.int64),
    )
