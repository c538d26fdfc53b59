"""From BENGI and TargetFinder tables with a genome to a store: what is kept, counted and quarantined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny_sources import CHR20, CHRX, bengi, build, lab, quarantined, write

from data_pipeline.dna import unpack
from data_pipeline.store.store import Store

E1 = ("chr20", 3000, 3400)


def sequences(store: Store, kind: str) -> list[str]:
    table = store.enhancers if kind == "enhancer" else store.promoters
    return [unpack(row) for row in table.packed(np.arange(len(table)))]


def test_bengi_rows_become_pairs_with_line_label_and_distance(tmp_path: Path) -> None:
    store = build(lab(tmp_path), tmp_path / "store")
    lines = [store.lines[index] for index in store.pairs.line]
    assert lines == ["K562", "K562", "K562", "NHEK"]
    assert store.pairs.label.tolist() == [1, 0, 0, 1]
    assert store.pairs.distance.tolist() == [1200, 1650, 800, 1150]


def test_elements_are_stored_once_and_sorted_by_place(tmp_path: Path) -> None:
    store = build(lab(tmp_path), tmp_path / "store")
    assert store.enhancers.start.tolist() == [3000, 3600, 1000]
    assert [store.manifest.chroms[code] for code in store.enhancers.chrom] == ["chr20", "chr20", "chrX"]
    assert store.pairs.enhancer.tolist() == [0, 1, 0, 2]
    assert store.promoters.strand.tolist() == [1, -1, 1]


def test_windows_are_cut_around_the_enhancers_centre_and_the_tss(tmp_path: Path) -> None:
    store = build(lab(tmp_path), tmp_path / "store")
    assert sequences(store, "enhancer")[0] == CHR20[3100:3300]
    assert sequences(store, "promoter")[:2] == [CHR20[1850:2150], CHR20[3850:4150]]
    assert sequences(store, "promoter")[2] == CHRX[2050:2350]


def test_windows_over_the_edge_of_a_chromosome_are_padded_with_n_and_counted(tmp_path: Path) -> None:
    rows = [bengi(1, ("chr20", 20, 60), 2000), bengi(0, ("chr20", 5950, 6000), 2000)]
    store = build(lab(tmp_path, rows), tmp_path / "store")
    assert sequences(store, "enhancer") == ["N" * 60 + CHR20[:140], CHR20[5875:] + "N" * 75]
    assert store.manifest.sources[-1]["edge_padded"] == 2


def test_rows_that_share_a_tss_collapse_and_are_counted(tmp_path: Path) -> None:
    rows = [bengi(1, E1, 2000, n=1), bengi(1, E1, 2000, n=2), bengi(0, E1, 4000)]
    store = build(lab(tmp_path, rows), tmp_path / "store")
    assert len(store.pairs) == 2
    assert store.manifest.sources[0]["duplicates"] == 1
    assert store.manifest.counts.get("quarantine/conflicting_label") is None


def test_all_copies_of_a_pair_with_both_labels_are_quarantined(tmp_path: Path) -> None:
    rows = [bengi(1, E1, 2000, n=1), bengi(0, E1, 4000), bengi(0, E1, 2000, n=2), bengi(1, E1, 2000, n=3)]
    store = build(lab(tmp_path, rows), tmp_path / "store")
    assert store.pairs.distance.tolist() == [800]
    assert store.manifest.counts["quarantine/conflicting_label"] == 3
    expected = [("pairs.tsv.gz", line, "conflicting_label") for line in (1, 3, 4)]
    assert quarantined(tmp_path / "store" / "quarantine") == expected


def test_the_same_pair_with_another_label_in_another_line_is_no_conflict(tmp_path: Path) -> None:
    rows = [bengi(1, E1, 2000, line="K562"), bengi(0, E1, 2000, line="NHEK")]
    store = build(lab(tmp_path, rows), tmp_path / "store")
    assert store.pairs.label.tolist() == [1, 0]
    assert len(store.enhancers) == len(store.promoters) == 1


def test_bad_rows_are_quarantined_with_file_line_and_reason(tmp_path: Path) -> None:
    good = bengi(1, E1, 2000)
    rows = {
        good: None,
        bengi(2, E1, 4000): "bad_label",
        bengi(1, E1, 4000, line="Jurkat"): "unknown_line",
        bengi(1, ("chr20", 3400, 3000), 4000): "bad_coordinates",
        bengi(1, ("chr20", 3000, 3000.5), 4000): "bad_coordinates",  # type: ignore[arg-type]
        bengi(1, ("chr20", 3000, 9000), 4000): "outside_genome",
        bengi(1, ("chr7", 3000, 3400), 4000): "missing_chromosome",
        bengi("", E1, 4000): "missing_field",
        "1\tchr20": "wrong_field_count",
    }
    store = build(lab(tmp_path, list(rows)), tmp_path / "store")
    expected = [("pairs.tsv.gz", line, reason) for line, reason in enumerate(rows.values(), start=1) if reason]
    assert quarantined(tmp_path / "store" / "quarantine") == expected
    assert len(store.pairs) == 1
    assert store.manifest.counts["quarantine/bad_coordinates"] == 2


def test_the_quarantine_holds_the_row_as_it_stands_in_the_file(tmp_path: Path) -> None:
    bad = bengi("yes", E1, 4000)
    build(lab(tmp_path, [bengi(1, E1, 2000), bad]), tmp_path / "store")
    text = (tmp_path / "store" / "quarantine" / "bad_label.tsv").read_text()
    assert text == f"file\tline\treason\trow\npairs.tsv.gz\t2\tbad_label\t{bad}\n"


def test_an_element_over_a_letter_that_is_no_base_is_quarantined_and_iupac_letters_are_kept(tmp_path: Path) -> None:
    description = lab(tmp_path, [bengi(1, E1, 2000), bengi(1, ("chr20", 4500, 4600), 2000)])
    spoiled = CHR20[:3200] + "J" + CHR20[3201:4550] + "R" + CHR20[4551:]
    write(tmp_path / "chr20.fa.gz", f">chr20\n{spoiled}\n")
    store = build(description, tmp_path / "store")
    assert quarantined(tmp_path / "store" / "quarantine") == [("pairs.tsv.gz", 1, "bad_letter")]
    assert sequences(store, "enhancer") == [spoiled[4450:4650]]


def test_pairs_outside_the_regions_are_counted_but_not_quarantined(tmp_path: Path) -> None:
    rows = [bengi(1, E1, 2000), bengi(1, ("chr7", 3000, 3400), 2000), bengi(0, ("chrX", 1000, 1100), 2200, line="NHEK")]
    description = lab(tmp_path, rows) | {"regions": ["20", "chrX:1-1099"]}
    store = build(description, tmp_path / "store")
    assert len(store.pairs) == 1
    assert store.manifest.sources[0]["outside_regions"] == 2
    assert quarantined(tmp_path / "store" / "quarantine") == []


def test_lines_and_chromosomes_may_have_other_names(tmp_path: Path) -> None:
    description = lab(tmp_path, [bengi(1, ("NC_20", 3000, 3400), 2000, line="HeLa")])
    description |= {"lines": ["HeLa-S3"], "line_aliases": {"HeLa": "HeLa-S3"}, "chrom_aliases": {"NC_20": "chr20"}}
    store = build(description, tmp_path / "store")
    assert store.manifest.chroms == ["chr20"]
    assert store.lines == ["HeLa-S3"]


def test_targetfinder_rows_have_their_line_in_the_name_and_the_promoters_centre_as_tss(tmp_path: Path) -> None:
    description = lab(tmp_path)
    header = "enhancer_chrom,enhancer_start,enhancer_end,enhancer_name,promoter_chrom,promoter_start,promoter_end,"
    row = "chr20,3000,3400,K562|chr20:3000-3400,chr20,1000,2001,K562|chr20:1000-2001,1"
    write(tmp_path / "ep.csv.gz", f"{header}promoter_name,label\n{row}\n")
    store = build(description | {"pairs": [{"format": "targetfinder", "file": "ep.csv.gz"}]}, tmp_path / "store")
    assert store.pairs.distance.tolist() == [3200 - 1500]
    assert sequences(store, "promoter") == [CHR20[1350:1650]]
    assert store.enhancers.names == ["K562|chr20:3000-3400"]


def test_the_first_source_wins_where_a_pair_stands_in_two(tmp_path: Path) -> None:
    description = lab(tmp_path, [bengi(1, E1, 2000)])
    write(tmp_path / "more.tsv", bengi(1, E1, 2000) + "\n" + bengi(0, E1, 4000) + "\n")
    description["pairs"].append({"format": "bengi", "file": "more.tsv"})
    store = build(description, tmp_path / "store")
    reports = store.manifest.sources[:2]
    assert [(report["pairs"], report["duplicates"]) for report in reports] == [(1, 0), (1, 1)]


def test_a_store_without_sequence_needs_no_genome(tmp_path: Path) -> None:
    description = lab(tmp_path) | {"genome": [], "windows": {"enhancer": 0, "promoter": 0}}
    store = build(description, tmp_path / "store")
    assert store.enhancers.packed(np.array([0])).shape == (1, 0)


def test_the_same_files_give_the_same_checksum_wherever_they_lie(tmp_path: Path) -> None:
    checksums = [build(lab(tmp_path / name), tmp_path / name / "store").checksum for name in ("here", "there")]
    assert checksums[0] == checksums[1]


def test_line_features_are_stored_in_the_order_of_the_lines(tmp_path: Path) -> None:
    description = lab(tmp_path) | {"line_features": {"NHEK": [3.0, 4.0], "K562": [1.0, 2.0]}}
    assert build(description, tmp_path / "store").line_features.tolist() == [[1, 2], [3, 4]]


def test_no_index_is_written_beside_the_genome(tmp_path: Path) -> None:
    root = tmp_path / "inputs"
    description = lab(root)
    before = sorted(root.iterdir())
    build(description, tmp_path / "store")
    assert sorted(root.iterdir()) == before
