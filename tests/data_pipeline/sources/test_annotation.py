"""Genes from BED with and without a header, GTF and GFF3: where they start, what they are called, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny_sources import write

from data_pipeline.errors import UserError
from data_pipeline.settings import validate
from data_pipeline.sources.annotation import Genes, read_genes
from data_pipeline.sources.gene_settings import GeneSettings
from data_pipeline.sources.genome import ChromNames
from data_pipeline.sources.quarantine import Quarantine

HEADER = "#chr\tstart\tend\tname\tscore\tstrand\tEnsembl_ID\tgene_type\n"
PUBLIC = Path(__file__).parents[3] / "../shared/data"


def read(path: Path, quarantine: Quarantine | None = None, **settings: Any) -> Genes:
    given = validate(GeneSettings, {"file": path.name} | settings, "test")
    return read_genes(path, path.name, given, ChromNames({}), quarantine or Quarantine())


def test_windows_of_one_length_are_centred_on_the_tss_and_genes_are_sorted(tmp_path: Path) -> None:
    rows = "chr2\t100\t600\tB\t0\t-\tENSG00000000002.7\tlincRNA\n"
    rows += "1\t9750\t10250\tA\t0\t+\tENSG00000000001\tprotein_coding\n"
    genes = read(write(tmp_path / "genes.bed.gz", HEADER + rows))
    assert genes.tss.dtype == np.int64
    assert list(zip(genes.chrom, genes.tss, genes.strand, genes.symbol, genes.gene_id, genes.kind, strict=True)) == [
        ("chr1", 10_000, 1, "A", "ENSG00000000001", "protein_coding"),
        ("chr2", 350, -1, "B", "ENSG00000000002", "lincRNA"),
    ]


def test_the_tss_of_a_gene_body_is_its_first_transcribed_base(tmp_path: Path) -> None:
    genes = read(write(tmp_path / "genes.bed", "chr1\t100\t900\tA\t0\t+\nchr1\t2000\t2700\tB\t0\t-\n"))
    assert genes.tss.tolist() == [100, 2699]


def test_a_gene_body_without_strand_is_quarantined_among_others_that_have_one(tmp_path: Path) -> None:
    quarantine = Quarantine()
    rows = "chr1\t100\t900\tA\t0\t+\nchr1\t2000\t2700\tB\t0\t.\n"
    assert read(write(tmp_path / "genes.bed", rows), quarantine, max_bad_fraction=1).symbol.tolist() == ["A"]
    assert quarantine.counts() == {"missing_field": 1}


def test_a_tss_column_goes_before_the_interval(tmp_path: Path) -> None:
    header = "chr\tstart\tend\tname\tscore\tstrand\tEnsembl_ID\tgene_type\tsymbol\ttss\n"
    row = "chr22\t590\t810\tx\t0\t-\tENSG00000000009\tprotein_coding\tCCT8L2\t810\n"
    genes = read(write(tmp_path / "GeneList.txt", header + row))
    assert (genes.tss.tolist(), genes.symbol.tolist()) == ([810], ["CCT8L2"])


def test_single_bases_of_identifiers_in_bed6_are_their_tss(tmp_path: Path) -> None:
    genes = read(write(tmp_path / "tss.bed", "# TSS\n20\t500\t501\tENSG00000000003.1\t0\t-\n"))
    assert (genes.tss.tolist(), genes.symbol.tolist(), genes.gene_id.tolist()) == ([500], [""], ["ENSG00000000003"])


def test_gtf_and_gff3_give_the_same_genes_and_other_features_are_passed_over(tmp_path: Path) -> None:
    place = "chr1\tHAVANA\t{}\t101\t900\t.\t-\t.\t"
    gtf = "##provider: GENCODE\n" + "".join(
        place.format(feature) + 'gene_id "ENSG00000000001.5"; gene_type "protein_coding"; gene_name "A";\n'
        for feature in ("gene", "transcript")
    )
    gff = place.format("gene") + "ID=gene:ENSG00000000001;Name=A;biotype=protein_coding;gene_id=ENSG00000000001\n"
    quarantine = Quarantine()
    for name, text in (("a.gtf.gz", gtf), ("a.gff3", gff)):
        genes = read(write(tmp_path / name, text), quarantine)
        assert genes.tss.tolist() == [899]
        assert [genes.symbol[0], genes.gene_id[0], genes.kind[0]] == ["A", "ENSG00000000001", "protein_coding"]
    assert quarantine.counts() == {}


def test_columns_may_be_named_where_no_header_tells_them(tmp_path: Path) -> None:
    columns = {"chrom": 2, "start": 3, "end": 4, "symbol": 1, "strand": 5}
    genes = read(write(tmp_path / "genes.txt", "A\tchr1\t10\t20\t+\nB\tchr1\t30\t90\t-\n"), columns=columns)
    assert (genes.symbol.tolist(), genes.tss.tolist()) == (["A", "B"], [10, 89])


def test_genes_are_found_by_identifier_and_else_by_symbol(tmp_path: Path) -> None:
    rows = "chr1\t100\t600\tA\t0\t+\tENSG00000000001\tx\nchr1\t900\t1400\tB\t0\t+\tENSG00000000002\tx\n"
    genes = read(write(tmp_path / "genes.bed", HEADER + rows))
    asked = pd.DataFrame({"id": ["ENSG00000000002", "", "ENSG00000000007", ""], "symbol": ["A", "A", "B", "C"]})
    assert genes.lookup(asked["id"], asked["symbol"]).tolist() == [1, 0, 1, -1]
    assert (genes.on("chr1"), genes.on("chr9"), genes.chroms) == (slice(0, 2), slice(0, 0), ["chr1"])


def test_bad_genes_are_quarantined_with_their_line(tmp_path: Path) -> None:
    rows = "chr1\t100\t600\tA\t0\t+\tENSG00000000001\tx\nchr1\t600\t100\tB\t0\t+\tENSG2\tx\n"
    rows += "chr1\t100\t600\t\t0\t+\t\tx\nchr1\t1\n"
    quarantine = Quarantine()
    assert len(read(write(tmp_path / "genes.bed", HEADER + rows), quarantine, max_bad_fraction=1)) == 1
    assert quarantine.counts() == {"bad_coordinates": 1, "missing_field": 1, "wrong_field_count": 1}


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("genes.bed", "chr1\t100\t900\tA\nchr1\t2000\t2700\tB\n", "different lengths and no strand"),
        ("genes.bed", "#chr\tname\tstrand\tgene_type\nchr1\tA\t+\tx\n", "no column for start"),
        ("genes.bed", "chr1,100,900,A\n", "has 1 columns; genes in BED have at least 4"),
        ("genes.gtf", 'chr1\tx\texon\t101\t900\t.\t-\t.\tgene_id "A";\n', "has no gene among its 1 rows"),
        ("genes.bed", "chr1\tx\ty\tA\n", "bad_coordinates"),
    ],
)
def test_a_file_that_is_no_annotation_ends_in_a_sentence(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read(write(tmp_path / name, text))


@pytest.mark.real_data
@pytest.mark.parametrize(("build", "count"), [("hg19", 20_629), ("hg38", 20_666)])
def test_the_public_annotations_are_read_whole(build: str, count: int) -> None:
    quarantine = Quarantine()
    genes = read(PUBLIC / f"genes/CollapsedGeneBounds.{build}.TSS500bp.bed.gz", quarantine)
    assert (len(genes), quarantine.counts(), len(genes.chroms)) == (count, {}, 24)
    assert set(genes.strand.tolist()) == {1, -1}


@pytest.mark.real_data
def test_the_tss_of_the_public_annotation_is_the_one_abc_writes() -> None:
    table = pd.read_csv(PUBLIC / "formats/scE2G.chr22p.predictions_threshold0.177.tsv.gz", sep="\t")
    genes = read(PUBLIC / "genes/CollapsedGeneBounds.hg38.TSS500bp.bed.gz")
    found = genes.lookup(table["TargetGeneEnsembl_ID"], table["TargetGene"])
    assert (genes.tss[found] == table["TargetGeneTSS"]).all()
