"""BEDPE, CSV, sequence tables, and pairs without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_sources import CHR20, build, lab, quarantined, write

from data_pipeline.dna import unpack
from data_pipeline.errors import UserError
from data_pipeline.settings import validate
from data_pipeline.sources.settings import StoreSettings
from data_pipeline.store.store import Store


def letters(store: Store, kind: str) -> list[str]:
    table = store.enhancers if kind == "enhancer" else store.promoters
    return [unpack(row) for row in table.packed(np.arange(len(table)))]


def test_bedpe_takes_the_first_interval_as_enhancer_and_skips_comments(tmp_path: Path) -> None:
    text = "#chrom1\tstart1\nchr20\t3000\t3400\tchr20\t1000\t2000\tloop1\t0\t.\t-\t1\tK562\n"
    write(tmp_path / "loops.bedpe", text)
    source = {"format": "bedpe", "file": "loops.bedpe", "columns": {"line": 12, "strand": 10}}
    store = build(lab(tmp_path) | {"pairs": [source]}, tmp_path / "store")
    assert (store.enhancers.start[0], store.promoters.start[0], store.promoters.strand[0]) == (3000, 1000, -1)
    assert store.pairs.distance.tolist() == [1700]


def test_a_csv_table_may_name_its_columns_and_its_tss(tmp_path: Path) -> None:
    text = "Gene;pc;ps;pe;TSS;ec;es;ee;significant;cell\nMYC;20;1000;2000;1200;20;3000;3400;1;K562\n"
    write(tmp_path / "screen.csv", text)
    columns = {
        "enhancer_chrom": "ec",
        "enhancer_start": "es",
        "enhancer_end": "ee",
        "promoter_chrom": "pc",
        "promoter_start": "ps",
        "promoter_end": "pe",
        "tss": "TSS",
        "label": "significant",
        "line": "cell",
        "promoter_name": "Gene",
    }
    source = {"format": "csv", "separator": "semicolon", "file": "screen.csv", "columns": columns}
    store = build(lab(tmp_path) | {"pairs": [source]}, tmp_path / "store")
    assert store.pairs.distance.tolist() == [2000]
    assert letters(store, "promoter") == [CHR20[1050:1350]]
    assert store.promoters.names == ["MYC"]
    assert store.enhancers.names == ["chr20:3000-3400"]


def test_a_bad_tss_is_quarantined(tmp_path: Path) -> None:
    header = "enhancer_chrom,enhancer_start,enhancer_end,promoter_chrom,promoter_start,promoter_end,label,tss\n"
    place = "chr20,3000,3400,chr20,1000,2000,1"
    write(tmp_path / "pairs.csv", header + f"{place},x\n{place},9000\n{place},1500\n")
    source = {"format": "csv", "file": "pairs.csv", "line": "K562", "columns": {"tss": "tss"}, "max_bad_fraction": 1}
    store = build(lab(tmp_path) | {"pairs": [source]}, tmp_path / "store")
    assert len(store.pairs) == 1
    reasons = [reason for _, _, reason in quarantined(tmp_path / "store" / "quarantine")]
    assert reasons == ["bad_coordinates", "outside_genome"]


def test_pairs_on_different_chromosomes_have_no_distance(tmp_path: Path) -> None:
    header = "enhancer_chrom,enhancer_start,enhancer_end,promoter_chrom,promoter_start,promoter_end,label\n"
    write(tmp_path / "pairs.csv", f"{header}chr20,3000,3400,chrX,1000,2000,1\n")
    source = {"format": "csv", "file": "pairs.csv", "line": "K562"}
    assert build(lab(tmp_path) | {"pairs": [source]}, tmp_path / "store").pairs.distance.tolist() == [-1]


def test_pairs_of_an_unseen_line_need_coordinates_and_a_genome_but_no_labels(tmp_path: Path) -> None:
    header = "enhancer_chrom,enhancer_start,enhancer_end,promoter_chrom,promoter_start,promoter_end\n"
    write(tmp_path / "candidates.csv", f"{header}chr20,3000,3400,chr20,1000,2000\nchr20,3600,3700,chr20,1000,2000\n")
    source = {"format": "csv", "file": "candidates.csv", "line": "A549", "labels": False}
    store = build(lab(tmp_path) | {"lines": ["A549"], "pairs": [source]}, tmp_path / "store")
    assert store.pairs.label.tolist() == [-1, -1]
    assert letters(store, "enhancer")[0] == CHR20[3100:3300]


def test_a_labelled_copy_of_a_pair_wins_over_an_unlabelled_one(tmp_path: Path) -> None:
    header = "enhancer_chrom,enhancer_start,enhancer_end,promoter_chrom,promoter_start,promoter_end,label\n"
    write(tmp_path / "pairs.csv", f"{header}chr20,3000,3400,chr20,1000,2000,1\n")
    sources = [{"format": "csv", "file": "pairs.csv", "line": "K562", "labels": flag} for flag in (False, True)]
    assert build(lab(tmp_path) | {"pairs": sources}, tmp_path / "store").pairs.label.tolist() == [1]


def test_a_table_that_starts_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    header = "\ufeffenhancer_chrom,enhancer_start,enhancer_end,promoter_chrom,promoter_start,promoter_end,label\n"
    write(tmp_path / "pairs.csv", f"{header}chr20,3000,3400,chr20,1000,2000,1\n")
    source = {"format": "csv", "file": "pairs.csv", "line": "K562"}
    assert len(build(lab(tmp_path) | {"pairs": [source]}, tmp_path / "store").pairs) == 1


def seeds(root: Path, fasta: bool) -> dict[str, Any]:
    """The seeds' own layout: pairs by name and a sequence table per kind."""
    pairs = "e1,p1,1,K562\ne2,p1,0,K562\nK562|chr5:100-200,p1,0,NHEK\ne9,p1,1,K562\n"
    write(root / "pairs.csv", f"enhancer_name,promoter_name,label,cell_line\n{pairs}")
    enhancers = {"e1": "ACGTAC", "e2": "GG", "K562|chr5:100-200": "ACGTACGTAC", "spoiled": "AC!T"}
    promoters = {"p1": "TTTTTT"}
    for name, table in (("e_seq", enhancers), ("p_seq", promoters)):
        if fasta:
            write(root / f"{name}.fa", "".join(f">{key} note\n{value}\n" for key, value in table.items()))
        else:
            rows = "".join(f"{key},{value}\n" for key, value in table.items())
            write(root / f"{name}.csv", f"region,sequence\n{rows}")
    end = "fa" if fasta else "csv"
    source = {
        "format": "sequences",
        "file": "pairs.csv",
        "enhancer_sequences": f"e_seq.{end}",
        "promoter_sequences": f"p_seq.{end}",
        "max_bad_fraction": 0.5,
    }
    return {
        "root": str(root),
        "lines": ["K562", "NHEK"],
        "windows": {"enhancer": 6, "promoter": 6},
        "pairs": [source],
    }


