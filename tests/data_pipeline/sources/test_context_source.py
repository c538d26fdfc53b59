"""Context of pairs at ingest, from pairs, peaks, bedGraphs and bigWigs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_context import LENGTHS, LINES, context_lab, rows, signal, write_bed_graphs, write_big_wigs, write_signals
from tiny_sources import build, write

from data_pipeline.context.groups import column_names
from data_pipeline.context.names import GROUP_NAMES, MARKS
from data_pipeline.errors import UserError
from data_pipeline.store.store import Store
from data_pipeline.store.track_names import assays_of

NAMES = column_names(GROUP_NAMES)
NEED_NOTHING = np.array([not assays_of(f"context:{name}") for name in NAMES])


def context(store: Store) -> NDArray[np.float32]:
    return store.pairs.columns.full("context")


def from_tracks(root: Path, table: list[str] | None = None, **changes: Any) -> dict[str, Any]:
    return context_lab(root, table, landscape="tracks", tracks=write_bed_graphs(root), **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store of all pairs with context from bedGraphs."""
    root = tmp_path_factory.mktemp("tracks")
    return build(from_tracks(root), root / "store")


def test_a_store_keeps_the_columns_of_context_behind_its_other_signals(whole: Store) -> None:
    assert whole.manifest.signals["context"] == NAMES
    assert whole.signal_names == [f"context:{name}" for name in NAMES]
    found = whole.signals(np.arange(len(whole.pairs)))
    np.testing.assert_array_equal(found, context(whole))
    assert np.isfinite(found).all()
    # Each says something, but for what is the same of all of two small chromosomes.
    assert (np.ptp(found, axis=0) > 0).mean() > 0.95


def test_a_store_without_context_says_nothing_of_it(tmp_path: Path) -> None:
    description = context_lab(tmp_path)
    del description["context"]
    store = build(description, tmp_path / "store")
    assert "context" not in store.manifest.signals
    assert store.signals(np.arange(3)).shape == (3, 0)


def test_big_wigs_give_what_bed_graphs_give(whole: Store, tmp_path: Path) -> None:
    description = context_lab(tmp_path, landscape="tracks", tracks=write_big_wigs(tmp_path, "NC_{}"))
    aliases = {f"NC_{chrom}": chrom for chrom in LENGTHS}
    store = build(description | {"chrom_aliases": aliases}, tmp_path / "store")
    np.testing.assert_allclose(context(store), context(whole), rtol=1e-5, atol=1e-5)


def test_peaks_give_what_bed_graphs_of_their_strength_give(whole: Store, tmp_path: Path) -> None:
    for line in LINES:
        for mark in MARKS:
            text = "".join(
                f"{chrom}\t{start}\t{end}\tpeak\t0\t.\t{value}\n"
                for chrom in LENGTHS
                for start, end, value in signal(line, mark, chrom)
            )
            write(tmp_path / f"{line}.{mark.upper()}.bed.gz", text)
    peaks = {"pattern": "{line}.{mark}.bed.gz", "marks": [mark.upper() for mark in MARKS]}
    store = build(context_lab(tmp_path, landscape="peaks") | {"peaks": peaks}, tmp_path / "store")
    np.testing.assert_allclose(context(store), context(whole), rtol=1e-6, atol=1e-6)
    assert store.manifest.signals["enhancer"] == [mark.upper() for mark in MARKS]


def test_labels_change_no_context(whole: Store, tmp_path: Path) -> None:
    def drawn(number: int) -> int:
        return int(np.random.default_rng(number).random() < 0.5)

    store = build(from_tracks(tmp_path, rows(drawn)), tmp_path / "store")
    assert (store.pairs.label != whole.pairs.label).any()
    np.testing.assert_array_equal(context(store), context(whole))


def test_from_tracks_a_pair_has_the_same_context_whatever_other_pairs_are_listed_and_in_what_order(
    whole: Store, tmp_path: Path
) -> None:
    table = rows()
    chosen = np.random.default_rng(0).permutation(len(table))[:40]
    store = build(from_tracks(tmp_path, [table[row] for row in chosen]), tmp_path / "store")

    def by_pair(own: Store) -> dict[tuple[str, str, int], list[float]]:
        e, p = own.enhancers.names, own.promoters.names
        keys = zip(own.pairs.enhancer, own.pairs.promoter, own.pairs.line, strict=True)
        return {(e[a], p[b], int(c)): row for (a, b, c), row in zip(keys, context(own).tolist(), strict=True)}

    found, expected = by_pair(store), by_pair(whole)
    assert len(found) == 40
    assert found == {key: expected[key] for key in found}


