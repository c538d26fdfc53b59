"""The shipped stores from the real public files; data/README.md's numbers are the reference.

These tests need the data folder that the shipped configurations name; without it they fail and say so.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.dna import unpack
from data_pipeline.settings import load
from data_pipeline.sources.ingestion import ingest
from data_pipeline.sources.settings import StoreSettings
from data_pipeline.store.store import Store

REPOSITORY = Path(__file__).parents[3]
DATA = REPOSITORY / "../shared/data"

pytestmark = pytest.mark.real_data


def shipped(name: str, out: Path) -> Store:
    ingest(load(StoreSettings, [REPOSITORY / f"configs/stores/{name}.yaml"]), out, root=DATA)
    return Store.open(out, verify="full")


@pytest.fixture(scope="module")
def chr20x(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return shipped("real_chr20x", tmp_path_factory.mktemp("real") / "chr20x")


@pytest.fixture(scope="module")
def signals(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return shipped("real_signals", tmp_path_factory.mktemp("real") / "signals")


def test_the_sequence_store_has_all_five_lines_and_the_pairs_counted_beforehand(chr20x: Store) -> None:
    reports = [report for report in chr20x.manifest.sources if "rows" in report]
    assert sum(report["rows"] - report["outside_regions"] for report in reports) == 16_916
    assert np.bincount(chr20x.pairs.line).tolist() == [4924, 4288, 1317, 3782, 1300]
    assert (len(chr20x.enhancers), len(chr20x.promoters)) == (5839, 2363)
    assert chr20x.manifest.counts["quarantine/conflicting_label"] == 201


def test_a_window_of_the_sequence_store_is_the_genomes_sequence(chr20x: Store) -> None:
    row = int(np.flatnonzero(chr20x.enhancers.chrom == chr20x.manifest.chroms.index("chr20"))[100])
    centre = int(chr20x.enhancers.start[row] + chr20x.enhancers.end[row]) // 2
    with gzip.open(DATA / "genome/chr20.fa.gz", "rt") as stream:
        next(stream)
        chromosome = "".join(line.rstrip() for line in stream)
    assert unpack(chr20x.enhancers.packed(np.array([row]))[0]) == chromosome[centre - 500 : centre + 500].upper()


def test_peak_signals_are_complete_and_stronger_at_promoters_of_positive_pairs(chr20x: Store) -> None:
    values = chr20x.signals(np.arange(len(chr20x.pairs)))
    assert not np.isnan(values).any()
    acetylation = values[:, chr20x.signal_names.index("promoter:H3K27AC")]
    label = chr20x.pairs.label
    assert acetylation[label == 1].mean() > acetylation[label == 0].mean()


def test_the_signals_store_has_the_distinct_pairs_of_data_readme(signals: Store) -> None:
    counts = dict(zip(signals.lines, np.bincount(signals.pairs.line).tolist(), strict=True))
    assert counts == {"GM12878": 47_006, "HeLa-S3": 22_464, "IMR90": 14_230, "NHEK": 14_900}


def test_every_pair_of_the_signals_store_has_its_24_signals(signals: Store) -> None:
    values = signals.signals(np.arange(len(signals.pairs)))
    assert values.shape[1] == 24
    assert not np.isnan(values).any()


def test_distances_agree_with_bengis_own_to_a_base(signals: Store) -> None:
    theirs: dict[tuple[str, ...], float] = {}
    with gzip.open(DATA / "bengi/NHEK.HiC-Benchmark.v3.tsv.gz", "rt") as stream:
        for line in stream:
            row = line.split("\t")
            theirs.setdefault((*row[2:5], *row[6:9]), float(row[1]))
    own = signals.pairs.distance[signals.pairs.line == signals.lines.index("NHEK")]
    assert np.abs(own - np.array(list(theirs.values()))).max() <= 1
