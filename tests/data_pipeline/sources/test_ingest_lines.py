"""No line of an input file is lost: each is a pair, a duplicate, quarantined, or counted as passed over."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_sources import CHRX, bengi, build, lab, quarantined, write

from data_pipeline.errors import UserError
from data_pipeline.sources.quarantine import Quarantine
from data_pipeline.sources.text_tables import Tally

COLUMNS = "enhancer_chrom,enhancer_start,enhancer_end,promoter_chrom,promoter_start,promoter_end,label"


def bedpe(number: int, name: str = "loop") -> str:
    """A BEDPE row with a pair of its own."""
    start = 100 + 20 * number
    return "\t".join(map(str, ["chr20", start, start + 10, "chr20", 4000, 4100, name, 0, ".", ".", number % 2]))


def csv_row(number: int) -> str:
    start = 100 + 20 * number
    return f"chr20,{start},{start + 10},chr20,4000,4100,{number % 2}"


def table(root: Path, format: str, text: str | bytes, **source: Any) -> dict[str, Any]:
    """Settings of a store of one table of line K562, whatever share of its rows is bad."""
    description = lab(root)
    (root / "table").write_bytes(text if isinstance(text, bytes) else text.encode())
    own = {"format": format, "file": "table", "line": "K562", "max_bad_fraction": 1.0} | source
    return description | {"pairs": [own]}


def test_quotes_in_bedpe_names_swallow_no_rows(tmp_path: Path) -> None:
    rows = [bedpe(n, '"5-prime UTR' if n in (3, 7) else 'O"Neill' if n == 5 else "loop") for n in range(20)]
    store = build(table(tmp_path, "bedpe", "\n".join(rows)), tmp_path / "store")
    assert len(store.pairs) == 20


def test_one_quote_that_never_closes_costs_a_csv_its_row_only(tmp_path: Path) -> None:
    rows = [csv_row(n) + (',"loop' if n == 4 else ",loop") for n in range(12)]
    store = build(table(tmp_path, "csv", "\n".join([f"{COLUMNS},name", *rows])), tmp_path / "store")
    assert len(store.pairs) == 11
    assert quarantined(tmp_path / "store" / "quarantine") == [("table", 6, "bad_quotes")]


def test_quoted_fields_of_a_csv_may_hold_the_comma(tmp_path: Path) -> None:
    text = f'{COLUMNS},gene\n{csv_row(1)},"GENE, alpha"\n{csv_row(2)},"GENE ""b"""\n'
    columns = {"promoter_name": "gene"}
    store = build(table(tmp_path, "csv", text, columns=columns), tmp_path / "store")
    assert store.promoters.names == ['GENE "b"', "GENE, alpha"]


def test_tab_separated_text_with_every_field_in_quotes_is_read(tmp_path: Path) -> None:
    text = "\n".join('"' + row.replace(",", '"\t"') + '"' for row in [COLUMNS, csv_row(1), csv_row(2)])
    store = build(table(tmp_path, "csv", text, separator="tab"), tmp_path / "store")
    assert store.manifest.chroms == ["chr20"]
    assert len(store.pairs) == 2


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_will_do_and_blank_rows_are_counted(tmp_path: Path, end: str) -> None:
    lines = [COLUMNS, csv_row(1), "", csv_row(2), ",,,,,,", "  ", csv_row(3), ",,", ""]
    store = build(table(tmp_path, "csv", end.join(lines)), tmp_path / "store")
    assert len(store.pairs) == 3
    assert store.manifest.sources[0]["rows"] == 3
    assert store.manifest.sources[0]["blank"] == 4


def test_comments_track_lines_and_blank_separators_are_those_of_browser_formats(tmp_path: Path) -> None:
    lines = [
        "#chrom1",
        'track name="loops"',
        "browser position chr20:1-2",
        bedpe(1),
        bedpe(2).replace("\t", "  "),
        "# end",
    ]
    store = build(table(tmp_path, "bedpe", "\n".join(lines)), tmp_path / "store")
    assert len(store.pairs) == 2
    assert store.manifest.sources[0]["comments"] == 4


def test_a_hash_is_no_comment_in_a_csv(tmp_path: Path) -> None:
    text = f"#{COLUMNS}\n{csv_row(1)}\n#{csv_row(2)}\n"
    columns = {"enhancer_chrom": "#enhancer_chrom"}
    store = build(table(tmp_path, "csv", text, columns=columns), tmp_path / "store")
    assert len(store.pairs) == 1
    assert quarantined(tmp_path / "store" / "quarantine") == [("table", 3, "missing_chromosome")]


def test_a_nul_byte_costs_its_line_only_and_a_long_field_nothing(tmp_path: Path) -> None:
    rows = [bedpe(1), bedpe(2, "lo\0op"), bedpe(3, "x" * 200_000)]
    store = build(table(tmp_path, "bedpe", "\n".join(rows)), tmp_path / "store")
    assert len(store.pairs) == 2
    assert quarantined(tmp_path / "store" / "quarantine") == [("table", 2, "not_text")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{COLUMNS}\n{csv_row(1)}\n".encode("utf-16"), "table is UTF-16 text; save it as UTF-8"),
        (f"{COLUMNS}\n{csv_row(1)}\n".encode() + b"S\xe9zary,1\n", r"table:3 is not UTF-8 text \(byte 0xe9\)"),
        (b"PK\x03\x04" + bytes(80), "table is a spreadsheet or zip file; save the sheet as CSV"),
        (b"\x26\xfc\x8f\x88" + bytes(80), "table is a bigWig file"),
        (b"# only\n", "table is empty but for 1 comments"),
        (gzip.compress(b"x" * 99)[:-9], "table is truncated or damaged"),
    ],
    ids=["utf16", "latin1", "xlsx", "bigwig", "comments", "truncated"],
)
@pytest.mark.parametrize("kind", ["pairs", "signals", "peaks"])
def test_a_file_of_another_kind_is_named_by_every_reader(
    tmp_path: Path, kind: str, content: bytes, message: str
) -> None:
    description = lab(tmp_path)
    (tmp_path / "table").write_bytes(content)
    if kind == "pairs":
        description["pairs"] = [{"format": "bedpe", "file": "table", "line": "K562"}]
    elif kind == "signals":
        if "comments" in message:
            message = "table has a header but no rows"
        description["signals"] = [{"file": "table"}]
    else:
        (tmp_path / "table").rename(tmp_path / "K562.CTCF.table")
        (tmp_path / "NHEK.CTCF.table").write_bytes(b"")
        description["peaks"] = {"pattern": "{line}.{mark}.table", "marks": ["CTCF"]}
    with pytest.raises(UserError, match=message):
        build(description, tmp_path / "store")


