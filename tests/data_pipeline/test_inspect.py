"""What `inspect_store` reports of a store."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from tiny_sources import bengi, build, lab

from data_pipeline.store.report import print_summary
from data_pipeline.store.store import Store
from data_pipeline.store.summary import summarise

E1, E2 = ("chr20", 3000, 3400), ("chrX", 1000, 1100)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    rows = [
        bengi(1, E1, 2000),
        bengi(0, E1, 4000),
        bengi(0, ("chr20", 3350, 3500), 2000),
        bengi(1, E1, 2000, line="NHEK"),
        bengi(0, E2, 2200, line="NHEK"),
        bengi(9, E2, 2200, line="NHEK"),
    ]
    return build(lab(tmp_path, rows), tmp_path / "store")


def test_lines_have_pairs_prevalence_and_distances(store: Store) -> None:
    k562, nhek = summarise(store)["lines"]
    assert (k562["line"], k562["pairs"], k562["positives"]) == ("K562", 3, 1)
    assert k562["prevalence"] == pytest.approx(1 / 3)
    assert k562["distance_quantiles"][0] == 800
    assert k562["distance_quantiles"][-1] == 1425
    assert nhek["prevalence"] == pytest.approx(1 / 2)


def test_overlap_between_lines_counts_shared_pairs_and_overlapping_elements(store: Store) -> None:
    summary = summarise(store)
    assert summary["shared_pairs"] == [[3, 1], [1, 2]]
    k562, nhek = summary["lines"]
    # K562's second enhancer overlaps the first by 50 bases; that it overlaps NHEK's copy of the first is what counts.
    assert k562["enhancers_overlapping_other_lines"] == 1.0
    assert nhek["enhancers_overlapping_other_lines"] == 0.5
    assert nhek["promoters_overlapping_other_lines"] == 0.5


def test_elements_chromosomes_and_quarantine_are_counted(store: Store) -> None:
    summary = summarise(store)
    assert summary["chromosomes"] == {"chr20": 4, "chrX": 1}
    assert summary["elements"]["enhancers"]["by_chromosome"] == {"chr20": 2, "chrX": 1}
    assert summary["elements"]["enhancers"]["length_quantiles"][-1] == 400
    assert summary["quarantine"] == {"bad_label": 1}
    assert summary["sources"][0]["file"] == "pairs.tsv.gz"


def test_the_summary_is_json(store: Store) -> None:
    assert json.loads(json.dumps(summarise(store)))["checksum"] == store.checksum


def test_the_tables_name_every_line_chromosome_and_reason(store: Store) -> None:
    console = Console(file=io.StringIO(), width=120)
    print_summary(store, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for word in ("K562", "NHEK", "chr20", "chrX", "bad_label", "pairs.tsv.gz", "0.333"):
        assert word in text
