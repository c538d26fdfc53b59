"""Lift-over by a chain file: what moves, what is quarantined, and chains that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_sources import build, quarantined, write

from data_pipeline.errors import UserError
from data_pipeline.settings import validate
from data_pipeline.sources.settings import StoreSettings

CHAIN = (
    "chain 1000 chr20 100000 + 1000 9000 chr20 200000 + 51000 59200 1\n4000 0 200\n4000\n\n"
    "chain 900 chr20 100000 + 20000 30000 chr20 200000 - 100000 110000 2\n10000\n\n"
)
"""1000-5000 moves by 50000, 5000-9000 by 50200, and 20000-30000 is turned round."""
HEADER = "enhancer_chrom,enhancer_start,enhancer_end,promoter_chrom,promoter_start,promoter_end,tss,strand\n"
GENES = "#chr\tstart\tend\tname\tscore\tstrand\nchr20\t53750\t54250\tA\t0\t+\n"


def lifted(root: Path, rows: str, **more: Any) -> dict[str, Any]:
    write(root / "hg19ToHg38.over.chain.gz", CHAIN)
    write(root / "pairs.csv", HEADER + rows)
    source = {
        **{"format": "csv", "file": "pairs.csv", "line": "K562", "labels": False, "max_bad_fraction": 1.0},
        "columns": {"tss": "tss", "strand": "strand"},
        "lift": {"chain": "hg19ToHg38.over.chain.gz", "to": "hg38"},
    }
    windows = {"windows": {"enhancer": 0, "promoter": 0}}
    return {"root": str(root), "lines": ["K562"], "pairs": [source | more], **windows}


def test_enhancer_promoter_and_tss_move_and_the_build_is_the_chains(tmp_path: Path) -> None:
    store = build(lifted(tmp_path, "20,1500,1700,20,6000,7000,6500,+\n"), tmp_path / "store")
    assert (store.enhancers.start[0], store.enhancers.end[0]) == (51_500, 51_700)
    assert (store.promoters.start[0], store.promoters.end[0]) == (56_200, 57_200)
    assert store.pairs.distance.tolist() == [5100]
    assert store.manifest.build == "hg38"


def test_a_piece_that_is_turned_round_changes_its_strand(tmp_path: Path) -> None:
    store = build(lifted(tmp_path, "chr20,20000,20100,chr20,,,29999,+\n"), tmp_path / "store")
    # The first base of the piece is the last of its counterpart, 200000 - 100000 - 1.
    assert (store.enhancers.start[0], store.enhancers.end[0]) == (99_900, 100_000)
    assert (store.promoters.start[0], store.promoters.strand[0]) == (90_000, -1)


def test_rows_without_counterpart_are_quarantined(tmp_path: Path) -> None:
    gap = "chr20,4900,5100,chr20,,,6500,+\n"  # its length doubles
    gone = "chr20,10000,10100,chr20,,,6500,+\n"
    apart = "chr20,1500,1700,chr20,8000,21000,8500,+\n"  # start and end land on different strands
    good = "chr20,1500,1700,chr20,,,6500,+\n" * 3
    build(lifted(tmp_path, good + gap + gone + apart), tmp_path / "store")
    rows = quarantined(tmp_path / "store" / "quarantine")
    assert [(line, reason) for _, line, reason in rows] == [(line, "not_lifted") for line in (5, 6, 7)]


def test_what_is_no_place_keeps_its_own_reason(tmp_path: Path) -> None:
    rows = "chr20,1500,1700,chr20,,,6500,+\n" * 3 + "chr20,x,1700,chr20,,,6500,+\nchr20,1500,1700,chr20,,,,+\n"
    build(lifted(tmp_path, rows), tmp_path / "store")
    found = quarantined(tmp_path / "store" / "quarantine")
    assert [reason for _, _, reason in found] == ["bad_coordinates", "missing_field"]


def test_candidates_and_loops_are_lifted_before_they_meet_genes(tmp_path: Path) -> None:
    write(tmp_path / "genes.bed", GENES)
    write(tmp_path / "hg19ToHg38.over.chain.gz", CHAIN)
    write(tmp_path / "peaks.bed", "chr20\t1500\t1700\nchr20\t2500\t2700\nchr20\t40000\t41000\n")
    write(tmp_path / "loops.bedpe", "chr20\t1500\t1700\tchr20\t3900\t4100\nchr20\t1500\t1700\tchr20\t40000\t41000\n")
    for kind, file in (("candidates", "peaks.bed"), ("loops", "loops.bedpe")):
        told = lifted(tmp_path, "")
        lift, line = told["pairs"][0]["lift"], {"line": "K562", "max_bad_fraction": 1.0}
        told |= {"genes": {"file": "genes.bed"}, "pairs": [{"format": kind, "file": file, "lift": lift} | line]}
        store = build(told, tmp_path / kind)
        assert store.pairs.distance.tolist() == ([2400, 1400] if kind == "candidates" else [2400])
        assert store.manifest.counts["quarantine/not_lifted"] == 1


@pytest.mark.parametrize(
    ("rows", "chain", "says"),
    [
        ("chr7,1500,1700,chr7,,,6500,+\n", CHAIN, r"has no chromosome of .*: it has chr20, the table has chr7"),
        ("chr20,50000,50100,chr20,,,60000,+\n" * 3, CHAIN, r"lifts only 0 of 3 rows of .* give the chain from"),
        ("chr20,1500,1700,chr20,,,6500,+\n", "chr20\t1\t2\n", "holds no chain"),
        ("chr20,1500,1700,chr20,,,6500,+\n", "chain 1 chr20 x\n", "is not a UCSC chain file"),
    ],
    ids=["other chromosomes", "other build", "no chain", "damaged"],
)
def test_a_chain_that_does_not_fit_is_one_sentence(tmp_path: Path, rows: str, chain: str, says: str) -> None:
    told = lifted(tmp_path, rows)
    write(tmp_path / "hg19ToHg38.over.chain.gz", chain)
    with pytest.raises(UserError, match=says):
        build(told, tmp_path / "store")


def test_a_chain_to_another_build_than_the_stores_is_refused(tmp_path: Path) -> None:
    told = lifted(tmp_path, "")
    assert validate(StoreSettings, told | {"build": "GRCh38"}, "test").genome_build == "GRCh38"
    with pytest.raises(UserError, match="is lifted to hg38 and the store is of hg19"):
        validate(StoreSettings, told | {"build": "hg19"}, "test")
