"""Pairs of a line in no store, from tables without labels: coordinates and a genome, or names and sequences."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tiny_models import evaluated, tiny_run
from tiny_sources import CHR20, CHRX, write
from tiny_training import tiny_store
from unlabelled_tables import PAIRS, command, genome, pair_rows

from data_pipeline.errors import UserError
from data_pipeline.settings import validate
from data_pipeline.sources.ingestion import ingest
from data_pipeline.sources.settings import StoreSettings
from distributed.prediction.deployment import open_run, write_export

COLUMNS = ["enhancer_chrom", "enhancer_start", "enhancer_end", "promoter_chrom", "promoter_start", "promoter_end"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tables")
    store = tiny_store(place / "store")
    write_export(open_run(evaluated(tiny_run(place / "runs", store))), place / "model")
    return place / "model"


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder with chr20.fa and chrX.fa."""
    write(tmp_path / "chr20.fa", f">20\n{CHR20}\n")
    write(tmp_path / "chrX.fa", f">X\n{CHRX}\n")
    return tmp_path


def csv(rows: list[tuple[object, ...]], header: list[str]) -> str:
    return "\n".join(",".join(map(str, row)) for row in [tuple(header), *rows]) + "\n"


def test_unseen_line_is_scored_from_coordinates_and_genome_without_labels(model: Path, lab: Path) -> None:
    rows = pair_rows()
    table, out = write(lab / "pairs.csv", csv(rows, COLUMNS)), lab / "a549.parquet"
    _, error = command(model, "--pairs", table, *genome(lab), "--line", "A549", "--out", out)
    assert error == ""
    scores = pd.read_parquet(out)
    assert scores[COLUMNS].values.tolist() == [list(row) for row in rows]
    assert set(scores["line"]) == {"A549"}
    assert scores["probability"].between(0, 1).all()
    assert scores["logit"].nunique() == PAIRS
    assert sorted(file.name for file in lab.iterdir()) == [
        *("a549.parquet", "a549.parquet.json", "chr20.fa", "chrX.fa", "pairs.csv")
    ]


def test_labels_in_a_table_change_nothing(model: Path, lab: Path) -> None:
    rows = pair_rows()
    labelled = [(*row, number % 2) for number, row in enumerate(rows)]
    write(lab / "pairs.csv", csv(rows, COLUMNS))
    write(lab / "labelled.csv", csv(labelled, [*COLUMNS, "label"]))
    source = {"format": "csv", "file": "labelled.csv", "line": "A549"}
    windows = {"enhancer": 96, "promoter": 96}
    settings = {"lines": ["A549"], "genome": ["chr20.fa", "chrX.fa"], "pairs": [source], "windows": windows}
    ingest(validate(StoreSettings, settings, "test"), lab / "store", lab)
    inputs = {
        "plain": ("--pairs", lab / "pairs.csv", *genome(lab), "--line", "A549"),
        "labelled": ("--pairs", lab / "labelled.csv", *genome(lab), "--line", "A549"),
        "store": ("--store", lab / "store"),
    }
    for name, options in inputs.items():
        assert command(model, *options, "--out", lab / f"{name}.tsv")[1] == ""
    texts = {(lab / f"{name}.tsv").read_text() for name in inputs}
    assert len(texts) == 1


def test_columns_of_a_table_may_have_other_names(model: Path, lab: Path) -> None:
    rows = pair_rows()
    other = ["chrA", "a", "b", "chrB", "c", "d"]
    write(lab / "pairs.csv", csv(rows, COLUMNS))
    write(lab / "named.txt", csv(rows, other).replace(",", "\t"))
    mapping = [part for key, name in zip(COLUMNS, other, strict=True) for part in ("--column", f"{key}={name}")]
    line = (*genome(lab), "--line", "A549")
    assert command(model, "--pairs", lab / "pairs.csv", *line, "--out", lab / "plain.tsv")[1] == ""
    assert command(model, "--pairs", lab / "named.txt", *mapping, *line, "--out", lab / "named.tsv")[1] == ""
    assert (lab / "named.tsv").read_text() == (lab / "plain.tsv").read_text()


