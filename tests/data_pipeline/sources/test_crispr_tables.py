"""Tables of CRISPR-tested pairs: what becomes a label, a weight, a signal, and what a predictor may not see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tiny_sources import build, quarantined, write

from data_pipeline.errors import UserError
from data_pipeline.sources.gene_places import GENE_COLUMNS
from data_pipeline.sources.settings import CrisprTable
from data_pipeline.store.store import Store

SIGNALS = ["DHS.RPM", "H3K27ac.RPM.expandedRegion", "CTCF_peak_overlap", "measuredGeneUbiquitousExpressed"]
ROW: dict[str, Any] = {
    "chrom": "chr1",
    "chromStart": 1000,
    "chromEnd": 1500,
    "chrTSS": "chr1",
    "startTSS": 8000,
    "endTSS": 8001,
    "measuredGeneSymbol": "MYC",
    "measuredGeneEnsemblId": "ENSG01",
    "EffectSize": -0.5,
    "Regulated": "TRUE",
    "ValidConnection": "TRUE",
    "CellType": "K562",
    "distanceToTSS": 6800,
    "DHS.RPM": 4,
    "H3K27ac.RPM.expandedRegion": 9,
    "CTCF_peak_overlap": 1,
    "measuredGeneUbiquitousExpressed": "FALSE",
    "direct_vs_indirect_negative": 0.75,
}


def table(*changes: dict[str, Any]) -> str:
    """A table of the benchmark with a row per change of `ROW`."""
    rows = [ROW | change for change in changes]
    return "\n".join("\t".join(map(str, line)) for line in (ROW, *(row.values() for row in rows)))


def screen(folder: Path, *changes: dict[str, Any], **source: Any) -> Store:
    write(folder / "screen.tsv.gz", table(*changes) + "\n")
    told = {"format": "crispr", "file": "screen.tsv.gz", "signals": SIGNALS, "max_bad_fraction": 1, **source}
    lines = {"root": str(folder), "lines": ["K562", "WTC11"], "windows": {"enhancer": 0, "promoter": 0}}
    return build({**lines, "pairs": [told]}, folder / "store")


def signal(store: Store, name: str) -> list[float]:
    column = store.signal_names.index(f"pair:{name}")
    return store.signals(np.arange(len(store.pairs)))[:, column].astype(float).tolist()


def test_label_weight_and_effect_of_a_row_are_those_of_its_pair(tmp_path: Path) -> None:
    other = {"chromStart": 2000, "chromEnd": 2500, "Regulated": "FALSE", "EffectSize": 0.1, "CellType": "WTC11"}
    store = screen(tmp_path, {}, other | {"direct_vs_indirect_negative": 0.2})
    assert store.pairs.label.tolist() == [1, 0]
    assert store.pairs.weight.tolist() == pytest.approx([0.75, 0.2])
    assert store.pairs.effect.tolist() == pytest.approx([-0.5, 0.1])
    assert [store.lines[line] for line in store.pairs.line] == ["K562", "WTC11"]
    assert (store.promoters.genes, store.promoters.gene_ids) == (["MYC"], ["ENSG01"])


def test_a_distance_is_the_tables_own_because_its_start_sites_are_not_all_those_it_was_measured_from(
    tmp_path: Path,
) -> None:
    store = screen(tmp_path, {"distanceToTSS": 4321}, {"chromStart": 9000, "chromEnd": 9100, "startTSS": 0})
    assert store.pairs.distance.tolist() == [4321, 6800]


def test_rows_that_the_benchmark_leaves_out_are_quarantined_with_a_reason(tmp_path: Path) -> None:
    invalid, unknown = {"ValidConnection": "overlaps target gene exon"}, {"Regulated": "NA"}
    store = screen(tmp_path, {}, invalid | {"chromStart": 100}, unknown | {"chromStart": 200})
    assert len(store.pairs) == 1
    assert quarantined(store.path / "quarantine") == [
        ("screen.tsv.gz", 3, "invalid_connection"),
        ("screen.tsv.gz", 4, "unknown_label"),
    ]


def test_signals_are_numbers_and_truths_and_a_missing_one_is_nan(tmp_path: Path) -> None:
    store = screen(tmp_path, {"DHS.RPM": "NA", "measuredGeneUbiquitousExpressed": "TRUE"})
    assert np.isnan(signal(store, "DHS.RPM")[0])
    assert np.isnan(signal(store, "activity")[0])
    assert signal(store, "measuredGeneUbiquitousExpressed") == [1.0]
    assert signal(store, "CTCF_peak_overlap") == [1.0]


def test_activity_by_distance_is_abcs_activity_times_its_power_law(tmp_path: Path) -> None:
    store = screen(tmp_path, {"distanceToTSS": 15_000})
    assert signal(store, "activity") == [6.0]
    assert signal(store, "activity_by_distance") == pytest.approx([6 * 4**-1.024])
    assert signal(store, "log_activity_by_distance") == pytest.approx([np.log(6 * 4**-1.024 + 1e-3)])


def test_genes_are_counted_in_the_annotation_and_not_among_those_that_the_screen_measured(tmp_path: Path) -> None:
    # The element's middle is 100,000; MYC at 150,000 has one gene between, one on the other side, and one far behind.
    genes = [("GENE1", 60_000), ("GENE2", 120_000), ("MYC", 150_000), ("GENE3", 900_000)]
    rows = [f"1\t{tss - 250}\t{tss + 250}\t{name}\t0\t+\tENSG{name}" for name, tss in genes]
    write(tmp_path / "genes.bed", "\n".join(["#chr\tstart\tend\tname\tscore\tstrand\tEnsembl_ID", *rows]) + "\n")
    place = {"chromStart": 99_000, "chromEnd": 101_000, "startTSS": 0, "distanceToTSS": 50_000}
    store = screen(tmp_path, place, place | {"measuredGeneSymbol": "GENE2", "distanceToTSS": 20_000}, genes="genes.bed")
    found = {name: signal(store, name) for name in GENE_COLUMNS}
    by_gene = dict(zip([store.promoters.names[row] for row in store.pairs.promoter], range(2), strict=True))
    assert [found[name][by_gene["MYC"]] for name in GENE_COLUMNS] == [1, 2, 1, 20_000, 30_000]
    assert [found[name][by_gene["GENE2"]] for name in GENE_COLUMNS] == [0, 0, 0, 20_000, 30_000]


def test_a_predictor_may_not_see_an_outcome() -> None:
    for name in ("EffectSize", "PowerAtEffectSize25", "direct_rate_negative"):
        with pytest.raises(ValidationError, match=f"'{name}' is an outcome of the screen"):
            CrisprTable(format="crispr", file="x", signals=[name])


def test_a_signal_that_holds_text_and_one_that_is_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"column 'DHS.RPM' holds text \('high'\)"):
        screen(tmp_path, {"DHS.RPM": "high"})
    with pytest.raises(UserError, match=r"no single column 'H3K9ac'"):
        screen(tmp_path, {}, signals=["H3K9ac"])


def test_a_missing_annotation_is_missed_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.bed does not exist"):
        screen(tmp_path, {}, genes="nowhere.bed")


def test_without_the_columns_every_pair_weighs_one_and_no_effect_is_known(tmp_path: Path) -> None:
    store = screen(tmp_path, {}, weight=None, effect=None, labels=False)
    assert store.pairs.weight.tolist() == [1.0]
    assert np.isnan(store.pairs.effect).all()
    assert store.pairs.label.tolist() == [-1]
