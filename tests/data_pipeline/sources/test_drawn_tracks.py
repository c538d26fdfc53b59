"""The signals that a picture of a locus is drawn with are those that the store's description names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_sources import write

from data_pipeline.settings import validate
from data_pipeline.sources.drawn_tracks import signals_along
from data_pipeline.sources.settings import StoreSettings
from data_pipeline.store.report import _told

PAIRS = [{"format": "bedpe", "file": "none.bedpe", "line": "A", "labels": False}]
PEAKS = {"pattern": "{line}.{mark}.bed", "marks": ["CTCF"], "scale": "raw"}
TRACKS = {"landscape": "tracks", "tracks": "{line}.{mark}.bg", "groups": ["barriers"], "assays": {"H3K27ac": "ac"}}


def settings(**keys: Any) -> StoreSettings:
    content = {"lines": ["A", "B"], "pairs": PAIRS, "windows": {"enhancer": 0, "promoter": 0}}
    return validate(StoreSettings, content | keys, "test")


def masses(described: StoreSettings, root: Path, line: str, chrom: str) -> dict[str, float]:
    found = signals_along(described, root, line, chrom)
    return {mark: float(own.mass(np.array([0]), np.array([5000]))[0, 0]) for mark, own in found.items()}


def test_tracks_of_the_line_are_given_by_assay(tmp_path: Path) -> None:
    write(tmp_path / "A.ac.bg", "chr1 0 1000 2\nchr1 3000 4000 1\n")
    write(tmp_path / "A.CTCF.bg", "1\t500\t1500\t3\n")
    described = settings(context=TRACKS)
    assert masses(described, tmp_path, "A", "chr1") == {"H3K27ac": 3000, "CTCF": 3000}
    assert masses(described, tmp_path, "A", "chr2") == {}
    assert masses(described, tmp_path, "B", "chr1") == {}
    assert masses(described, tmp_path, "C", "chr1") == {}


def test_without_tracks_peaks_are_drawn_and_without_both_nothing(tmp_path: Path) -> None:
    for line, value in (("A", 4), ("B", 9)):
        write(tmp_path / f"{line}.CTCF.bed", f"chr1\t1000\t2000\tp\t0\t.\t{value}\n")
    assert masses(settings(peaks=PEAKS), tmp_path, "B", "chr1") == {"CTCF": 9000}
    assert masses(settings(), tmp_path, "A", "chr1") == {}


@pytest.mark.parametrize(
    ("tracks", "told"),
    [
        (["pair:CTCF"], "pair:CTCF"),
        (
            ["context:activity/abc [DNase+H3K27ac]", "context:barriers/at_promoter [CTCF]", "context:flanks/x [DNase]"],
            "the 3 columns of context that need CTCF, DNase",
        ),
        (["context:activity/abc [DNase+H3K27ac]"], "the 1 columns of context that need DNase, H3K27ac"),
        (["pair:CTCF", "context:order/between", "context:flanks/x [DNase]"],
         "pair:CTCF, context:order/between and the 1 columns of context that need DNase"),
    ],
)  # fmt: skip
def test_columns_of_context_without_values_are_told_by_their_assays(tracks: list[str], told: str) -> None:
    assert _told(tracks) == told
