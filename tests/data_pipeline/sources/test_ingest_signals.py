"""Peaks per (line, element) and signal tables per pair."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tiny_sources import bengi, build, lab, quarantined, write

from data_pipeline.errors import UserError
from data_pipeline.sources.settings import PeakSettings
from data_pipeline.store.report import print_ingest_summary

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


@pytest.mark.parametrize("value", ["-inf", "inf", "1e400", "1e39", "nan", "NA", ".", "", "#N/A", "NaN", "#DIV/0!"])
def test_only_finite_numbers_are_values_and_the_others_are_counted(tmp_path: Path, value: str) -> None:
    rows = [signal_row(E1, 2000, f"{value},2"), signal_row(E1, 4000, "3,4"), signal_row(E2, 2200, "5,6", line="NHEK")]
    store = build(with_signals(tmp_path, rows), tmp_path / "store")
    np.testing.assert_equal(store.signals(np.arange(3)), [[np.nan, 2], [3, 4], [5, 6]])
    notes = store.manifest.sources[-1]["notes"]
    assert notes == ["signals.tsv.gz: 1 values of 'CTCF (enhancer)' are missing or not finite"]


@pytest.mark.parametrize(
    "row", [",p,K562,chr20,5,1,2", "e,,K562,chr20,5,1,2", "e,p,,chr20,5,1,2", 'e,p,K562,chr20,5,"1,0",2']
)
def test_a_row_without_names_or_with_text_among_numbers_is_quarantined(tmp_path: Path, row: str) -> None:
    good = [signal_row(E1, 2000, "1,2"), signal_row(E1, 4000, "3,4")]
    description = with_signals(tmp_path, [*good, f"1,{row}"])
    with pytest.raises(UserError, match=r"signals\.tsv\.gz: 1 of 3 rows are bad, .* first at signals\.tsv\.gz:4"):
        build(description, tmp_path / "store")
    description["signals"][0]["max_bad_fraction"] = 0.5
    build(description, tmp_path / "store")
    assert [row[:2] for row in quarantined(tmp_path / "store" / "quarantine")] == [("signals.tsv.gz", 4)]


def test_blank_rows_and_columns_a_spreadsheet_leaves_are_passed_over(tmp_path: Path) -> None:
    rows = [f"{signal_row(E1, 2000, '1,2')},", "," * 8, "", f"{signal_row(E1, 4000, '3,4')},"]
    description = with_signals(tmp_path, rows)
    write(tmp_path / "signals.tsv.gz", "\n".join([f"{HEADER},", *rows]) + "\n")
    store = build(description, tmp_path / "store")
    assert store.signal_names == ["pair:CTCF (enhancer)", "pair:DNase (window)"]
    assert store.manifest.sources[-1]["joined"] == 2


def test_a_column_of_numbers_without_a_name_is_no_track(tmp_path: Path) -> None:
    description = with_signals(tmp_path, [])
    write(tmp_path / "signals.tsv.gz", f",{HEADER}\n0,{signal_row(E1, 2000, '1,2')}\n")
    with pytest.raises(UserError, match=r"column 1 has no name; give it one, or add '' to `ignore`"):
        build(description, tmp_path / "store")


@pytest.mark.parametrize("chrom", ["20", "chr20"])
@pytest.mark.parametrize("number", ["{}", "{}.0"])
def test_made_names_are_those_of_the_parsed_coordinates(tmp_path: Path, chrom: str, number: str) -> None:
    header = "enhancer_chrom,enhancer_start,enhancer_end,promoter_chrom,promoter_start,promoter_end,label"
    places = [chrom, number.format(3000), number.format(3400), chrom, number.format(1000), number.format(2000)]
    write(tmp_path / "pairs.csv", f"{header}\n{','.join(places)},1\n")
    rows = ["1,chr20:3000-3400|K562,20:1000.0-2000,K562,chr20,5,1,2"]
    source = {"format": "csv", "file": "pairs.csv", "line": "K562"}
    store = build(with_signals(tmp_path, rows) | {"pairs": [source]}, tmp_path / "store")
    assert store.enhancers.names == ["chr20:3000-3400"]
    assert store.signals(np.array([0])).tolist() == [[1, 2]]


def test_a_table_that_joins_no_pair_is_an_error_with_a_name_of_both(tmp_path: Path) -> None:
    description = with_signals(tmp_path, ["1,chr20_3000_3400,TSS1,K562,chr20,5,1,2"])
    message = (
        r"signals\.tsv\.gz joins no pair: its first name without a pair is 'chr20_3000_3400 \+ TSS1' in K562, "
        r"the first pair without a row is 'chr20:3000-3400\|EH1 \+ chr20:2000-2001\|ENSG1\.1\|ENST1\.1\|\+' in K562"
    )
    with pytest.raises(UserError, match=message):
        build(description, tmp_path / "store")


def test_a_table_of_other_lines_names_the_lines_of_both(tmp_path: Path) -> None:
    description = with_signals(tmp_path, [signal_row(E1, 2000, "1,2", line="k562")])
    with pytest.raises(UserError, match=r"joins no pair: its lines are k562, those of the store K562, NHEK"):
        build(description, tmp_path / "store")


def test_a_table_that_joins_little_is_noted_with_names_of_both(tmp_path: Path) -> None:
    pairs = [bengi(1, E1, tss) for tss in range(2000, 2050, 10)]
    rows = [signal_row(E1, 2000, "1,2"), signal_row(E1, 9999, "1,2")]
    (note,) = build(with_signals(tmp_path, rows, pairs), tmp_path / "store").manifest.sources[-1]["notes"]
    assert "has only 1 of the 5 pairs of its lines: its first name without a pair is 'chr20:3000-3400|EH1 + " in note
    assert "the first pair without a row is 'chr20:3000-3400|EH1 + chr20:2010-2011" in note


def test_a_line_without_any_value_of_a_track_is_said(tmp_path: Path) -> None:
    rows = [signal_row(E1, 2000, "1,2"), signal_row(E2, 2200, "inf,6", line="NHEK")]
    store = build(with_signals(tmp_path, rows), tmp_path / "store")
    console = Console(record=True, width=200, quiet=False, file=StringIO())
    print_ingest_summary(store, console)
    assert "note: line 'NHEK' has no value of pair:CTCF (enhancer)" in console.export_text()


@pytest.mark.parametrize("value", ["-1", "-5", "inf", "NA", "1e400"])
def test_a_peak_without_a_finite_strength_says_nothing(tmp_path: Path, value: str) -> None:
    description = with_peaks(tmp_path, scale="log1p", aggregate="sum")
    peaks = f"chr20\t3000\t3100\ta\t0\t.\t{value}\nchr20\t9000\t9100\tb\t0\t.\t3\n"
    write(tmp_path / "peaks/K562.CTCF.bed.gz", peaks)
    store = build(description, tmp_path / "store")
    np.testing.assert_equal(store.signals(np.array([0])), [[np.nan, 0.0]])
    (note,) = store.manifest.sources[-1]["notes"]
    assert note == "peaks/K562.CTCF.bed.gz: 1 of 2 peaks have no finite strength at scale log1p"


def test_bed_may_have_blanks_comments_tracks_and_a_hash_in_a_name(tmp_path: Path) -> None:
    description = with_peaks(tmp_path)
    lines = ["track name=x", "# made by", "chr20 3000 3100 a 0 . 5", "", 'chr20\t3300\t3350\tpeak#2 "x\t0\t.\t7\t1']
    write(tmp_path / "peaks/K562.CTCF.bed.gz", "\r\n".join(lines))
    assert enhancer_signals(description, tmp_path / "store")[0] == 7.0


def test_bad_peaks_are_quarantined_where_they_stand(tmp_path: Path) -> None:
    description = with_peaks(tmp_path, max_bad_fraction=0.9)
    good = "chr20\t3000\t3100\ta\t0\t.\t5"
    rows = [good, "chr20\t31x\t3200\tb\t0\t.\t9", "chr20\t3000", "chr20\t3000\t3100\tc\t0\t.\thigh"]
    write(tmp_path / "peaks/K562.CTCF.bed.gz", "\n".join(rows))
    build(description, tmp_path / "store")
    name = "peaks/K562.CTCF.bed.gz"
    expected = [(name, 2, "bad_coordinates"), (name, 3, "wrong_field_count"), (name, 4, "bad_number")]
    assert quarantined(tmp_path / "store" / "quarantine") == expected


def test_peaks_on_no_chromosome_of_the_pairs_are_an_error_with_names_of_both(tmp_path: Path) -> None:
    description = with_peaks(tmp_path)
    write(tmp_path / "peaks/NHEK.CTCF.bed.gz", "NC_20\t3000\t3100\ta\t0\t.\t5\n")
    with pytest.raises(UserError, match=r"no peak on any chromosome of the pairs: it has NC_20, they have chr20"):
        build(description, tmp_path / "store")


def test_an_empty_peak_file_is_named(tmp_path: Path) -> None:
    description = with_peaks(tmp_path)
    write(tmp_path / "peaks/NHEK.CTCF.bed.gz", "track name=nothing\n")
    with pytest.raises(UserError, match=r"NHEK\.CTCF\.bed\.gz is empty but for 1 comments; a table was expected"):
        build(description, tmp_path / "store")


@pytest.mark.parametrize("pattern", ["{line}.{mark}.{accession}.bed", "{line}.{mark}.{{x}.bed", "{line}.{mark}.{}.bed"])
def test_a_pattern_with_other_braces_is_one_sentence(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(
        UserError, match=r"key 'peaks\.pattern' .* may have no braces but those of \{line\} and \{mark\}"
    ):
        build(with_peaks(tmp_path, pattern=pattern), tmp_path / "store")


def test_a_line_named_like_a_placeholder_is_a_name(tmp_path: Path) -> None:
    settings = PeakSettings(pattern="{line}.{mark}.bed", marks=["CTCF"])
    assert settings.file("{mark}", "{line}") == "{mark}.{line}.bed"