def test_pairs_by_name_with_sequence_tables(model: Path, lab: Path) -> None:
    rows = [(f"e{e}", f"p{p}") for e in range(12) for p in range(5)]
    draw = random.Random(2)
    sequences = {kind: [(f"{kind}{n}", "".join(draw.choices("ACGT", k=96))) for n in range(12)] for kind in "ep"}
    table = write(lab / "pairs.csv", csv(rows, ["enhancer_name", "promoter_name"]))
    enhancers, promoters = (
        write(lab / f"{kind}.csv", csv(own, ["region", "sequence"])) for kind, own in sequences.items()
    )
    tables = ("--enhancer-sequences", enhancers, "--promoter-sequences", promoters)
    out = lab / "scores.parquet"
    options = ("--pairs", table, *tables, "--line", "A549", "--support", 2, "--out", out)
    assert command(model, *options)[1] == ""
    scores = pd.read_parquet(out)
    assert scores[["enhancer", "promoter"]].values.tolist() == [list(row) for row in rows]
    assert scores[["enhancer_chrom", "enhancer_start", "promoter_end", "distance"]].isna().all(axis=None)
    assert np.isfinite(scores["logit"]).all()


def test_yaml_may_describe_the_pairs(model: Path, lab: Path) -> None:
    write(lab / "pairs.csv", csv(pair_rows(), COLUMNS))
    source = {"format": "csv", "file": "pairs.csv", "line": "A549"}
    content = {"root": str(lab), "lines": ["A549"], "genome": ["chr20.fa", "chrX.fa"], "pairs": [source]}
    write(lab / "lab.yaml", yaml.safe_dump(content))
    assert command(model, "--yaml", lab / "lab.yaml", "--out", lab / "scores.tsv")[1] == ""
    assert len(pd.read_csv(lab / "scores.tsv", sep="\t")) == PAIRS


def test_bad_rows_are_kept_beside_the_scores_with_their_reason(model: Path, lab: Path) -> None:
    rows: list[tuple[object, ...]] = list(pair_rows())
    rows[4] = ("chr20", "here", 900, "chr20", 5000, 5060)
    table, out = write(lab / "pairs.csv", csv(rows, COLUMNS)), lab / "scores.tsv"
    output, error = command(model, "--pairs", table, *genome(lab), "--line", "A549", "--out", out)
    assert error == ""
    assert f"1 rows were rejected and are not scored; they are in {out}.quarantine" in output
    assert "bad_coordinates" in output
    assert (lab / "scores.tsv.quarantine" / "bad_coordinates.tsv").read_text().splitlines()[1].split("\t")[1] == "6"
    assert len(pd.read_csv(out, sep="\t")) == PAIRS - 1


def test_too_many_bad_rows_stop_and_are_kept(model: Path, lab: Path) -> None:
    rows = [*pair_rows(), *[("chr9", start, start + 50, "chr9", 5000, 5060) for start in range(100, 3000, 100)]]
    table, out = write(lab / "pairs.csv", csv(rows, COLUMNS)), lab / "scores.tsv"
    options = ("--pairs", table, *genome(lab), "--line", "A549", "--out", out)
    _, error = command(model, *options)
    assert "29 of 89 rows are bad" in error
    assert "most often missing_chromosome" in error
    assert error.endswith(f"the rejected rows are in {out}.quarantine")
    assert len((lab / "scores.tsv.quarantine" / "missing_chromosome.tsv").read_text().splitlines()) == 30
    assert not out.exists()
    assert command(model, *options, "--max-bad", 0.5)[1] == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--line", "A549"), "the model reads sequence and .* has only coordinates; give its genome"),
        ((), "--pairs is a table of one cell line; name it with one --line"),
        (("--line", "A549", "--enhancer-sequences", "e.csv"), "give --enhancer-sequences and --promoter-sequences"),
        (("--line", "A549", "--column", "enhancer_chrom"), "is not of the form key=column"),
        (("--line", "A549", "--column", "enhancer_chr=x"), "unknown key"),
        (("--line", "A549", "--genome", "nowhere.fa"), "nowhere.fa does not exist"),
    ],
)
def test_incomplete_description_is_one_sentence(
    model: Path, lab: Path, options: tuple[object, ...], message: str
) -> None:
    table = write(lab / "pairs.csv", csv(pair_rows(), COLUMNS))
    _, error = command(model, "--pairs", table, "--out", lab / "scores.tsv", *options)
    with pytest.raises(UserError, match=message):
        raise UserError(error)
    assert not list(lab.glob("*scores.tsv*"))


