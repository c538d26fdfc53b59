"""Tables of ABC, ENCODE-rE2G and scE2G, and genes on their way from a table to the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_sources import bengi, build, quarantined, write
from tiny_sources import lab as bengi_lab

from data_pipeline.errors import UserError
from data_pipeline.settings import validate
from data_pipeline.sources.ingestion import ingest
from data_pipeline.sources.settings import StoreSettings
from data_pipeline.store.store import Store

PUBLIC = Path(__file__).parents[3] / "../shared/data"
ABC = (
    "chr\tstart\tend\tname\tclass\tTargetGene\tTargetGeneTSS\tTargetGeneEnsembl_ID\tisSelfPromoter\tABC.Score\tCellType\n"
    "chr22\t5000\t5400\tgenic|chr22:5000-5400\tgenic\tA\t1000\tENSG00000000001\tFalse\t0.03\tK562_chr22\n"
    "chr22\t5000\t5400\tgenic|chr22:5000-5400\tgenic\tB\t1000\tNA\tFalse\t0.02\tK562_chr22\n"
)
GENES = (
    "#chr\tstart\tend\tname\tscore\tstrand\tEnsembl_ID\tgene_type\n"
    "chr22\t750\t1250\tA\t0\t+\tENSG00000000001\tx\nchr22\t750\t1250\tB\t0\t-\tENSG00000000002\tx\n"
)
TABLES = {
    "ABC.K562_chr22.EnhancerPredictionsFull_threshold0.027_self_promoter.tsv.gz": ("abc", 1353),
    "ABC.K562_chr22_ATAC.EnhancerPredictionsFull_threshold0.013.tsv.gz": ("abc", 3793),
    "CRISPR_comparison.ABC_K562_Fulco2019Genes_GRCh38.tsv.gz": ("abc", 55_039),
    "ENCODE-rE2G.K562_chr22.encode_e2g_predictions_threshold0.243.tsv.gz": ("encode_re2g", 7218),
    "scE2G.chr22p.predictions_threshold0.177.tsv.gz": ("sce2g", 48),
}


def description(root: Path, **source: Any) -> dict[str, Any]:
    return {
        "root": str(root),
        "lines": ["K562"],
        "line_aliases": {"K562_chr22": "K562"},
        "windows": {"enhancer": 0, "promoter": 0},
        "pairs": [{"max_bad_fraction": 1.0} | source],
    }


@pytest.mark.parametrize("kind", ["abc", "encode_re2g", "sce2g"])
def test_a_scored_table_becomes_unlabelled_pairs_with_their_genes(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "predictions.tsv.gz", ABC)
    store = build(description(tmp_path, format=kind, file="predictions.tsv.gz"), tmp_path / "store")
    assert (store.promoters.genes, store.promoters.gene_ids) == (["A", "B"], ["ENSG00000000001", ""])
    assert (store.promoters.start.tolist(), store.pairs.distance.tolist()) == ([1000, 1000], [4200, 4200])
    assert store.enhancers.names == ["genic|chr22:5000-5400"]
    assert store.pairs.label.tolist() == [-1, -1]


def test_the_annotation_completes_identifier_and_strand(tmp_path: Path) -> None:
    write(tmp_path / "predictions.tsv", ABC)
    write(tmp_path / "genes.bed", GENES)
    told = description(tmp_path, format="abc", file="predictions.tsv") | {"genes": {"file": "genes.bed"}}
    store = build(told, tmp_path / "store")
    assert store.promoters.gene_ids == ["ENSG00000000001", "ENSG00000000002"]
    assert store.promoters.strand.tolist() == [1, -1]


def test_a_table_of_another_kind_names_the_column_it_lacks(tmp_path: Path) -> None:
    write(tmp_path / "predictions.tsv", "chr\tstart\tend\tname\nchr22\t1\t2\tx\n")
    with pytest.raises(UserError, match=r"is no abc table: it has no column TargetGene; its columns are chr, start"):
        build(description(tmp_path, format="abc", file="predictions.tsv"), tmp_path / "store")


def test_a_table_without_cell_types_needs_a_line(tmp_path: Path) -> None:
    write(tmp_path / "predictions.tsv", "chr\tstart\tend\tTargetGene\tTargetGeneTSS\nchr22\t1\t9\tA\t1000\n")
    with pytest.raises(UserError, match="has no column CellType; give the `line`"):
        build(description(tmp_path, format="abc", file="predictions.tsv"), tmp_path / "store")
    store = build(description(tmp_path, format="abc", file="predictions.tsv", line="K562"), tmp_path / "store")
    assert store.promoters.genes == ["A"]


def by_gene(root: Path, rows: str) -> dict[str, Any]:
    """A CSV that names genes and says nothing of where they are."""
    write(root / "genes.bed", GENES)
    write(root / "pairs.csv", f"chrom,from,to,symbol,ensembl\n{rows}")
    columns = {
        **{"enhancer_chrom": "chrom", "enhancer_start": "from", "enhancer_end": "to"},
        **{"gene": "symbol", "gene_id": "ensembl"},
    }
    source = {"format": "csv", "file": "pairs.csv", "line": "K562", "labels": False, "columns": columns}
    return description(root, **source) | {"genes": {"file": "genes.bed"}}


def test_genes_without_coordinates_are_placed_by_the_annotation(tmp_path: Path) -> None:
    store = build(by_gene(tmp_path, "22,5000,5400,,ENSG00000000002.4\n22,5000,5400,A,\n"), tmp_path / "store")
    assert sorted(zip(store.promoters.genes, store.promoters.gene_ids, strict=True)) == [
        ("A", "ENSG00000000001"),
        ("B", "ENSG00000000002"),
    ]
    assert store.pairs.distance.tolist() == [4200, 4200]


def test_an_unknown_gene_is_quarantined_by_name(tmp_path: Path) -> None:
    build(by_gene(tmp_path, "22,5000,5400,A,\n22,5000,5400,NOSUCH,\n"), tmp_path / "store")
    assert quarantined(tmp_path / "store" / "quarantine") == [("pairs.csv", 3, "unknown_gene")]


def test_a_table_of_unknown_genes_is_one_sentence(tmp_path: Path) -> None:
    told = by_gene(tmp_path, "22,5000,5400,NOSUCH,\n")
    told["pairs"][0]["max_bad_fraction"] = 0.02
    with pytest.raises(UserError, match=r"unknown_gene.*pairs\.csv:2.*'NOSUCH', the annotation begins with A, B"):
        build(told, tmp_path / "store")


def test_a_table_of_another_build_than_the_annotation_is_one_sentence(tmp_path: Path) -> None:
    header = "#chr\tstart\tend\tname\tscore\tstrand\n"
    write(tmp_path / "genes.bed", header + "".join(f"chr22\t{k}0000\t{k}0500\tG{k}\t0\t+\n" for k in range(1, 8)))
    columns = "chr\tstart\tend\tTargetGene\tTargetGeneTSS\n"
    for shift, out in ((400_000, "other"), (100, "same")):
        rows = "".join(f"chr22\t5000\t5400\tG{k}\t{k * 10_000 + 250 + shift}\n" for k in range(1, 8))
        write(tmp_path / f"{out}.tsv", columns + rows)
        told = description(tmp_path, format="abc", file=f"{out}.tsv", line="K562") | {"genes": {"file": "genes.bed"}}
        if out == "same":
            assert len(build(told, tmp_path / out).pairs) == 7
        else:
            with pytest.raises(UserError, match=r"only 0 of 7 genes within 1000 bp .* of different genome builds"):
                build(told, tmp_path / out)


def test_a_store_of_sources_without_genes_has_no_columns_for_them(tmp_path: Path) -> None:
    store = build(bengi_lab(tmp_path, [bengi(1, ("chr20", 3000, 3400), 2000)]), tmp_path / "store")
    assert store.promoters.genes == [""]
    assert not store.promoters._columns.has("gene")
    assert "build" not in (tmp_path / "store/manifest.json").read_text()


def test_the_build_is_recorded_as_told(tmp_path: Path) -> None:
    write(tmp_path / "predictions.tsv", ABC)
    told = description(tmp_path, format="abc", file="predictions.tsv")
    assert build(told | {"build": "GRCh38"}, tmp_path / "store").manifest.build == "GRCh38"


@pytest.mark.real_data
@pytest.mark.parametrize("table", TABLES)
def test_public_tables_go_in_whole_and_agree_with_the_annotation(tmp_path: Path, table: str) -> None:
    kind, rows = TABLES[table]
    told = {
        "lines": ["K562"],
        "windows": {"enhancer": 0, "promoter": 0},
        "build": "hg38",
        "genes": {"file": "genes/CollapsedGeneBounds.hg38.TSS500bp.bed.gz"},
        "pairs": [{"format": kind, "file": f"formats/{table}", "line": "K562"}],
    }
    manifest = ingest(validate(StoreSettings, told, "test"), tmp_path / "store", root=PUBLIC)
    report = next(entry for entry in manifest.sources if entry["format"] == kind)
    assert (report["rows"], report["quarantined"], report["pairs"] + report["duplicates"]) == (rows, {}, rows)
    assert "" not in Store.open(tmp_path / "store").promoters.genes


@pytest.mark.real_data
def test_the_public_bedpe_goes_in_as_loops(tmp_path: Path) -> None:
    name = "ABC.K562_chr22.EnhancerPredictionsFull_threshold0.027_self_promoter.bedpe.gz"
    told = {
        "lines": ["K562"],
        "windows": {"enhancer": 0, "promoter": 0},
        "genes": {"file": "genes/CollapsedGeneBounds.hg38.TSS500bp.bed.gz"},
        "pairs": [{"format": "loops", "file": f"formats/{name}", "line": "K562"}],
    }
    manifest = ingest(validate(StoreSettings, told, "test"), tmp_path / "store", root=PUBLIC)
    report = next(entry for entry in manifest.sources if entry["format"] == "loops")
    assert report["rows"] == 1353
    assert report["paired"] > 1100
