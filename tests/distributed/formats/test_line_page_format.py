"""The page and the pictures of loci that a prediction writes, and what they refuse."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from browsers import check_page
from line_ranges import LINES, ranges
from scored_pairs import PAIRS, WITH_GENES, small_store, write_formats

from data_pipeline.context import stepwise
from data_pipeline.context.landscape import Landscape
from data_pipeline.errors import UserError
from data_pipeline.store.store import Store
from distributed.formats.catalogue import Catalogue
from distributed.formats.locus_finder import find_gene
from distributed.formats.names import Outputs
from distributed.formats.subject import Background


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return small_store(tmp_path_factory.mktemp("page") / "store")


def tracks(line: str, chrom: str) -> dict[str, Landscape]:
    return {"CTCF": stepwise(np.array([4_000]), np.array([6_000]), np.array([2.0]), 500)} if chrom == "chr2" else {}


BACKGROUND = Background(
    ranges=ranges(), train_lines=LINES, environment=lambda line: np.full((2, 2), 0.1), signals=tracks
)


def test_the_page_counts_what_the_summaries_count(store: Store, tmp_path: Path) -> None:
    outputs = Outputs.of(tmp_path / "a549", ["page", "per_gene"])
    write_formats(store, outputs, range(len(PAIRS)), background=BACKGROUND)
    page = (tmp_path / "a549.html").read_text()
    genes = [row.split("\t") for row in (tmp_path / "a549.per_gene.tsv").read_text().splitlines()[1:]]
    for line in ("A549", "K562"):
        links = [int(row[6]) for row in genes if row[0] == line]
        told = re.search(rf"In {line} ([\d,]+) links of ([\d,]+) genes \(of ([\d,]+)\)", page)
        assert told is not None
        assert [int(number) for number in told.groups()] == [sum(links), sum(link > 0 for link in links), len(links)]


@pytest.mark.browser
def test_the_page_of_a_prediction_does_in_a_browser_what_a_page_must(store: Store, tmp_path: Path) -> None:
    outputs = Outputs.of(tmp_path / "a549.html", loci=["GATA1"])
    write_formats(store, outputs, WITH_GENES[:5], background=BACKGROUND)
    check_page(tmp_path / "a549.html")


def test_a_locus_is_an_svg_and_a_png_beside_the_table(store: Store, tmp_path: Path) -> None:
    outputs = Outputs.of(tmp_path / "a549.tsv", loci=["ensg00000102145.14"])
    write_formats(store, outputs, background=BACKGROUND)
    root = ElementTree.parse(tmp_path / "a549.GATA1.svg").getroot()
    assert {"GATA1", "A549", "CTCF", "K562"} <= {
        "".join(node.itertext()).strip() for node in root.iter() if node.tag[-4:] == "text"
    }
    assert (tmp_path / "a549.GATA1.png").read_bytes()[:4] == b"\x89PNG"


def test_a_prediction_that_fails_leaves_no_page(store: Store, tmp_path: Path) -> None:
    def broken(line: str) -> np.ndarray:
        raise UserError("no environment")

    with pytest.raises(UserError, match="no environment"):
        write_formats(store, Outputs.of(tmp_path / "a549.html"), background=Background(environment=broken))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("asked", ["gata1", " GATA1", "ENSG00000102145", "ensg00000102145.3"])
def test_a_gene_is_found_by_symbol_or_identifier(store: Store, asked: str) -> None:
    assert find_gene(Catalogue.of(store), asked).tolist() == [0, 1]


def test_a_gene_without_a_symbol_is_found_by_its_own_name(store: Store) -> None:
    assert find_gene(Catalogue.of(store), "t4").tolist() == [3]


def test_an_unknown_gene_is_named_with_those_like_it_before_anything_is_written(store: Store, tmp_path: Path) -> None:
    outputs = Outputs.of(tmp_path / "a549.tsv", loci=["GATA2"])
    with pytest.raises(UserError, match="no pair of the input is of a gene called 'GATA2'; names like it are GATA1; "):
        write_formats(store, outputs, background=BACKGROUND)
    assert list(tmp_path.iterdir()) == []


def test_a_gene_of_another_line_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none of the lines that are scored has a pair of gene 't4'"):
        write_formats(store, Outputs.of(tmp_path / "k.tsv", loci=["t4"]), [7, 8], background=BACKGROUND)


@pytest.mark.parametrize(("name", "loci", "said"), [("a.html", [], "format page"), ("a.tsv", ["GATA1"], "--locus")])
def test_without_calibration_there_is_neither_page_nor_locus(
    store: Store, tmp_path: Path, name: str, loci: list[str], said: str
) -> None:
    outputs = Outputs.of(tmp_path / name, loci=loci)
    with pytest.raises(
        UserError, match=f"{said} gives probabilities and the model has no calibration; run evaluate.py"
    ):
        write_formats(store, outputs, calibration=None, background=BACKGROUND)


def test_a_picture_that_is_there_is_not_replaced(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a549.GATA1.png").write_text("mine")
    with pytest.raises(UserError, match=r"a549\.GATA1\.png exists already"):
        write_formats(store, Outputs.of(tmp_path / "a549.tsv", loci=["GATA1"]), background=BACKGROUND)
