"""Bins of a landscape from tracks and genes, to a store and to the profile of a pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tiny_sources import build, write

from data_pipeline.context import TRACKS


def described(root: Path, **context: Any) -> dict[str, Any]:
    """Two lines with a pair each, the promoter at lower and at higher positions; A has CTCF and DNase, B CTCF alone."""
    header = "label,enhancer_chrom,enhancer_start,enhancer_end,promoter_chrom,promoter_start,promoter_end,line\n"
    rows = ["1,chr1,84000,86000,chr1,21900,22100,A", "0,chr1,24000,26000,chr1,71900,72100,B"]
    write(root / "pairs.csv", header + "\n".join(rows) + "\n")
    write(root / "genes.bed", "chr1\t22000\t22001\tG1\t0\t+\nchr1\t55000\t55001\tG2\t0\t-\n")
    for name, steps in (("A.CTCF", [(0, 1), (5, 7)]), ("A.DNase", [(8, 3)]), ("B.CTCF", [(5, 2)])):
        text = "".join(f"chr1\t{bin * 10_000}\t{bin * 10_000 + 10_000}\t{value}\n" for bin, value in steps)
        write(root / f"{name}.bedgraph", text + "chr1\t120000\t130000\t0\n")
    return {
        "root": str(root),
        "lines": ["A", "B"],
        "windows": {"enhancer": 0, "promoter": 0},
        "pairs": [{"format": "csv", "file": "pairs.csv", "columns": {"line": "line"}}],
        "genes": {"file": "genes.bed"},
        "context": {"landscape": "tracks", "tracks": "{line}.{mark}.bedgraph", **context},
    }


def test_the_profile_of_a_pair_is_what_its_lines_tracks_say_from_enhancer_to_promoter(tmp_path: Path) -> None:
    store = build(described(tmp_path, profile=True), tmp_path / "store")
    assert store.landscape_names == list(TRACKS)
    ctcf, dnase, tss = (TRACKS.index(name) for name in ("CTCF", "DNase", "TSS"))
    lines = [store.lines[line] for line in store.pairs.line]
    first, second = store.profile(np.array([lines.index("A"), lines.index("B")]), (2, 6))
    # From bin 10 down to bin 0, and from bin 0 up to bin 9.
    assert first[:, -4].tolist() == [1] * 11 + [0]
    np.testing.assert_allclose(first[:11, ctcf], [0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 1])
    np.testing.assert_allclose(first[:11, dnase], [0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(first[:11, tss], [0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0])
    np.testing.assert_allclose(second[:10, ctcf], [0, 0, 0, 0, 0, 2, 0, 0, 0, 0])
    assert np.isnan(second[:10, dnase]).all()
    assert first[[2, 8], [-3, -2]].tolist() == second[[2, 7], [-3, -2]].tolist() == [1, 1]


def test_a_store_that_was_not_asked_for_profiles_has_none_and_the_same_context(tmp_path: Path) -> None:
    with_profile = build(described(tmp_path, profile=True), tmp_path / "with")
    without = build(described(tmp_path), tmp_path / "without")
    assert without.landscape_names == []
    assert not any(name.startswith("landscape") for name in without.manifest.files)
    assert not without.pairs.columns.has("enhancer_bin")
    rows = np.arange(2)
    np.testing.assert_array_equal(with_profile.signals(rows), without.signals(rows))
