"""Candidates and loops: which pairs of elements and annotated genes they become, and what ends in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny_sources import CHR20, build, quarantined, write

from data_pipeline.dna import unpack
from data_pipeline.errors import UserError
from data_pipeline.settings import validate
from data_pipeline.sources.annotation import Genes
from data_pipeline.sources.candidates import candidates, in_slices
from data_pipeline.sources.field_formats import CandidateTable
from data_pipeline.sources.ingestion import ingest
from data_pipeline.sources.settings import StoreSettings
from data_pipeline.store.store import Store

PUBLIC = Path(__file__).parents[3] / "../shared/data"
GENES = (
    "#chr\tstart\tend\tname\tscore\tstrand\tEnsembl_ID\tgene_type\n"
    "chr20\t750\t1250\tA\t0\t+\tENSG00000000001\tprotein_coding\n"
    "chr20\t3750\t4250\tB\t0\t-\tENSG00000000002\tlincRNA\n"
    "chrX\t1750\t2250\tC\t0\t+\tENSG00000000003\tprotein_coding\n"
)


def lab(root: Path, **source: Any) -> dict[str, Any]:
    """A description of a store without sequence: three genes, and one source of K562."""
    write(root / "genes.bed", GENES)
    return {
        "root": str(root),
        "lines": ["K562"],
        "windows": {"enhancer": 0, "promoter": 0},
        "genes": {"file": "genes.bed"},
        "pairs": [{"line": "K562", "max_bad_fraction": 1.0} | source],
    }


def pairs(store: Store) -> list[tuple[int, str, int]]:
    """(start of the enhancer, gene, distance) of every pair."""
    genes, start = store.promoters.genes, store.enhancers.start
    table = store.pairs
    return [
        (int(start[e]), genes[p], int(d))
        for e, p, d in zip(table.enhancer, table.promoter, table.distance, strict=True)
    ]


def mistake(description: dict[str, Any], out: Path) -> str:
    with pytest.raises(UserError) as caught:
        ingest(validate(StoreSettings, description, "test"), out)
    assert not out.exists()
    return str(caught.value)


def test_candidates_are_all_pairs_within_the_window_and_carry_their_gene(tmp_path: Path) -> None:
    peaks = "20\t1900\t2100\tp1\t0\t.\t5.5\t-1\t-1\t50\n" + "chrX\t100\t300\tp2\t0\t.\t1\t-1\t-1\t5\n"
    write(tmp_path / "peaks.narrowPeak.gz", peaks)
    store = build(lab(tmp_path, format="candidates", file="peaks.narrowPeak.gz", window=2000), tmp_path / "store")
    assert pairs(store) == [(1900, "A", 1000), (1900, "B", 2000), (100, "C", 1800)]
    assert store.promoters.gene_ids == ["ENSG00000000001", "ENSG00000000002", "ENSG00000000003"]
    assert store.promoters.strand.tolist() == [1, -1, 1]
    assert store.pairs.label.tolist() == [-1, -1, -1]
    assert store.enhancers.names == ["chr20:1900-2100", "chrX:100-300"]


def test_the_window_ends_at_its_last_base(tmp_path: Path) -> None:
    write(tmp_path / "peaks.bed", "chr20\t1900\t2100\n")
    store = build(lab(tmp_path, format="candidates", file="peaks.bed", window=1999), tmp_path / "store")
    assert pairs(store) == [(1900, "A", 1000)]


@pytest.mark.parametrize("own", [True, False])
def test_an_elements_own_promoter_is_left_out_only_where_asked(tmp_path: Path, own: bool) -> None:
    write(tmp_path / "peaks.bed", "chr20\t1240\t1300\nchr20\t1250\t1310\n")
    source = {"format": "candidates", "file": "peaks.bed", "window": 2000, "own_promoters": own}
    found = pairs(build(lab(tmp_path, **source), tmp_path / "store"))
    assert found == [(1240, "A", 270)] * own + [(1250, "A", 280)]


def test_a_list_of_elements_with_a_header_is_read(tmp_path: Path) -> None:
    write(tmp_path / "EnhancerList.txt", "chr\tstart\tend\tclass\nchr20\t1900\t2100\tgenic\n")
    store = build(lab(tmp_path, format="candidates", file="EnhancerList.txt"), tmp_path / "store")
    assert len(store.pairs) == 2


def test_candidates_do_not_depend_on_how_elements_are_sliced() -> None:
    start = np.array([100, 2900, 900, 5000])
    elements = pd.DataFrame({"chrom": "chr20", "start": start, "end": start + 100, "row": [1, 2, 3, 4]})
    text = np.array(["", "", ""], dtype=object)
    tss = np.array([270, 1240, 4800])
    genes = Genes(np.array(["chr20"] * 3, dtype=object), tss, np.ones(3, np.int8), text, text, text)
    source = CandidateTable(format="candidates", file="peaks.bed", line="A", window=3000)
    whole = candidates(elements, genes, source)
    assert len(whole.element) > len(elements)
    for size in (1, 3):
        slices = list(in_slices(elements, size))
        parts = [candidates(part, genes, source) for part in slices]
        begins = np.arange(len(slices)) * size
        found = [part.element + begin for part, begin in zip(parts, begins, strict=True)]
        np.testing.assert_array_equal(np.concatenate(found), whole.element)
        for name in ("gene", "row"):
            np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))


def test_every_row_of_candidates_is_paired_or_has_a_fate(tmp_path: Path) -> None:
    rows = "chr20\t1900\t2100\nchr20\t1900\t2100\nchr20\t5\t1\nchr7\t1\t9\nchrX\t1\t9\nchr20\t10\n"
    write(tmp_path / "peaks.bed", rows)
    description = lab(tmp_path, format="candidates", file="peaks.bed") | {"regions": ["chr20", "chr7"]}
    store = build(description, tmp_path / "store")
    report = next(entry for entry in store.manifest.sources if entry["format"] == "candidates")
    told = {key: report[key] for key in ("rows", "paired", "without_genes", "outside_regions", "duplicates", "pairs")}
    assert told == {"rows": 6, "paired": 2, "without_genes": 1, "outside_regions": 1, "duplicates": 2, "pairs": 2}
    reasons = [(line, reason) for _, line, reason in quarantined(tmp_path / "store" / "quarantine")]
    assert reasons == [(3, "bad_coordinates"), (6, "wrong_field_count")]


def test_candidates_get_sequence_at_the_element_and_around_the_tss(tmp_path: Path) -> None:
    write(tmp_path / "chr20.fa", f">20\n{CHR20}\n")
    write(tmp_path / "peaks.bed", "chr20\t1900\t2100\nchr20\t5900\t6100\nchrX\t1\t9\n")
    windows = {"windows": {"enhancer": 100, "promoter": 200}, "genome": ["chr20.fa"]}
    store = build(lab(tmp_path, format="candidates", file="peaks.bed", window=1500) | windows, tmp_path / "store")
    assert unpack(store.promoters.packed(np.array([0]))[0]) == CHR20[900:1100]
    assert unpack(store.enhancers.packed(np.array([0]))[0]) == CHR20[1950:2050]
    assert (store.promoters.start.tolist(), store.promoters.end.tolist()) == ([900], [1100])
    reasons = [(line, reason) for _, line, reason in quarantined(tmp_path / "store" / "quarantine")]
    assert reasons == [(2, "outside_genome"), (3, "missing_chromosome")]


HICCUPS = (
    "#chr1\tx1\tx2\tchr2\ty1\ty2\tname\tscore\n# juicer_tools 1.22\n"
    "20\t500\t1500\t20\t3000\t3500\t.\t.\n20\t1500\t2500\t20\t3900\t4100\t.\t.\n20\t2000\t2100\t20\t5000\t5500\t.\t.\n"
)
MUSTACHE = "BIN1_CHR\tBIN1_START\tBIN1_END\tBIN2_CHROMOSOME\tBIN2_START\tBIN2_END\tFDR\n" + HICCUPS.split("1.22\n")[1]


@pytest.mark.parametrize("text", [HICCUPS, MUSTACHE], ids=["hiccups", "mustache"])
def test_a_loop_pairs_the_anchor_at_one_end_with_the_tss_at_the_other(tmp_path: Path, text: str) -> None:
    write(tmp_path / "loops.bedpe", text)
    store = build(lab(tmp_path, format="loops", file="loops.bedpe"), tmp_path / "store")
    assert sorted(pairs(store)) == [(1500, "B", 2000), (3000, "A", 2250)]
    report = next(entry for entry in store.manifest.sources if entry["format"] == "loops")
    assert (report["paired"], report["without_genes"]) == (2, 1)


def test_a_loop_between_promoters_is_two_pairs_and_a_point_is_no_element(tmp_path: Path) -> None:
    write(tmp_path / "loops.bedpe", "chr20\t900\t1100\tchr20\t3900\t4100\nchr20\t900\t1200\tchr20\t4000\t4000\n")
    store = build(lab(tmp_path, format="loops", file="loops.bedpe"), tmp_path / "store")
    assert sorted(pairs(store)) == [(900, "B", 2950), (900, "B", 3000), (3900, "A", 3000)]


def test_with_elements_a_loop_pairs_those_that_overlap_its_anchor(tmp_path: Path) -> None:
    write(tmp_path / "loops.bedpe", HICCUPS)
    write(tmp_path / "elements.bed", "chr20\t1600\t1700\nchr20\t2490\t2600\nchr20\t3550\t3600\n")
    source = {"format": "loops", "file": "loops.bedpe", "elements": "elements.bed"}
    assert sorted(pairs(build(lab(tmp_path, **source), tmp_path / "a"))) == [(1600, "B", 2350), (2490, "B", 1455)]
    wide = pairs(build(lab(tmp_path, **source, flank=100), tmp_path / "b"))
    assert sorted(set(wide)) == [(1600, "B", 2350), (2490, "B", 1455), (3550, "A", 2575)]


def test_a_window_without_candidates_is_one_sentence(tmp_path: Path) -> None:
    write(tmp_path / "peaks.bed", "chr20\t1900\t2100\n")
    sentence = mistake(lab(tmp_path, format="candidates", file="peaks.bed", window=900), tmp_path / "store")
    assert "peaks.bed gives no pair: no element has a gene within 900 bp of" in sentence
    assert "give a larger `window`" in sentence


def test_elements_of_another_chromosome_naming_are_one_sentence(tmp_path: Path) -> None:
    write(tmp_path / "peaks.bed", "NC_000020.10\t1900\t2100\n")
    description = lab(tmp_path, format="candidates", file="peaks.bed")
    sentence = mistake(description, tmp_path / "store")
    assert "it has NC_000020.10, the genes are on chr20, chrX; add chrom_aliases" in sentence
    aliased = build(description | {"chrom_aliases": {"NC_000020.10": "chr20"}}, tmp_path / "aliased")
    assert len(aliased.pairs) == 2


def test_loops_that_reach_no_tss_are_one_sentence(tmp_path: Path) -> None:
    write(tmp_path / "loops.bedpe", "chr20\t2000\t2100\tchr20\t5000\t5500\n")
    assert "no loop joins an element" in mistake(lab(tmp_path, format="loops", file="loops.bedpe"), tmp_path / "store")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"genes": None}, "give `genes`, an annotation, to pair candidates with genes"),
        ({"pairs": [{"format": "candidates", "file": "p"}]}, "line"),
        ({"pairs": [{"format": "candidates", "file": "p", "line": "K562", "labels": True}]}, "labels"),
    ],
)
def test_incomplete_descriptions_are_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        validate(StoreSettings, lab(tmp_path, format="candidates", file="p") | change, "test")


@pytest.mark.real_data
def test_the_peaks_of_a_chromosome_become_candidates_with_every_gene_in_reach(tmp_path: Path) -> None:
    source = {"format": "candidates", "file": "peaks/K562.H3K27AC.bed.gz", "line": "K562", "window": 100_000}
    description: dict[str, Any] = {
        "lines": ["K562"],
        "windows": {"enhancer": 0, "promoter": 0},
        "genes": {"file": "genes/CollapsedGeneBounds.hg19.TSS500bp.bed.gz"},
        "regions": ["chr20:1-5000000"],
        "build": "hg19",
        "pairs": [source],
    }
    ingest(validate(StoreSettings, description, "test"), tmp_path / "store", root=PUBLIC)
    store = Store.open(tmp_path / "store", verify="full")
    assert store.manifest.build == "hg19"
    assert "" not in store.promoters.genes
    names = ["chrom", "start", "end"]
    peaks = pd.read_csv(PUBLIC / source["file"], sep="\t", header=None, usecols=[0, 1, 2], names=names)
    genes = pd.read_csv(PUBLIC / description["genes"]["file"], sep="\t")
    inside = peaks[(peaks["chrom"] == "chr20") & (peaks["end"] <= 5_000_000)].drop_duplicates()
    tss = (genes["start"] + 250)[(genes["#chr"] == "chr20") & (genes["start"] < 4_999_749)].to_numpy()
    distance = np.abs(((inside["start"] + inside["end"]) // 2).to_numpy()[:, None] - tss)
    wanted = distance[distance <= source["window"]]
    assert sorted(store.pairs.distance.tolist()) == sorted(wanted.tolist())
