"""Signals along the genome from bigWig, bedGraph and peaks."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyBigWig
import pytest
from tiny_context import LENGTHS, planted, text_of, write_big_wig
from tiny_sources import write

from data_pipeline.context.landscape import Landscape
from data_pipeline.errors import UserError
from data_pipeline.sources.genome import ChromNames
from data_pipeline.sources.quarantine import Quarantine
from data_pipeline.sources.tracks import Track, intervals, read_bed_graph, read_big_wig, require_together

NAMES = ChromNames({"one": "chr1"})


def bed_graph(path: Path, text: str, quarantine: Quarantine | None = None) -> Track:
    return read_bed_graph(write(path, text), path.name, NAMES, quarantine or Quarantine())


def assert_same(found: Landscape | None, expected: Landscape) -> None:
    assert found is not None
    start = np.arange(0, 4_000_000, 777)
    np.testing.assert_allclose(found.mass(start, start + 5_000), expected.mass(start, start + 5_000), atol=1e-3)


@pytest.mark.parametrize("called", ["{}", "{}x"])
def test_a_big_wig_and_a_bed_graph_are_the_same_landscape(tmp_path: Path, called: str) -> None:
    names = ChromNames({called.format(chrom): chrom for chrom in LENGTHS})
    # Parts of a chromosome are put together.
    wig = read_big_wig(write_big_wig(tmp_path / "a.bw", "A", "CTCF", called), names, at_a_time=700_000)
    path = write(tmp_path / "a.bedGraph.gz", "track type=bedGraph\n" + text_of("A", "CTCF", called))
    text = read_bed_graph(path, path.name, names, Quarantine())
    for chrom in LENGTHS:
        for track in (wig, text):
            assert_same(track(chrom), planted("A", "CTCF", chrom))
    assert wig("chr3") is None
    assert text("chr3") is None


def test_what_is_negative_or_no_value_counts_as_nothing_and_overlaps_add_up(tmp_path: Path) -> None:
    text = "chr1 0 1000 2\nchr1 500 1000 1.5\nchr1 2000 3000 -4\nchr1 3000 4000 nan\nchr2 0 10 .\n"
    track = bed_graph(tmp_path / "a.bedGraph", text)
    own = track("chr1")
    assert own is not None
    assert own.mass(np.array([0, 500, 2000]), np.array([500, 1000, 4000]))[:, 0].tolist() == [1000, 1750, 0]
    assert track("chr2") is None
    with pyBigWig.open(str(tmp_path / "a.bw"), "w") as file:
        file.addHeader([("chr1", 5000), ("chr2", 5000)])
        file.addEntries(["chr1"] * 3, [0, 2000, 3000], ends=[1000, 3000, 4000], values=[2.0, -4.0, float("inf")])
    track = read_big_wig(tmp_path / "a.bw", NAMES)
    own = track("chr1")
    assert own is not None
    assert own.mass(np.array([0, 2000]), np.array([1000, 4000]))[:, 0].tolist() == [2000, 0]
    assert track("chr2") is None, "a chromosome that the header names and the file has nothing on"


def test_peaks_are_stretches_of_their_strength() -> None:
    peaks = pd.DataFrame({"chrom": ["chr1"] * 3, "start": [0, 500, 9], "end": [1000, 1000, 99]})
    track = intervals(peaks.assign(value=[1.0, 2.0, np.nan]))
    own = track("chr1")
    assert own is not None
    assert own.integral[:3, 0].tolist() == [0, 500, 2000]


def test_bad_rows_of_a_bed_graph_are_quarantined_with_their_reasons(tmp_path: Path) -> None:
    quarantine = Quarantine()
    good = "".join(f"chr1 {start} {start + 1000} 1\n" for start in range(0, 300_000, 1000))
    bad = "chr1 5 5 1\nchr1 x 9 1\nchr1 1 9 much\nchr1 1 9\n"
    bed_graph(tmp_path / "a.bedGraph", good + bad, quarantine)
    assert quarantine.counts() == {"bad_coordinates": 2, "bad_number": 1, "wrong_field_count": 1}
    with pytest.raises(UserError, match=r"4 of 34 rows are bad, max_bad_fraction allows 0\.02; most often bad_coord"):
        bed_graph(tmp_path / "b.bedGraph", "chr1 0 900 1\n" * 30 + bad)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty; a table was expected"),
        ("track type=bedGraph\n", "is empty but for 1 comments; a table was expected"),
        ("chr1 1 900 nan\nchr1 900 1000 .\n", r"has no stretch with a value; give a bedGraph \(chrom, start, end, val"),
    ],
)
def test_an_empty_bed_graph_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UserError, match=rf"a\.bedGraph {says}"):
        bed_graph(tmp_path / "a.bedGraph", text)


def test_a_bed_with_three_columns_is_no_bed_graph(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.bedGraph.*wrong_field_count"):
        bed_graph(tmp_path / "a.bedGraph", "chr1\t5\t9\nchr1\t10\t19\n")


BIG_BED = bytes.fromhex("ebf28987") + bytes(60)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (BIG_BED, r"is a bigBed, and a landscape needs a bigWig or bedGraph; check context\.tracks$"),
        (BIG_BED[:4][::-1] + bytes(60), r"is a bigBed, and "),
        (b"chr1\t0\t9\t1\n", r"is not a bigWig; check context\.tracks, and name a bedGraph otherwise than \.bw$"),
        (b"", r"is not a bigWig"),
    ],
)
def test_what_is_no_big_wig_is_said_in_one_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.bw").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.bw {says}"):
        read_big_wig(tmp_path / "a.bw", NAMES)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95, -1])
def test_a_cut_off_big_wig_is_refused_before_it_crashes_the_library(tmp_path: Path, kept: float) -> None:
    content = write_big_wig(tmp_path / "whole.bw", "A", "CTCF").read_bytes()
    (tmp_path / "a.bw").write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(UserError, match=r"a\.bw is cut off: it does not end as a bigWig does; copy or make it again"):
        read_big_wig(tmp_path / "a.bw", NAMES)


def test_a_track_of_another_chromosome_naming_names_both(tmp_path: Path) -> None:
    track = read_big_wig(write_big_wig(tmp_path / "a.bw", "A", "CTCF", "NC_{}"), NAMES)
    says = (
        "a.bw has no signal on any chromosome of the pairs: it has NC_chr1, NC_chr2, they have chr1, chr7; add "
        "chrom_aliases if the names differ, or leave the assay out"
    )
    with pytest.raises(UserError, match=re.escape(says)):
        require_together(Path("a.bw"), track, ["chr1", "chr7"])
    require_together(Path("a.bw"), Track(["chr7"], lambda chrom: None), ["chr1", "chr7"])


def test_other_spellings_of_a_chromosome_need_no_alias(tmp_path: Path) -> None:
    assert_same(
        bed_graph(tmp_path / "a.bedGraph", text_of("A", "CTCF").replace("chr", ""))("chr2"),
        planted("A", "CTCF", "chr2"),
    )
    assert bed_graph(tmp_path / "b.bedGraph", "one 0 9 1\n")("chr1") is not None