@pytest.mark.parametrize("fasta", [False, True], ids=["csv", "fasta"])
def test_the_seeds_layout_is_read_from_sequence_tables(tmp_path: Path, fasta: bool) -> None:
    store = build(seeds(tmp_path, fasta), tmp_path / "store")
    by_name = dict(zip(store.enhancers.names, letters(store, "enhancer"), strict=True))
    assert by_name == {"e1": "ACGTAC", "e2": "NNGGNN", "K562|chr5:100-200": "GTACGT"}
    assert store.pairs.label.tolist() == [1, 0, 0]
    assert store.pairs.distance.tolist() == [-1, -1, -1]


@pytest.mark.parametrize(("fasta", "line"), [(False, 5), (True, 7)], ids=["csv", "fasta"])
def test_rows_without_usable_sequence_are_quarantined_where_they_stand(tmp_path: Path, fasta: bool, line: int) -> None:
    build(seeds(tmp_path, fasta), tmp_path / "store")
    table = "e_seq.fa" if fasta else "e_seq.csv"
    expected = [(table, line, "bad_letter"), ("pairs.csv", 5, "missing_sequence")]
    assert quarantined(tmp_path / "store" / "quarantine") == expected


def test_coordinates_in_an_elements_name_are_kept_and_others_have_none(tmp_path: Path) -> None:
    store = build(seeds(tmp_path, fasta=False), tmp_path / "store")
    chroms = [store.manifest.chroms[code] for code in store.enhancers.chrom]
    assert dict(zip(store.enhancers.names, chroms, strict=True)) == {"K562|chr5:100-200": "chr5", "e1": ".", "e2": "."}


def test_an_element_with_two_sequences_is_quarantined(tmp_path: Path) -> None:
    description = seeds(tmp_path, fasta=False)
    write(tmp_path / "e_seq.csv", "region,sequence\ne1,AAAAAA\ne2,CCCCCC\ne1,GGGGGG\ne2,CCCCCC\n")
    store = build(
        description | {"pairs": [description["pairs"][0] | {"max_bad_fraction": 1.0}]},
        tmp_path / "store",
    )
    assert store.enhancers.names == ["e2"]
    rows = quarantined(tmp_path / "store" / "quarantine")
    assert [row for row in rows if row[2] == "conflicting_sequence"] == [
        ("e_seq.csv", 2, "conflicting_sequence"),
        ("e_seq.csv", 4, "conflicting_sequence"),
    ]


def test_a_table_needs_a_line_from_somewhere(tmp_path: Path) -> None:
    description = lab(tmp_path) | {"pairs": [{"format": "csv", "file": "pairs.csv"}]}
    with pytest.raises(UserError, match=r"pairs\.csv: give the file's `line`, or `columns\.line`"):
        validate(StoreSettings, description, "store.yaml")
