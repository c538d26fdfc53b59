"""Peaks per (line, element) and signal tables per pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_sources import bengi, build, lab, write

from data_pipeline.errors import UserError

E1, E2 = ("chr20", 3000, 3400), ("chrX", 1000, 1100)


def with_peaks(root: Path, **changes: Any) -> dict[str, Any]:
    """Two lines, one mark; K562 has three peaks on chr20 and none on chrX, NHEK one on each."""
    rows = [bengi(1, E1, 2000), bengi(0, E2, 2200), bengi(0, E2, 2200, line="NHEK")]
    description = lab(root, rows)
    k562 = [("20", 2900, 3001, 3.0), ("20", 3399, 3500, 7.0), ("20", 3400, 3500, 100.0)]
    nhek = [("chr20", 3000, 3400, 1.0), ("chrX", 1050, 1060, 9.0)]
    for line, peaks in (("K562", k562), ("NHEK", nhek)):
        text = "".join(f"{chrom}\t{start}\t{end}\tpeak\t0\t.\t{value}\n" for chrom, start, end, value in peaks)
        write(root / f"peaks/{line}.CTCF.bed.gz", text)
    settings = {"pattern": "peaks/{line}.{mark}.bed.gz", "marks": ["CTCF"], "scale": "raw"} | changes
    return description | {"peaks": settings}


def enhancer_signals(description: dict[str, Any], out: Path) -> list[float]:
    """Signals of E1 and E2 in K562 and of E2 in NHEK."""
    store = build(description, out)
    assert store.signal_names == ["enhancer:CTCF", "promoter:CTCF"]
    return store.signals(np.arange(3))[:, 0].tolist()


def test_the_strongest_overlapping_peak_of_the_pairs_own_line_counts(tmp_path: Path) -> None:
    values = enhancer_signals(with_peaks(tmp_path), tmp_path / "store")
    np.testing.assert_equal(values, [7.0, np.nan, 9.0])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"aggregate": "sum"}, 10.0),
        ({"aggregate": "mean"}, 5.0),
        ({"flank": 1}, 100.0),
        ({"scale": "log1p"}, np.log(8.0)),
        ({"scale": "rank"}, 2 / 3),
    ],
)
def test_peaks_are_summarised_as_asked(tmp_path: Path, changes: dict[str, Any], expected: float) -> None:
    values = enhancer_signals(with_peaks(tmp_path, **changes), tmp_path / "store")
    assert values[0] == pytest.approx(expected)


def test_no_peak_is_zero_where_peaks_were_looked_for_and_missing_elsewhere(tmp_path: Path) -> None:
    store = build(with_peaks(tmp_path), tmp_path / "store")
    np.testing.assert_equal(store.signals(np.arange(3))[:, 1], [0.0, np.nan, 9.0])


def test_a_bed_file_without_the_strength_column_is_named(tmp_path: Path) -> None:
    description = with_peaks(tmp_path)
    write(tmp_path / "peaks/NHEK.CTCF.bed.gz", "chr20\t1\t2\tpeak\n")
    with pytest.raises(UserError, match=r"NHEK\.CTCF\.bed\.gz is not BED with the strength in column 7"):
        build(description, tmp_path / "store")


def test_a_missing_peak_file_is_named_before_anything_is_read(tmp_path: Path) -> None:
    description = with_peaks(tmp_path)
    (tmp_path / "peaks/NHEK.CTCF.bed.gz").unlink()
    with pytest.raises(UserError, match=r"NHEK\.CTCF\.bed\.gz does not exist"):
        build(description, tmp_path / "store")


HEADER = "label,enh_name,prom_name,celltype,chrom,enhancer_distance_to_promoter,CTCF (enhancer),DNase (window)"


def signal_row(enhancer: tuple[str, int, int], tss: int, values: str, line: str = "K562", n: int = 1) -> str:
    place = f"{enhancer[0]}:{enhancer[1]}-{enhancer[2]}|{line}|EH1"
    promoter = f"{enhancer[0]}:{tss}-{tss + 1}|{line}|ENSG1.1|ENST{n}.1|+"
    return f"1,{place},{promoter},{line},chr20,5,{values}"


def with_signals(root: Path, rows: list[str], pairs: list[str] | None = None) -> dict[str, Any]:
    write(root / "signals.tsv.gz", "\n".join([HEADER, *rows]) + "\n")
    description = lab(root, pairs or [bengi(1, E1, 2000), bengi(0, E1, 4000), bengi(0, E2, 2200, line="NHEK")])
    return description | {"signals": [{"file": "signals.tsv.gz"}]}


def test_signals_are_joined_by_names_and_line_in_any_order(tmp_path: Path) -> None:
    rows = [signal_row(E2, 2200, "5,6", line="NHEK"), signal_row(E2, 2200, "8,8"), signal_row(E1, 2000, "1,2")]
    store = build(with_signals(tmp_path, rows), tmp_path / "store")
    assert store.signal_names == ["pair:CTCF (enhancer)", "pair:DNase (window)"]
    np.testing.assert_equal(store.signals(np.arange(3)), [[1, 2], [np.nan, np.nan], [5, 6]])
    assert store.manifest.sources[-1]["joined"] == 2


def test_signals_of_the_first_of_several_transcripts_are_kept(tmp_path: Path) -> None:
    pairs = [bengi(1, E1, 2000, n=1), bengi(1, E1, 2000, n=2)]
    rows = [signal_row(E1, 2000, "3,4", n=2), signal_row(E1, 2000, "1,2", n=1), signal_row(E1, 2000, "9,9", n=1)]
    store = build(with_signals(tmp_path, rows, pairs), tmp_path / "store")
    assert store.signals(np.array([0])).tolist() == [[1, 2]]


def test_targetfinder_names_match_though_the_line_stands_elsewhere(tmp_path: Path) -> None:
    header = "enhancer_chrom,enhancer_start,enhancer_end,enhancer_name,promoter_chrom,promoter_start,promoter_end,"
    row = "chr20,3000,3400,K562|chr20:3000-3400,chr20,1000,2000,K562|chr20:1000-2000,1"
    write(tmp_path / "ep.csv", f"{header}promoter_name,label\n{row}\n")
    rows = ["1,chr20:3000-3400|K562|_,chr20:1000-2000|K562|_,K562,chr20,5,1,2"]
    description = with_signals(tmp_path, rows) | {"pairs": [{"format": "targetfinder", "file": "ep.csv"}]}
    assert build(description, tmp_path / "store").signals(np.array([0])).tolist() == [[1, 2]]


def test_tables_with_other_signals_are_refused(tmp_path: Path) -> None:
    description = with_signals(tmp_path, [signal_row(E1, 2000, "1,2")])
    write(tmp_path / "more.csv", HEADER.replace("DNase", "ATAC") + "\n" + signal_row(E1, 2000, "1,2") + "\n")
    description["signals"].append({"file": "more.csv"})
    with pytest.raises(UserError, match=r"more\.csv has other signals than the tables before it"):
        build(description, tmp_path / "store")


def test_text_among_the_signals_is_named(tmp_path: Path) -> None:
    description = with_signals(tmp_path, [signal_row(E1, 2000, "1,much")])
    with pytest.raises(UserError, match=r"signals\.tsv\.gz: column 'DNase \(window\)' holds text"):
        build(description, tmp_path / "store")


def test_a_signal_table_without_its_key_column_is_named(tmp_path: Path) -> None:
    description = with_signals(tmp_path, [signal_row(E1, 2000, "1,2")])
    description["signals"][0]["line_column"] = "line"
    with pytest.raises(UserError, match=r"signals\.tsv\.gz has no column 'line'; its columns are label, enh_name"):
        build(description, tmp_path / "store")
