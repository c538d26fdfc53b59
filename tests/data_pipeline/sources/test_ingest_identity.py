"""Which rows speak of one promoter: the TSS and the gene tell promoters of one interval apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_sources import CHR20, bengi, build, lab, write

from data_pipeline.dna import unpack
from data_pipeline.errors import UserError
from data_pipeline.settings import validate
from data_pipeline.sources.ingestion import ingest
from data_pipeline.sources.settings import StoreSettings
from data_pipeline.store.store import Store

COLUMNS = "enhancer_chrom,enhancer_start,enhancer_end,promoter_chrom,promoter_start,promoter_end,label"
PAIR = "chr20,3000,3400,chr20,1000,2000"


def table(root: Path, header: str, rows: list[str], **columns: str | int | None) -> dict[str, Any]:
    write(root / "pairs.csv", "\n".join([header, *rows]) + "\n")
    source = {"format": "csv", "file": "pairs.csv", "line": "K562", "columns": columns, "max_bad_fraction": 1.0}
    return lab(root) | {"pairs": [source]}


def test_genes_with_their_own_tss_in_one_bin_are_promoters_of_their_own(tmp_path: Path) -> None:
    rows = [f"{PAIR},1,A,1100", f"{PAIR},0,B,1500", f"{PAIR},0,C,1900"]
    store = build(table(tmp_path, f"{COLUMNS},gene,tss", rows, promoter_name="gene", tss="tss"), tmp_path / "store")
    assert store.pairs.label.tolist() == [1, 0, 0]
    assert store.pairs.distance.tolist() == [2100, 1700, 1300]
    windows = [unpack(store.promoters.packed(np.array([row]))[0]) for row in store.pairs.promoter]
    assert windows == [CHR20[tss - 150 : tss + 150] for tss in (1100, 1500, 1900)]


def test_a_tss_alone_or_a_gene_alone_tells_promoters_apart(tmp_path: Path) -> None:
    rows = [f"{PAIR},1,A,1100", f"{PAIR},0,B,1500"]
    header = f"{COLUMNS},gene,tss"
    assert len(build(table(tmp_path, header, rows, tss="tss"), tmp_path / "tss").pairs) == 2
    assert len(build(table(tmp_path, header, rows, promoter_name="gene"), tmp_path / "gene").pairs) == 2
    with pytest.raises(UserError, match="no pair is left"):  # nothing tells them apart, and their labels conflict
        build(table(tmp_path, header, rows), tmp_path / "neither")


def test_the_same_promoter_written_twice_is_one(tmp_path: Path) -> None:
    rows = [f"{PAIR},1,K562|A,1500", f"{PAIR},1,A,", "20,3000.0,3400,20,1000,2000.0,1,A,1500.0"]
    store = build(table(tmp_path, f"{COLUMNS},gene,tss", rows, promoter_name="gene", tss="tss"), tmp_path / "store")
    assert (len(store.pairs), store.manifest.sources[0]["duplicates"]) == (1, 2)


def test_transcripts_of_bengi_that_share_a_tss_are_one_promoter(tmp_path: Path) -> None:
    rows = [bengi(1, ("chr20", 3000, 3400), 2000, n=n) for n in (1, 2)]
    assert len(build(lab(tmp_path, rows), tmp_path / "store").promoters) == 1


def test_two_sequences_given_for_one_place_are_two_elements(tmp_path: Path) -> None:
    write(tmp_path / "e.csv", "region,sequence\nchr5:10-90|a,ACGT\nchr5:10-90|b,GGGG\n")
    write(tmp_path / "p.csv", "region,sequence\np,ACGT\n")
    write(tmp_path / "pairs.csv", "enhancer_name,promoter_name,label\nchr5:10-90|a,p,1\nchr5:10-90|b,p,0\n")
    source = {"format": "sequences", "file": "pairs.csv", "line": "K562"}
    source |= {"enhancer_sequences": "e.csv", "promoter_sequences": "p.csv"}
    store = build(lab(tmp_path) | {"pairs": [source]}, tmp_path / "store")
    assert store.pairs.label.tolist() == [1, 0]
    assert {unpack(row).strip("N") for row in store.enhancers.packed(np.arange(2))} == {"ACGT", "GGGG"}


GENES = "chr,start,end,TargetGene,TargetGeneTSS,label"
BY_TSS = {"enhancer_chrom": "chr", "enhancer_start": "start", "enhancer_end": "end", "promoter_chrom": "chr"}


@pytest.mark.parametrize(
    "span",
    [{}, {"promoter_start": None, "promoter_end": None}, {"promoter_start": "TargetGeneTSS", "promoter_end": 5}],
    ids=["by default", "said so", "the TSS twice"],
)
def test_a_table_with_a_tss_and_no_promoter_interval_is_read(tmp_path: Path, span: dict[str, Any]) -> None:
    rows = ["chr20,3000,3400,A,2000,1", "chr20,3000,3400,B,5990,0", "chr20,3000,3400,C,30,0", "chr20,3000,3400,D,,0"]
    columns = BY_TSS | {"promoter_name": "TargetGene", "tss": "TargetGeneTSS"} | span
    store = build(table(tmp_path, GENES, rows, **columns), tmp_path / "store")
    places = sorted(zip(store.promoters.start.tolist(), store.promoters.end.tolist(), strict=True))
    assert places == [(0, 180), (1850, 2150), (5840, 6000)]  # the window, cut at the edges of the chromosome
    assert store.pairs.distance.tolist() == [1200, 2790, 3170]
    assert sum(store.manifest.sources[0]["quarantined"].values()) == 1


def test_a_bedpe_whose_promoter_is_a_point_takes_it_for_the_tss(tmp_path: Path) -> None:
    write(tmp_path / "abc.bedpe", "chr20\t3000\t3400\tchr20\t2000\t2000\tMYC\t0.07\t.\t.\n")
    source = {"format": "bedpe", "file": "abc.bedpe", "line": "K562", "labels": False}
    store = build(lab(tmp_path) | {"pairs": [source]}, tmp_path / "store")
    assert (store.promoters.start[0], store.promoters.end[0], store.pairs.distance[0]) == (1850, 2150, 1200)


def test_a_table_without_promoter_interval_and_tss_asks_for_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pairs\.csv: give `columns\.tss` where the table has no promoter interval"):
        build(table(tmp_path, GENES, [], promoter_start=None, promoter_end=None), tmp_path / "store")


def test_every_row_is_remembered_with_its_own_names_where_rows_are_answered(tmp_path: Path) -> None:
    rows = [f"{PAIR},1,A", "chr20,3600,3700,chr20,1000,2000,0,A", f"{PAIR},1,K562|A", f"{PAIR},1,A"]
    settings = validate(StoreSettings, table(tmp_path, f"{COLUMNS},gene", rows, promoter_name="gene"), "test")
    ingest(settings, tmp_path / "store", answer_rows=True)
    kept = Store.open(tmp_path / "store").input_rows()
    assert kept is not None
    assert kept[0].tolist() == [0, 1, 0, 0]
    assert kept[1][0] == "chr20:3000-3400"
    assert kept[2] == ["A", "A", "K562|A", "A"]