def test_a_utf8_mark_and_names_beyond_ascii_are_read(tmp_path: Path) -> None:
    text = f"{COLUMNS},gene\n{csv_row(1)},Sézary\n"
    columns = {"promoter_name": "gene"}
    store = build(table(tmp_path, "csv", text.encode("utf-8-sig"), columns=columns), tmp_path / "store")
    assert store.promoters.names == ["Sézary"]


@pytest.mark.parametrize(("label", "read"), [("1.000000", 1), ("0.0", 0), (" 1 ", 1), ("1e0", 1)])
def test_labels_are_numbers_however_written(tmp_path: Path, label: str, read: int) -> None:
    text = f"{COLUMNS}\n{csv_row(1)[:-1]}{label}\n"
    store = build(table(tmp_path, "csv", text), tmp_path / "store")
    assert store.pairs.label.tolist() == [read]


@pytest.mark.parametrize("field", ['"3,000"', "#N/A", "inf", "1e400", "-5", "0x10", "3000.5", "１２"])
def test_a_start_that_is_no_whole_number_is_quarantined(tmp_path: Path, field: str) -> None:
    bad = f"chr20,{field},3400,chr20,4000,4100,1"
    build(table(tmp_path, "csv", f"{COLUMNS}\n{csv_row(1)}\n{bad}\n"), tmp_path / "store")
    assert quarantined(tmp_path / "store" / "quarantine") == [("table", 3, "bad_coordinates")]


def test_a_wrong_spelling_of_chromosomes_names_both(tmp_path: Path) -> None:
    text = f"{COLUMNS}\n" + csv_row(1).replace("chr20", "NC_000020.11") + "\n"
    with pytest.raises(UserError, match=r"the row says 'NC_000020\.11', the genome has chr20, chrX"):
        build(table(tmp_path, "csv", text, max_bad_fraction=0.5), tmp_path / "store")


def test_rows_outside_every_region_name_a_chromosome_of_both(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no pair is left: .* \(the first row outside lies on chr20, regions are 21\)"):
        build(
            lab(tmp_path) | {"regions": ["21"], "genome": [], "windows": {"enhancer": 0, "promoter": 0}}, tmp_path / "s"
        )


def test_a_lost_row_is_a_fault_of_the_program_and_said_so(tmp_path: Path) -> None:
    quarantine = Quarantine()
    file = quarantine.register("table", tmp_path / "table")
    quarantine.reject(file, "bad_label", np.array([3]))
    quarantine.require_whole(file, Tally(lines=5, header=1, blank=1), {"pairs": 2})
    with pytest.raises(AssertionError, match=r"3 of its 5 lines are rows, but 2 are accounted for"):
        quarantine.require_whole(file, Tally(lines=5, header=1, blank=1), {"pairs": 1})


def test_a_sequence_tables_blank_rows_and_repeats_are_no_bad_rows(tmp_path: Path) -> None:
    write(tmp_path / "e.csv", "region,sequence\ne1,ACGT\n,\ne1,ACGT\n")
    write(tmp_path / "p.fa", ">p1\nAC\n\nGT\n>p1\nACGT\n>p2\nA\n")
    write(tmp_path / "pairs.csv", "enhancer_name,promoter_name,label\ne1,p1,1\n,,\ne1,p2,0\n")
    source = {"format": "sequences", "file": "pairs.csv", "line": "K562"}
    source |= {"enhancer_sequences": "e.csv", "promoter_sequences": "p.fa"}
    store = build(lab(tmp_path) | {"pairs": [source]}, tmp_path / "store")
    assert store.pairs.label.tolist() == [1, 0]
    assert quarantined(tmp_path / "store" / "quarantine") == []


def test_a_genome_may_hold_a_chromosome_twice_that_no_pair_asks_for(tmp_path: Path) -> None:
    description = lab(tmp_path)
    write(tmp_path / "chrX.fa", f">X\n{CHRX}\n>chrM\n{CHRX}\n>chrMT\n{CHRX[::-1]}\n")
    assert len(build(description, tmp_path / "store").pairs) == 4
    write(tmp_path / "pairs.tsv.gz", bengi(1, ("chrM", 1000, 1100), 2200) + "\n")
    with pytest.raises(UserError, match=r"holds chromosome chrM a second time \('chrMT', 'chrM'\) and a pair"):
        build(description, tmp_path / "other")


def test_a_blank_before_a_chromosomes_name_is_said(tmp_path: Path) -> None:
    description = lab(tmp_path)
    write(tmp_path / "chrX.fa", "> chrX\nACGT\n")
    with pytest.raises(UserError, match=r"chrX\.fa has a record without a name; its header must be like '>chr1'"):
        build(description, tmp_path / "store")
