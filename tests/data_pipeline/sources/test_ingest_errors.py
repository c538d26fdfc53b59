"""Each mistake a user can make in an ingest ends in one sentence, and leaves no store."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_sources import bengi, build, lab, quarantined, write

from data_pipeline.errors import UserError
from data_pipeline.settings import load
from data_pipeline.sources.genome import fasta_records
from data_pipeline.sources.settings import StoreSettings

E1 = ("chr20", 3000, 3400)


@contextmanager
def refused(out: Path, message: str) -> Iterator[None]:
    """The block raises a UserError that matches, and no store or hidden folder is left."""
    with pytest.raises(UserError, match=message):
        yield
    assert [path for path in out.parent.iterdir() if path.name.lstrip(".").startswith(f"{out.name}")] == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    description = lab(tmp_path)
    (tmp_path / "pairs.tsv.gz").unlink()
    with refused(tmp_path / "store", r"pairs\.tsv\.gz does not exist .*check the name, or give another --root"):
        build(description, tmp_path / "store")


def test_an_existing_out_is_left_alone(tmp_path: Path) -> None:
    description = lab(tmp_path)
    (tmp_path / "store").mkdir()
    with pytest.raises(UserError, match="store exists already; give another --out or remove it first"):
        build(description, tmp_path / "store")


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_table_is_named(tmp_path: Path, text: str) -> None:
    description = lab(tmp_path)
    write(tmp_path / "pairs.tsv.gz", text)
    with refused(tmp_path / "store", r"pairs\.tsv\.gz is empty; a table was expected"):
        build(description, tmp_path / "store")


def test_a_table_with_a_header_only_is_named(tmp_path: Path) -> None:
    description = lab(tmp_path) | {"pairs": [{"format": "targetfinder", "file": "ep.csv"}]}
    write(tmp_path / "ep.csv", "enhancer_chrom,enhancer_start\n")
    with refused(tmp_path / "store", r"ep\.csv has a header but no rows"):
        build(description, tmp_path / "store")


def test_a_wrong_number_of_columns_is_named_with_the_line(tmp_path: Path) -> None:
    description = lab(tmp_path)
    write(tmp_path / "pairs.tsv.gz", "1\tchr20\t3000\n")
    with refused(tmp_path / "store", r"pairs\.tsv\.gz:1 has 3 columns where 10 are expected"):
        build(description, tmp_path / "store")


def test_a_missing_column_is_named_with_the_columns_there_are(tmp_path: Path) -> None:
    description = lab(tmp_path) | {"pairs": [{"format": "targetfinder", "file": "ep.csv"}]}
    write(tmp_path / "ep.csv", "chrom,start\nchr1,5\n")
    with refused(tmp_path / "store", r"ep\.csv has no single column 'enhancer_chrom'; its columns are chrom, start"):
        build(description, tmp_path / "store")


def test_a_column_number_beyond_the_table_is_named(tmp_path: Path) -> None:
    description = lab(tmp_path) | {"pairs": [{"format": "bedpe", "file": "x.bedpe", "line": "K562"}]}
    write(tmp_path / "x.bedpe", "chr20\t3000\t3400\tchr20\t1000\t2000\n")
    with refused(tmp_path / "store", r"x\.bedpe has 6 columns, so there is no column 11"):
        build(description, tmp_path / "store")


@pytest.mark.parametrize("name", ["pairs.tsv.gz", "chr20.fa.gz"])
def test_a_file_that_is_not_gzip_though_its_name_says_so_is_named(tmp_path: Path, name: str) -> None:
    description = lab(tmp_path)
    (tmp_path / name).write_bytes(gzip.decompress((tmp_path / name).read_bytes()))
    with refused(tmp_path / "store", rf"{name} is not gzip although its name ends in \.gz"):
        build(description, tmp_path / "store")


@pytest.mark.parametrize("name", ["pairs.tsv.gz", "chr20.fa.gz", "signals.gz", "peaks/K562.CTCF.bed.gz"])
def test_a_truncated_gzip_file_is_named(tmp_path: Path, name: str) -> None:
    description = lab(tmp_path)
    names = "chr20:3000-3400|K562|EH1,chr20:2000-2001|K562|ENSG1.1|ENST1.1|+"
    write(tmp_path / "signals.gz", "enh_name,prom_name,celltype,CTCF\n" + f"{names},K562,1\n" * 2000)
    for line in ("K562", "NHEK"):
        write(tmp_path / f"peaks/{line}.CTCF.bed.gz", "chr20\t1\t200\tpeak\t0\t.\t1.5\n" * 2000)
    description |= {"signals": [{"file": "signals.gz"}]}
    description |= {"peaks": {"pattern": "peaks/{line}.{mark}.bed.gz", "marks": ["CTCF"]}}
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) - 12])
    with refused(tmp_path / "store", rf"{name} is truncated or damaged .*; fetch it again"):
        build(description, tmp_path / "store")


def test_a_fasta_without_the_chromosome_of_a_region_is_named(tmp_path: Path) -> None:
    description = lab(tmp_path) | {"regions": ["chr20", "chr21"]}
    with refused(tmp_path / "store", r"has no chromosome chr21, which `regions` asks for; it has chr20, chrX"):
        build(description, tmp_path / "store")


def test_a_file_that_is_no_fasta_is_named(tmp_path: Path) -> None:
    description = lab(tmp_path)
    write(tmp_path / "chrX.fa", "ACGT\n")
    with refused(tmp_path / "store", r"chrX\.fa is not FASTA: it does not begin with '>'"):
        build(description, tmp_path / "store")


@pytest.mark.parametrize("text", [">chrX\nACGT\rACGT\n", ">chrX\rACGT\n", ">chrX\nACGT\n\r", ">chrX\nACGT\r>b\nACGT\n"])
def test_a_fasta_with_a_lone_carriage_return_is_refused(tmp_path: Path, text: str) -> None:
    description = lab(tmp_path)
    (tmp_path / "chrX.fa").write_bytes(text.encode())
    with refused(
        tmp_path / "store", r"chrX\.fa has a line that ends in a carriage return alone, or is damaged: save it"
    ):
        build(description, tmp_path / "store")


def test_a_carriage_return_at_the_border_of_two_blocks_is_judged_by_what_follows(tmp_path: Path) -> None:
    letters = "A" * ((1 << 20) - len(">chrX\r\n"))
    for end, name in (("\r\n", "crlf"), ("\rA\n", "cr")):
        (tmp_path / name).write_bytes(f">chrX\r\n{letters}{end}ACGT{end}".encode())
    assert dict(fasta_records(tmp_path / "crlf")) == {"chrX": f"{letters}ACGT"}
    with pytest.raises(UserError, match="carriage return alone"):
        list(fasta_records(tmp_path / "cr"))


def test_a_chromosome_in_two_files_is_named(tmp_path: Path) -> None:
    description = lab(tmp_path)
    write(tmp_path / "chrX.fa", ">chr20\nACGT\n")
    with refused(tmp_path / "store", r"chrX\.fa holds chromosome chr20 a second time"):
        build(description, tmp_path / "store")


def test_too_many_bad_rows_name_the_top_reason_and_its_first_row_and_leave_the_rows_to_look_at(tmp_path: Path) -> None:
    rows = [bengi(1, E1, 2000), bengi(1, ("chr7", 1, 9), 2000), bengi(1, ("chr8", 1, 9), 2000), bengi(5, E1, 2000)]
    description = lab(tmp_path, rows)
    description["pairs"][0]["max_bad_fraction"] = 0.5
    message = (
        r"3 of 4 rows are bad, max_bad_fraction allows 0\.5; most often missing_chromosome \(2 rows, first at "
        r"pairs\.tsv\.gz:2: the chromosome is not in the genome files; the row says 'chr7', "
        r"the genome has chr20, chrX\); the rejected rows are in .*store\.quarantine"
    )
    with pytest.raises(UserError, match=message):
        build(description, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    reasons = [reason for _, _, reason in quarantined(tmp_path / "store.quarantine")]
    assert reasons == ["missing_chromosome", "missing_chromosome", "bad_label"]


def test_a_later_success_removes_the_rejected_rows_of_an_earlier_failure(tmp_path: Path) -> None:
    description = lab(tmp_path, [bengi(1, E1, 2000), bengi(5, E1, 2000)])
    description["pairs"][0]["max_bad_fraction"] = 0.1
    with pytest.raises(UserError, match="the rejected rows are in"):
        build(description, tmp_path / "store")
    description["pairs"][0]["max_bad_fraction"] = 0.5
    build(description, tmp_path / "store")
    assert not (tmp_path / "store.quarantine").exists()


def test_no_pair_left_is_an_error(tmp_path: Path) -> None:
    description = lab(tmp_path) | {"regions": ["chrX:3000-4000"]}
    with refused(tmp_path / "store", "no pair is left: every row was rejected or lies outside `regions`"):
        build(description, tmp_path / "store")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linse: [K562]", "unknown key 'linse', did you mean 'lines'"),
        ("windows: {enhancer: 1001, promoter: 2000}", "key 'windows' .*enhancer must be an even number of bases"),
        (
            "pairs: [{format: bengi, file: x, max_bad_fraction: 2}]",
            r"max_bad_fraction' has value 2: .*less than or equal",
        ),
        ("pairs: [{format: begni, file: x}]", r"key 'pairs\.0' .*'bengi', 'targetfinder', 'bedpe', 'csv', 'sequences'"),
        ("regions: ['chr1:5']", "'chr1:5' is neither a chromosome nor chrom:start-end"),
        ("line_aliases: {HeLa: HeLa-S3}", "line_aliases maps 'HeLa' to 'HeLa-S3', which is not in lines"),
        ("genome: []", "has only coordinates: give genome, or set both windows to 0"),
        ("peaks: {pattern: peaks.bed, marks: [CTCF]}", r"must contain \{line\} and \{mark\}"),
    ],
)
def test_a_mistake_in_the_settings_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    base = write(tmp_path / "base.yaml", "lines: [K562]\ngenome: [g.fa]\npairs: [{format: bengi, file: x}]\n")
    with pytest.raises(UserError, match=message):
        load(StoreSettings, [base, write(tmp_path / "more.yaml", text)])
