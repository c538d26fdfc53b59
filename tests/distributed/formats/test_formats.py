"""Every format, opened by a program made for it, and what is refused before a pair is scored."""

from __future__ import annotations

import re
from pathlib import Path

import bioframe
import numpy as np
import pandas as pd
import pybigtools
import pyranges
import pytest
from full_disks import no_file_larger_than
from scored_pairs import CALIBRATION, PAIRS, PROMOTERS, WITH_GENES, small_store, write_formats
from tiny_sources import build, lab

from data_pipeline.errors import UserError
from data_pipeline.store.store import Store
from distributed.formats.abc_table import SCORE
from distributed.formats.catalogue import Catalogue
from distributed.formats.igvf import STANDARD
from distributed.formats.interact import AUTO_SQL
from distributed.formats.names import OUTPUT_FORMATS, Outputs, require_threshold

REAL = Path(__file__).resolve().parents[4] / "shared/data/formats"
INTERACT = [
    *("chrom", "chromStart", "chromEnd", "name", "score", "value", "exp", "color"),
    *("sourceChrom", "sourceStart", "sourceEnd", "sourceName", "sourceStrand"),
    *("targetChrom", "targetStart", "targetEnd", "targetName", "targetStrand"),
]
"""Columns of UCSC's interact format."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return small_store(tmp_path_factory.mktemp("formats") / "store")


def one(store: Store, folder: Path, name: str, ending: str, **options: object) -> Path:
    """The file of format `name`."""
    file = folder / f"a549{ending}"
    write_formats(store, Outputs.of(file, [name]), **options)  # type: ignore[arg-type]
    return file


def genes_of(table: pd.DataFrame) -> list[str]:
    return table["TargetGene"].tolist()


def test_start_sites_are_found_again_where_the_interval_lies_unevenly_around_them(store: Store) -> None:
    assert Catalogue.of(store).tss.tolist() == [promoter[7] for promoter in PROMOTERS]


def test_start_sites_of_bengi_are_those_in_the_names_of_its_promoters(tmp_path: Path) -> None:
    store = build(lab(tmp_path), tmp_path / "store")
    named = [int(name.split(":")[1].split("-")[0]) for name in store.promoters.names]
    assert Catalogue.of(store).tss.tolist() == named
    assert (store.promoters.start + store.promoters.end).tolist() != [2 * tss for tss in named]


def test_enhancers_that_overlap_a_promoter_are_known(store: Store) -> None:
    assert Catalogue.of(store).is_promoter.tolist() == [False, False, False, True]


def test_the_whole_table_has_genes_and_start_sites(store: Store, tmp_path: Path) -> None:
    rows = range(len(PAIRS))
    tsv = pd.read_csv(one(store, tmp_path, "tsv", ".tsv.gz", rows=rows), sep="\t")
    parquet = pd.read_parquet(one(store, tmp_path, "parquet", ".parquet", rows=rows))
    pd.testing.assert_frame_equal(tsv, parquet, check_dtype=False, rtol=1e-6)
    assert parquet["tss"].tolist() == [PROMOTERS[pair[1]][7] for pair in PAIRS]
    assert parquet["gene_id"].fillna("").tolist() == [PROMOTERS[pair[1]][6] for pair in PAIRS]
    assert parquet["call"].tolist() == [int(pair[3] >= 0.5) for pair in PAIRS]


def test_abc_writes_all_pairs_and_those_above_the_threshold_in_its_name(store: Store, tmp_path: Path) -> None:
    file = one(store, tmp_path, "abc", ".tsv.gz", rows=range(len(PAIRS)))
    table, kept = pd.read_csv(file, sep="\t"), pd.read_csv(tmp_path / "a549_threshold0.5.tsv.gz", sep="\t")
    assert genes_of(table) == ["GATA1", "GATA1", "GATA1", "t4", "GATA1", "ENSG00000000002", "GATA1", "GATA1", "GATA1"]
    assert table[SCORE].to_numpy() == pytest.approx([pair[3] for pair in PAIRS], abs=1e-6)
    assert (table[f"{SCORE}.Lower"] < table[SCORE]).all()
    assert table["isSelfPromoter"].tolist() == [row == 4 for row in range(len(PAIRS))]
    assert table["class"].tolist() == ["promoter" if pair[0] == 3 else "distal" for pair in PAIRS]
    assert table["distance"].isna().tolist() == [row == 6 for row in range(len(PAIRS))]
    pd.testing.assert_frame_equal(kept, table[table[SCORE] >= 0.5].reset_index(drop=True))


def test_the_threshold_in_the_name_has_three_digits(store: Store, tmp_path: Path) -> None:
    one(store, tmp_path, "abc", ".tsv", threshold=0.024361)
    assert (tmp_path / "a549_threshold0.0244.tsv").is_file()


@pytest.mark.real_data
def test_abc_columns_mean_and_read_as_those_of_the_real_file(store: Store, tmp_path: Path) -> None:
    ours = pd.read_csv(one(store, tmp_path, "abc", ".tsv.gz"), sep="\t")
    theirs = pd.read_csv(next(REAL.glob("ABC.K562_chr22.EnhancerPredictionsFull_*.tsv.gz")), sep="\t")
    shared = [name for name in ours if not name.startswith("PRISM")]
    assert [name for name in theirs if name in shared] == shared
    kinds = {"chr": "O", "distance": "f"} | {name: str(theirs[name].dtype.kind) for name in shared}
    assert {name: str(ours[name].dtype.kind) for name in shared} == kinds


def test_bedpe_is_read_by_bioframe(store: Store, tmp_path: Path) -> None:
    table = bioframe.read_table(str(one(store, tmp_path, "bedpe", ".bedpe.gz")), schema="bedpe")
    called = [pair for row, pair in enumerate(PAIRS) if pair[3] >= 0.5 and row in WITH_GENES]
    assert table["score"].to_numpy() == pytest.approx([pair[3] for pair in called], abs=1e-6)
    assert table["start2"].tolist() == [PROMOTERS[pair[1]][7] for pair in called]
    assert (table["end2"] - table["start2"]).tolist() == [1] * len(called)
    assert table["name"].tolist()[:2] == ["GATA1_E0", "GATA1_E0"]
    assert table["chrom2"].tolist()[-1] == "chr2"
    assert table["chrom1"].tolist()[-1] == "chr10"


@pytest.mark.real_data
def test_bedpe_has_the_columns_of_the_real_file(store: Store, tmp_path: Path) -> None:
    ours = bioframe.read_table(str(one(store, tmp_path, "bedpe", ".bedpe")), schema="bedpe")
    theirs = bioframe.read_table(str(next(REAL.glob("*.bedpe.gz"))), schema="bedpe")
    assert ours.dtypes.to_dict() == theirs.dtypes.to_dict()


def test_interact_is_sorted_and_becomes_a_big_file(store: Store, tmp_path: Path) -> None:
    file = one(store, tmp_path, "interact", ".bed", threshold=0.3, size=2)
    table = pd.read_csv(file, sep="\t", header=None, names=INTERACT)
    assert table[["chrom", "chromStart"]].apply(tuple, axis=1).is_monotonic_increasing
    big = pybigtools.open(str(tmp_path / "a549.bb"), "w")
    rows = (line.split("\t", 3) for line in file.read_text().splitlines())
    big.write({"chr10": 10_000, "chr2": 30_000}, [(chrom, int(a), int(b), rest) for chrom, a, b, rest in rows])
    read = [row for chrom in ("chr10", "chr2") for row in pybigtools.open(str(tmp_path / "a549.bb")).records(chrom)]
    assert [row[2] for row in read] == table["name"].tolist()
    assert table["score"].tolist() == (1000 * table["value"]).round().astype(int).tolist()
    same = table[table["sourceChrom"] == table["targetChrom"]]
    assert (same["chromStart"] == same[["sourceStart", "targetStart"]].min(axis=1)).all()
    assert (same["chromEnd"] == same[["sourceEnd", "targetEnd"]].max(axis=1)).all()
    assert set(table["targetStrand"]) == {"+", "-"}


def test_interact_shows_a_pair_on_two_chromosomes_at_both_ends(store: Store, tmp_path: Path) -> None:
    table = pd.read_csv(one(store, tmp_path, "interact", ".bed"), sep="\t", header=None, names=INTERACT)
    apart = table[table["sourceChrom"] != table["targetChrom"]]
    assert apart["name"].tolist() == ["E2/GATA1", "E2/GATA1"]
    assert apart[["chrom", "chromStart", "chromEnd"]].to_numpy().tolist() == [
        ["chr10", 500, 900],
        ["chr2", 5000, 5001],
    ]


def test_interact_is_read_by_pyranges_and_its_columns_are_ucscs(store: Store, tmp_path: Path) -> None:
    # `pyranges.read_bed` stops at twelve columns.
    bed = pd.read_csv(one(store, tmp_path, "interact", ".bed"), sep="\t", header=None, names=INTERACT)
    ranges = pyranges.PyRanges(bed.rename(columns={"chrom": "Chromosome", "chromStart": "Start", "chromEnd": "End"}))
    assert len(ranges) == sum(pair[3] >= 0.5 for row, pair in enumerate(PAIRS) if row in WITH_GENES) + 1
    assert sorted(ranges.chromosomes) == ["chr10", "chr2"]
    described = (tmp_path / "a549.as").read_text()
    assert described == AUTO_SQL
    assert re.findall(r"^ +\w+ (\w+);", described, re.MULTILINE) == INTERACT


def test_interact_without_a_called_pair_is_an_empty_file(store: Store, tmp_path: Path) -> None:
    assert one(store, tmp_path, "interact", ".bed", threshold=1.0).read_text() == ""


def test_igvf_has_the_standard_columns_and_says_where_it_comes_from(store: Store, tmp_path: Path) -> None:
    file = one(store, tmp_path, "igvf", ".tsv")
    table = pd.read_csv(file, sep="\t", comment="#", na_values=["NA"], keep_default_na=False)
    assert tuple(table.columns[: len(STANDARD)]) == STANDARD
    assert len(table) == len(WITH_GENES)
    assert table["ElementChr"].str.fullmatch(r"chr([1-9]|1[0-9]|2[0-2]|X|Y|M)").all()
    assert table["GeneEnsemblID"].str.fullmatch(r"ENSG\d{11}").all()
    assert table["GeneTSS"].dtype.kind == table["ElementStart"].dtype.kind == "i"
    assert table["ElementClass"].dropna().unique().tolist() == ["promoter"]
    assert table[list(STANDARD)].drop(columns="ElementClass").notna().all(axis=None)
    said = dict(line[2:].split(": ", 1) for line in file.read_text().splitlines() if line.startswith("# "))
    assert said["GenomeReference"] == "GRCh38"
    assert said["SampleTermName"] == "A549, K562"
    assert "ScoreThreshold" not in said


def test_igvf_is_thresholded_where_the_user_names_a_threshold(store: Store, tmp_path: Path) -> None:
    file = one(store, tmp_path, "igvf", ".tsv.gz", threshold=0.7)
    table = pd.read_csv(file, sep="\t", comment="#")
    assert table["Score"].to_numpy() == pytest.approx([0.9, 0.8, 0.7], abs=1e-6)


@pytest.mark.parametrize("size", [1, 4, 100])
def test_per_gene_counts_an_enhancer_once_for_all_start_sites(store: Store, tmp_path: Path, size: int) -> None:
    rows = [*range(len(PAIRS)), 0, 0]  # a pair that the input has several times
    table = pd.read_csv(one(store, tmp_path, "per_gene", ".tsv", rows=rows, size=size), sep="\t")
    assert table[["CellType", "TargetGene"]].to_numpy().tolist() == [
        ["A549", "GATA1"],
        ["A549", "t4"],
        ["A549", "ENSG00000000002"],
        ["K562", "GATA1"],
    ]
    first = table.iloc[0]
    assert (first["nEnhancersConsidered"], first["nDistalEnhancersPredicted"]) == (4, 2)
    assert first["sumScore"] == pytest.approx(0.9 + 0.2 + 0.8 + 0.65, abs=1e-6)
    assert (first["bestEnhancer"], first["bestEnhancerDistance"], first["TargetGeneTSS"]) == ("E0", 3800, 5000)
    assert table["maxScore"].to_numpy() == pytest.approx([0.9, 0.55, 0.7, 0.4], abs=1e-6)


@pytest.mark.real_data
def test_per_gene_has_the_columns_of_abcs_gene_statistics(store: Store, tmp_path: Path) -> None:
    theirs = pd.read_csv(REAL / "ABC.K562_chr22.GenePredictionStats.tsv.gz", sep="\t")
    expression = {"geneIsExpressed", "geneFailed"}
    assert set(theirs) - expression <= set(pd.read_csv(one(store, tmp_path, "per_gene", ".tsv"), sep="\t"))


def test_per_enhancer_counts_genes(store: Store, tmp_path: Path) -> None:
    table = pd.read_csv(one(store, tmp_path, "per_enhancer", ".tsv", rows=range(len(PAIRS))), sep="\t")
    mine = table[table["CellType"] == "A549"].set_index("name")
    assert mine.loc["E1", ["nGenesConsidered", "nGenesPredicted", "bestGene"]].tolist() == [2, 1, "t4"]
    assert mine.loc["E0", ["nGenesConsidered", "nGenesPredicted", "bestGene"]].tolist() == [1, 1, "GATA1"]
    assert mine.index.tolist() == ["E0", "E3", "E1", "E2"]
    ranges = pyranges.PyRanges(mine.rename(columns={"chr": "Chromosome", "start": "Start", "end": "End"}))
    assert len(ranges) == 4


def test_without_genes_promoters_are_called_by_their_names(tmp_path: Path) -> None:
    store = small_store(tmp_path / "store", genes=False)
    table = pd.read_csv(one(store, tmp_path, "per_gene", ".tsv"), sep="\t")
    assert table["TargetGene"].tolist() == ["t1", "t2", "t3", "t1", "t2"]
    assert table["TargetGeneEnsembl_ID"].isna().all()


@pytest.mark.parametrize("name", OUTPUT_FORMATS)
def test_a_name_that_ends_otherwise_than_the_format_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"must end in .*, as format {name} is written"):
        Outputs.of(tmp_path / "a549.xlsx", [name])


def test_several_formats_add_their_endings_to_what_all_names_begin_with(tmp_path: Path) -> None:
    files = Outputs.of(tmp_path / "a549", ["bedpe", "per_gene", "bedpe"]).files
    assert [file.name for file in files.values()] == ["a549.bedpe.gz", "a549.per_gene.tsv"]
    with pytest.raises(UserError, match=r"ends in .bedpe.gz; give --out \S*a549"):
        Outputs.of(tmp_path / "a549.bedpe.gz", ["bedpe", "per_gene"])
    with pytest.raises(UserError, match="there is no format 'bed' to write; --format may be parquet, tsv, abc"):
        Outputs.of(tmp_path / "a549", ["bed"])


def test_a_format_that_does_not_fit_is_named_before_anything_is_written(store: Store, tmp_path: Path) -> None:
    nowhere = small_store(tmp_path / "store", placed=False)
    for options, message in (
        ({"calibration": None}, "format abc gives probabilities and the model has no calibration; run evaluate.py"),
        ({"store": nowhere}, "3 enhancers and 2 promoters of the input are known by name only; give pairs with"),
        ({"name": "igvf", "rows": range(len(PAIRS))}, "needs a gene for every pair, and 1 of 4 promoters"),
    ):
        with pytest.raises(UserError, match=message):
            one(**({"store": store, "folder": tmp_path, "name": "abc", "ending": ".tsv"} | options))  # type: ignore[arg-type]
    assert [file.name for file in tmp_path.iterdir()] == ["store"]


def test_a_file_beside_that_exists_is_named_before_anything_is_written(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a549_threshold0.5.tsv").write_text("mine")
    with pytest.raises(UserError, match=r"a549_threshold0.5.tsv exists already; give another --out, or --overwrite"):
        one(store, tmp_path, "abc", ".tsv")
    assert [file.name for file in tmp_path.iterdir()] == ["a549_threshold0.5.tsv"]


@pytest.mark.parametrize("name", OUTPUT_FORMATS)
def test_what_was_there_stays_where_writing_fails(store: Store, tmp_path: Path, name: str) -> None:
    file = Outputs.of(tmp_path / "a549", [name, "tsv", "parquet"]).files[name]  # type: ignore[index]
    file.write_text("mine")

    with no_file_larger_than(4), pytest.raises(OSError, match="File too large"):
        write_formats(store, Outputs.of(file, [name], overwrite=True))
    assert [file.name for file in tmp_path.iterdir()] == [file.name]
    assert file.read_text() == "mine"


def test_thresholds_are_words_or_probabilities() -> None:
    assert [require_threshold(word) for word in ("", "recall70", "mcc", "0.25")] == [None, "recall70", "mcc", 0.25]
    for word in ("high", "1.5", "nan", "-0.1"):
        with pytest.raises(UserError, match=f"threshold '{word}' is neither recall70 nor mcc nor a probability"):
            require_threshold(word)


def test_frozen_thresholds_by_name() -> None:
    assert (CALIBRATION.threshold_of("recall70"), CALIBRATION.threshold_of("mcc")) == (0.3, 0.5)
    earlier = CALIBRATION.model_copy(update={"at_recall70": None, "at_mcc": None})
    assert (earlier.threshold_of("recall70"), earlier.threshold_of("mcc")) == (None, 0.5)
    assert earlier.model_copy(update={"criterion": "f1"}).threshold_of("mcc") is None


def test_summaries_keep_no_row_in_memory_or_on_disk_when_done(store: Store, tmp_path: Path) -> None:
    one(store, tmp_path, "per_gene", ".tsv")
    assert [file.name for file in tmp_path.iterdir()] == ["a549.tsv"]
    assert np.isfinite(pd.read_csv(tmp_path / "a549.tsv", sep="\t")["maxScore"]).all()
