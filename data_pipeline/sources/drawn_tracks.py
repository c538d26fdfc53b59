"""Signals along the genome for a picture: the tracks or peaks that a store's description names, read once more.

A store keeps what context makes of its tracks and not the tracks, which may be gigabytes; a picture needs a few
hundred kilobases of them.
"""

from __future__ import annotations

from pathlib import Path

from data_pipeline.context import MARKS, Landscape
from data_pipeline.sources.genome import ChromNames
from data_pipeline.sources.peaks import peak_files, read_peaks
from data_pipeline.sources.quarantine import Quarantine
from data_pipeline.sources.settings import StoreSettings
from data_pipeline.sources.tracks import BIG_WIG, Track, intervals, read_bed_graph, read_big_wig


def signals_along(settings: StoreSettings, root: Path, line: str, chrom: str) -> dict[str, Landscape]:
    """Landscapes (of one signal each) of `line` on `chrom` by assay; of peaks where there are no tracks, else none."""
    if line not in settings.lines:
        return {}
    names, quarantine = ChromNames(settings.chrom_aliases), Quarantine()
    tracks: dict[str, Track] = {}
    if settings.context and settings.context.tracks:
        for mark in MARKS:
            shown = settings.context.track(line, mark)
            path = root / shown
            if path.suffix.lower() in BIG_WIG and path.is_file():
                tracks[mark] = read_big_wig(path, names)
            elif path.is_file():
                tracks[mark] = read_bed_graph(path, shown, names, quarantine)
    elif settings.peaks:
        for (own, number), path in peak_files(settings.peaks, settings.lines, root).items():
            if settings.lines[own] == line:
                name = settings.peaks.marks[number]
                table, _ = read_peaks(path, settings.peaks.file(line, name), settings.peaks, names, quarantine)
                tracks[name] = intervals(table)
    found = {mark: track(chrom) for mark, track in tracks.items()}
    return {mark: own for mark, own in found.items() if own is not None}