def test_table_of_unknown_kind_asks_for_its_format(model: Path, lab: Path) -> None:
    table = write(lab / "pairs.xlsx", csv(pair_rows(), COLUMNS))
    line = (*genome(lab), "--line", "A549", "--out", lab / "scores.tsv")
    assert "give --pairs-format" in command(model, "--pairs", table, *line)[1]
    assert command(model, "--pairs", table, "--pairs-format", "csv", *line)[1] == ""


def test_too_few_pairs_of_a_table_are_named(model: Path, lab: Path) -> None:
    table = write(lab / "pairs.csv", csv(pair_rows()[:5], COLUMNS))
    _, error = command(model, "--pairs", table, *genome(lab), "--line", "A549", "--out", lab / "scores.tsv")
    assert error.startswith("line 'A549' has too few pairs: each must be scored with 8 others")
    assert error.endswith("add pairs of other elements of this line, or give a smaller --support")


def test_every_row_is_answered_under_its_own_name_and_promoters_by_their_own_tss(model: Path, lab: Path) -> None:
    header = [*COLUMNS, "gene", "tss"]
    rows = [(*row, f"{name} x", row[4] + shift) for row in pair_rows() for name, shift in (("A", 10), ("B", 50))]
    repeated = [(*row[:6], "again", row[7]) if n % 7 == 0 else row for n, row in enumerate(rows)]
    table, out = write(lab / "pairs.csv", csv([*rows, *rows[::-1], *repeated], header)), lab / "scores.parquet"
    columns = ("--column", "promoter_name=gene", "--column", "tss=tss")
    output, error = command(model, "--pairs", table, *genome(lab), "--line", "A549", *columns, "--out", out)
    assert error == ""
    assert f"{6 * PAIRS} rows scored" in output
    scores = pd.read_parquet(out)
    assert scores["promoter"].tolist() == [row[6] for row in [*rows, *rows[::-1], *repeated]]
    assert scores[COLUMNS].values.tolist() == [list(row[:6]) for row in [*rows, *rows[::-1], *repeated]]
    centre = (scores["enhancer_start"] + scores["enhancer_end"]) // 2
    tss = np.array([row[7] for row in [*rows, *rows[::-1], *repeated]])
    assert (scores["distance"] == (centre - tss).abs()).all()
    first, second = scores["logit"][: 2 * PAIRS], scores["logit"][2 * PAIRS : 4 * PAIRS]
    assert first.tolist() == second.tolist()[::-1]


def test_rows_outside_the_regions_of_a_yaml_are_named(model: Path, lab: Path) -> None:
    rows = pair_rows()
    write(lab / "pairs.csv", csv(rows, COLUMNS))
    source = {"format": "csv", "file": "pairs.csv", "line": "A549"}
    content = {"root": str(lab), "lines": ["A549"], "genome": ["chr20.fa", "chrX.fa"], "pairs": [source]}
    write(lab / "lab.yaml", yaml.safe_dump(content | {"regions": ["chr20"]}))
    out = lab / "scores.tsv"
    assert command(model, "--yaml", lab / "lab.yaml", "--support", 2, "--out", out)[1] == ""
    named = (lab / "scores.tsv.quarantine" / "outside_regions.tsv").read_text("utf-8").splitlines()[1:]
    assert len(pd.read_csv(out, sep="\t")) + len(named) == PAIRS
    assert len(named) == sum(row[0] == "chrX" for row in rows)