def test_labels_of_a_pair_table_change_no_landscape_that_is_made_from_it(tmp_path: Path) -> None:
    found = []
    for number, table in enumerate((rows(), rows(lambda row: int(row % 3 == 0)))):
        root = tmp_path / str(number)
        description = context_lab(root, table) | {"signals": [{"file": write_signals(root, table)}]}
        found.append(context(build(description, root / "store")))
    np.testing.assert_array_equal(*found)


def test_landscapes_from_pairs_are_near_those_of_the_tracks_they_were_measured_on(whole: Store, tmp_path: Path) -> None:
    description = context_lab(tmp_path, groups=["flanks"]) | {"signals": [{"file": write_signals(tmp_path, rows())}]}
    found = context(build(description, tmp_path / "store"))
    names = column_names(["flanks"])
    expected = context(whole)[:, [NAMES.index(name) for name in names]]
    wide = np.array(["window" in name for name in names])
    correlation = [np.corrcoef(*pair)[0, 1] for pair in zip(found.T[wide], expected.T[wide], strict=True)]
    # Pairs of few elements tell little of what is between them, and chance would be 0.
    assert np.median(correlation) > 0.6


def test_an_assay_that_one_line_lacks_is_missing_there_alone_and_only_where_it_is_needed(
    whole: Store, tmp_path: Path
) -> None:
    description = from_tracks(tmp_path)
    (tmp_path / "B.DNase.bedGraph.gz").unlink()
    store = build(description, tmp_path / "store")
    needs = np.array(["DNase" in assays_of(f"context:{name}") for name in NAMES])
    other = store.pairs.line == LINES.index("B")
    expected = context(whole).copy()
    expected[np.ix_(other, needs)] = np.nan
    np.testing.assert_array_equal(context(store), expected)
    (note,) = store.manifest.sources[-1 - (store.manifest.sources[-1]["format"] == "context")]["notes"]
    assert note == "line 'B' has no track of DNase (no B.DNase.bedGraph.gz, for example)"


def test_from_pairs_an_assay_that_one_line_lacks_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    found = []
    for number, without in enumerate((("", ""), ("DNase", "B"))):
        root = tmp_path / str(number)
        table = write_signals(root, rows(), ("CTCF", "DNase"), without)
        store = build(context_lab(root) | {"signals": [{"file": table}]}, root / "store")
        found.append(context(store))
    other = store.pairs.line == LINES.index("B")
    needs = np.array(["DNase" in assays_of(f"context:{name}") for name in NAMES])
    assert np.isnan(found[1][np.ix_(other, needs)]).all()
    np.testing.assert_allclose(found[1][:, ~needs], found[0][:, ~needs], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found[1][~other], found[0][~other])


def test_what_needs_no_assay_is_known_where_none_was_measured(tmp_path: Path) -> None:
    description = context_lab(tmp_path, landscape="tracks", tracks=write_bed_graphs(tmp_path, ["CTCF"]))
    only = "".join(f"chr1\t{start}\t{end}\t{value}\n" for start, end, value in signal("A", "CTCF", "chr1"))
    write(tmp_path / "A.CTCF.bedGraph.gz", only)
    store = build(description, tmp_path / "store")
    chrom = np.array(store.manifest.chroms)[store.enhancers.chrom[store.pairs.enhancer]]
    away = (chrom == "chr2") & (store.pairs.line == LINES.index("A"))
    assert np.isfinite(context(store)[np.ix_(away, NEED_NOTHING)]).all()
    assert np.isnan(context(store)[np.ix_(away, ~NEED_NOTHING)]).all()


def test_a_pair_across_chromosomes_has_no_context(tmp_path: Path) -> None:
    table = [*rows(), "chr1,5000,5600,chr2,9000,11000,10000,1,A"]
    store = build(from_tracks(tmp_path, table), tmp_path / "store")
    across = store.pairs.distance < 0
    assert across.sum() == 1
    assert np.isnan(context(store)[across]).all()
    assert np.isfinite(context(store)[~across]).all()


