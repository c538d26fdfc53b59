"""The picture of a locus: what is shown, and that other programs open it."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import image

from evaluation.line_page.locus import (
    MOST_ARCS,
    Gene,
    LineAtLocus,
    Locus,
    ScoredEnhancers,
    arc,
    reads,
    shown_pairs,
    window,
)
from evaluation.line_page.locus_figure import locus_figure
from evaluation.line_page.locus_picture import labelled, locus_picture


def enhancers(*centres: int, called: int = 1) -> ScoredEnhancers:
    """Enhancers of 400 bp of a gene at 500,000; the first are called, and probability falls along them."""
    centre, count = np.array(centres), len(centres)
    names = [f"e{place}" for place in range(count)]
    return ScoredEnhancers(
        start=centre - 200,
        end=centre + 200,
        tss=np.full(count, 500_000),
        probability=np.linspace(0.9, 0.1, count),
        called=np.arange(count) < called,
        names=names,
        signals={"CTCF": np.linspace(3, 1, count)},
    )


def locus(tracks: bool = True, name: str = "GATA1") -> Locus:
    pairs = enhancers(450_000, 600_000, 550_000, called=2)
    start, end = window([pairs], 500_000)
    bins = np.linspace(start, end, 11).astype(np.int64)
    shown, left_out = shown_pairs(pairs, start, end)
    values = {"CTCF": np.arange(10.0), "H3K27ac": np.zeros(10)} if tracks else {}
    genes = [Gene(name, 500_000, 1), Gene("HDAC6", 500_500, -1), Gene("$x_1$ & <b>", 520_000, 0)]
    line = LineAtLocus("A549", shown, left_out, values)
    return Locus(name, "chrX", 500_000, start, end, bins, genes, [line], 0.5)


def test_the_window_holds_the_gene_and_its_called_enhancers() -> None:
    start, end = window([enhancers(450_000, 900_000, called=1)], 500_000)
    assert (end - start >= 100_000, start < 450_000, end < 900_000) == (True, True, True)
    start, end = window([enhancers(450_000, 900_000, called=0)], 500_000)
    assert end > 900_000
    assert window([enhancers(100, called=1)], 200)[0] == 0


def test_the_strongest_pairs_are_drawn_last_and_too_many_are_counted() -> None:
    many = enhancers(*range(400_000, 400_000 + 1000 * (MOST_ARCS + 5), 1000))
    shown, left_out = shown_pairs(many, 0, 10**6)
    assert (len(shown.names), left_out, shown.names[-1]) == (MOST_ARCS, 5, "e0")
    assert shown_pairs(many, 0, 401_500)[0].names == ["e1", "e0"]


def test_an_arc_leads_from_the_enhancer_to_the_start_site() -> None:
    x, y = arc(100, 500, 400)
    assert (x[0], x[-1], y[0], y[-1]) == (100, 500, 0, 0)
    assert y.max() == pytest.approx(1.0)


@pytest.mark.parametrize("tracks", [True, False])
def test_the_picture_opens_as_svg_with_its_names_as_text(tracks: bool) -> None:
    content = locus_picture(locus(tracks), "svg")
    root = ElementTree.fromstring(content)
    words = {"".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert {"GATA1", "A549", "CTCF"} <= words
    assert any("$x_1$ & <b>" in word for word in words)
    assert content == locus_picture(locus(tracks), "svg")


def test_the_picture_opens_as_png() -> None:
    pixels = image.imread(io.BytesIO(locus_picture(locus(), "png")))
    assert pixels.shape[1] == 1350
    assert pixels[..., :3].std() > 0.01


def test_names_of_genes_that_lie_together_are_put_in_rows_or_left_out() -> None:
    genes = [Gene(name, 1000, 1) for name in ("A", "B", "C", "D")]
    found = labelled(genes, "C", 0, 100_000)
    assert [(gene.name, level) for gene, level in found] == [("C", 0), ("A", 1), ("B", 2)]


def test_the_figure_has_an_arc_per_enhancer_and_a_row_per_signal() -> None:
    figure = locus_figure(locus(), 0)
    drawn = figure.plots[0].drawing
    assert [trace.name.split(",")[0] for trace in drawn.data[:3]] == ["e2", "e1", "e0"]
    assert drawn.layout.yaxis4.domain[0] == pytest.approx(0)
    assert (
        "2 of 3 enhancers shown are called, up to 100 kb away; the strongest, e0, has a probability of 0.90"
        in reads(locus())
    )
