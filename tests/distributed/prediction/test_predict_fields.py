"""Tables of the field and peak files as pairs to score, and genome builds that must agree."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tiny_models import evaluated, tiny_run
from tiny_sources import CHR20, CHRX, write
from tiny_training import tiny_store
from unlabelled_tables import command, genome, pair_rows

from data_pipeline.store.store import Store
from distributed.prediction.deployment import open_export, open_run, write_export

PUBLIC = Path(__file__).parents[3] / "../shared/data"
CHR22 = 50_818_468
"""Bases of chr22 in hg38."""
GENES = "#chr\tstart\tend\tname\tscore\tstrand\tEnsembl_ID\tgene_type\n" + "".join(
    f"chr20\t{tss - 250}\t{tss + 250}\tG{tss}\t0\t+\tENSG0000000{tss}\tprotein_coding\n"
    for tss in range(500, 5700, 400)
)
SIZES = {"chr20": len(CHR20), "chrX": len(CHRX)}
PEAKS = "".join(f"chr20\t{start}\t{start + 100}\tp\t0\t.\t1\t-1\t-1\t50\n" for start in range(200, 5600, 300))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the exported models plain/ and hg19/, which says its build."""
    place = tmp_path_factory.mktemp("fields")
    store = tiny_store(place / "store")
    write_export(open_run(evaluated(tiny_run(place / "runs", store))), place / "plain")
    told = Store(store.path, store.manifest.model_copy(update={"build": "hg19"}))
    write_export(open_run(tiny_run(place / "runs", told, name="told")), place / "hg19")
    return place


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    write(tmp_path / "chr20.fa", f">20\n{CHR20}\n")
    write(tmp_path / "chrX.fa", f">X\n{CHRX}\n")
    write(tmp_path / "genes.bed", GENES)
    return tmp_path


def test_a_peak_file_and_genes_are_scored_as_candidates_without_a_table_of_pairs(models: Path, lab: Path) -> None:
    peaks, out = write(lab / "peaks.narrowPeak", PEAKS), lab / "scores.tsv"
    options = ("--pairs-format", "candidates", "--genes", lab / "genes.bed", *genome(lab), "--line", "A549")
    _, error = command(models / "plain", "--pairs", peaks, *options, "--out", out)
    assert error == ""
    table = pd.read_csv(out, sep="\t")
    assert len(table) == 18 * 13
    assert table["promoter"].nunique() == 13
    assert (table["enhancer_chrom"] == "chr20").all()


def scored(rows: list[tuple[str, int, int, str, int, int]]) -> str:
    header = "chr\tstart\tend\tname\tTargetGene\tTargetGeneTSS\tTargetGeneEnsembl_ID\tCellType\n"
    return header + "".join(f"{c}\t{a}\t{b}\tgenic|{c}:{a}-{b}\tG{d}\t{d}\tENSG1\tK562\n" for c, a, b, _, d, _ in rows)


@pytest.mark.parametrize("kind", ["abc", "encode_re2g", "sce2g"])
def test_every_row_of_a_scored_table_is_answered_in_its_order(models: Path, lab: Path, kind: str) -> None:
    rows, out = pair_rows(), lab / "scores.tsv"
    table = write(lab / "predictions.tsv.gz", scored(rows))
    _, error = command(
        models / "plain", "--pairs", table, "--pairs-format", kind, *genome(lab), "--line", "A549", "--out", out
    )
    assert error == ""
    answered = pd.read_csv(out, sep="\t")
    assert answered["enhancer_start"].tolist() == [row[1] for row in rows]
    assert answered["promoter"].tolist() == [f"G{row[4]}" for row in rows]


def build_options(lab: Path) -> tuple[object, ...]:
    table = write(lab / "predictions.tsv", scored(pair_rows()))
    return ("--pairs", table, "--pairs-format", "abc", *genome(lab), "--line", "A549", "--out", lab / "scores.tsv")


def test_a_model_remembers_the_build_it_was_trained_on(models: Path) -> None:
    assert open_export(models / "hg19").description.build == "hg19"
    assert open_export(models / "plain").description.build == ""


def test_pairs_of_another_build_than_the_models_are_one_sentence(models: Path, lab: Path) -> None:
    _, error = command(models / "hg19", *build_options(lab), "--build", "GRCh38")
    assert "is of genome build GRCh38, the model was trained on hg19; lift the pairs to hg19" in error
    assert not (lab / "scores.tsv").exists()


def test_another_name_of_the_same_build_agrees(models: Path, lab: Path) -> None:
    output, error = command(models / "hg19", *build_options(lab), "--build", "GRCh37")
    assert (error, "genome build" in output) == ("", False)


def test_a_build_that_is_not_told_is_noted_and_allowed(models: Path, lab: Path) -> None:
    output, error = command(models / "hg19", *build_options(lab))
    assert error == ""
    assert "note: the genome build of the pairs is not told" in output


def test_pairs_are_lifted_to_the_models_build_by_a_chain_file(models: Path, lab: Path) -> None:
    chains = [f"chain 1 {name} 9000 + 0 {size} {name} {size} + 0 {size} 1\n{size}\n\n" for name, size in SIZES.items()]
    write(lab / "to19.chain", "".join(chains))
    options = build_options(lab)
    assert "say which with --build" in command(models / "hg19", *options, "--chain", lab / "to19.chain")[1]
    assert command(models / "hg19", *options, "--chain", lab / "to19.chain", "--build", "hg19")[1] == ""


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("file", "kind", "rows"),
    [
        ("ABC.K562_chr22.EnhancerPredictionsFull_threshold0.027_self_promoter.tsv.gz", "abc", 1353),
        ("ABC.K562_chr22_ATAC.EnhancerPredictionsFull_threshold0.013.tsv.gz", "abc", 3793),
        ("ENCODE-rE2G.K562_chr22.encode_e2g_predictions_threshold0.243.tsv.gz", "encode_re2g", 7218),
        ("scE2G.chr22p.predictions_threshold0.177.tsv.gz", "sce2g", 48),
        ("ABC.K562_chr22.EnhancerPredictionsFull_threshold0.027_self_promoter.bedpe.gz", "loops", 1100),
    ],
)
def test_public_predictions_of_others_are_scored(models: Path, tmp_path: Path, file: str, kind: str, rows: int) -> None:
    # The sequence of hg38 is not among the public files here; that it is some sequence is all this needs.
    write(tmp_path / "chr22.fa", ">chr22\n" + (CHR20[:4000] + "\n") * (CHR22 // 4000 + 1))
    out = tmp_path / "scores.parquet"
    genes = PUBLIC / "genes/CollapsedGeneBounds.hg38.TSS500bp.bed.gz"
    options = (
        "--pairs-format",
        kind,
        "--genes",
        genes,
        "--genome",
        tmp_path / "chr22.fa",
        "--line",
        "K562",
        "--draws",
        1,
    )
    _, error = command(models / "plain", "--pairs", PUBLIC / "formats" / file, *options, "--out", out)
    assert error == ""
    answered = len(pd.read_parquet(out))
    assert answered == rows if kind != "loops" else answered > rows