def test_assays_may_have_other_names_in_files(whole: Store, tmp_path: Path) -> None:
    description = from_tracks(tmp_path, assays={"DNase": "ATAC"})
    for line in LINES:
        (tmp_path / f"{line}.DNase.bedGraph.gz").rename(tmp_path / f"{line}.ATAC.bedGraph.gz")
    np.testing.assert_array_equal(context(build(description, tmp_path / "store")), context(whole))


def test_bad_peaks_are_quarantined_once_though_they_serve_two_purposes(tmp_path: Path) -> None:
    for line in LINES:
        peaks = "".join(f"chr1\t{start}\t{start + 500}\tp\t0\t.\t3\n" for start in range(0, 2_000_000, 5_000))
        write(tmp_path / f"{line}.CTCF.bed", peaks + "chr1\tx\t9\tp\t0\t.\t3\nchr2\t0\t9\tp\t0\t.\t1\n")
    peaks = {"pattern": "{line}.{mark}.bed", "marks": ["CTCF"]}
    store = build(context_lab(tmp_path, landscape="peaks") | {"peaks": peaks}, tmp_path / "store")
    assert store.manifest.counts["quarantine/bad_coordinates"] == 2


def broken(root: Path, how: str) -> dict[str, Any]:
    """A description with one mistake."""
    if how == "no track of a line":
        return context_lab(root, landscape="tracks", tracks=write_bed_graphs(root, lines=["A"]))
    if how == "other chromosomes":
        description = from_tracks(root)
        write(root / "B.CTCF.bedGraph.gz", "NC_1\t0\t9\t1\n")
        return description
    if how == "no such signals":
        signals = write(root / "signals.csv", "enh_name,prom_name,celltype,CTCF\nchr1:1-2,p,A,5\n")
        first = rows()[0].split(",")
        names = f"{first[0]}:{first[1]}-{first[2]},{first[3]}:{first[4]}-{first[5]}"
        write(signals, f"enh_name,prom_name,celltype,CTCF\n{names},A,5\n")
        return context_lab(root) | {"signals": [{"file": "signals.csv"}]}
    if how == "other marks":
        for line in LINES:
            write(root / f"{line}.H2AZ.bed", "chr1\t0\t9\tp\t0\t.\t1\n")
        return context_lab(root, landscape="peaks") | {"peaks": {"pattern": "{line}.{mark}.bed", "marks": ["H2AZ"]}}
    if how == "no genes":
        description = from_tracks(root)
        del description["genes"]
        return description
    settings = {"no signals": {}, "no peaks": {"landscape": "peaks"}, "no tracks": {"landscape": "tracks"}}
    return context_lab(root, **settings.get(how, {"landscape": "tracks", "tracks": "{line}.bw"}))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("no track of a line", "line 'B' has no track at all: {root}/B.CTCF.bedGraph.gz and those of DNase, H3K27ac, "),
        (
            "other chromosomes",
            "{root}/B.CTCF.bedGraph.gz has no signal on any chromosome of the pairs: it has NC_1, they have chr1, chr2",
        ),
        (
            "no such signals",
            "context.landscape=pairs needs signals named `ASSAY (enhancer)`, `ASSAY (promoter)` and `ASSAY (window)`, "
            "and the tables have CTCF; give signal tables, context.assays, or another context.landscape",
        ),
        ("other marks", "peaks.marks (H2AZ) has none of the assays of context (CTCF, DNase"),
        ("no genes", "context group 'order' needs `genes`, an annotation; give it or name other groups"),
        ("no signals", "context.landscape=pairs needs `signals`; give them, or landscape: peaks or tracks"),
        ("no peaks", "context.landscape=peaks needs `peaks`; give them, or landscape: pairs or tracks"),
        ("no tracks", "context.landscape=tracks needs context.tracks, a file name with {{line}} and {{mark}}"),
        ("no mark in the name", "context.tracks must contain {{line}} and {{mark}}"),
    ],
)
def test_a_mistake_in_the_description_is_one_sentence(tmp_path: Path, how: str, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says.format(root=tmp_path))):
        build(broken(tmp_path, how), tmp_path / "store")
    assert not (tmp_path / "store").exists()
