"""Writing, verifying and reading stores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from packed_dna import pack_many

from data_pipeline.dna import unpack
from data_pipeline.errors import UserError
from data_pipeline.store.store import Store
from data_pipeline.store.writer import PAIRS_PER_SHARD, StoreWriter


def small_writer(path: Path) -> StoreWriter:
    return StoreWriter(
        path,
        lines=["K562", "NHEK"],
        chroms=["chr1"],
        windows={"enhancer": 4, "promoter": 6},
        pair_signals=["CTCF (window)"],
        element_signals=["H3K27AC"],
        line_features=[[1.0, 2.0], [3.0, 4.0]],
    )


def fill(writer: StoreWriter) -> None:
    writer.add_elements("enhancer", ["e0", "e1"], [0, 0], [0, 50], [10, 60], [0, 0], pack_many(["ACGT", "TTTT"], 4))
    writer.add_elements("promoter", ["p0"], [0], [100], [200], [-1], pack_many(["GGGGGG"], 6))
    writer.add_element_signals("enhancer", np.array([[[1.0], [2.0]], [[3.0], [4.0]]], dtype=np.float32))
    writer.add_element_signals("promoter", np.array([[[5.0]], [[np.nan]]], dtype=np.float32))
    writer.add_pairs([0, 1, 1], [0, 0, 0], [0, 0, 1], [1, 0, -1], [145, 95, -1], [[0.1], [0.2], [0.3]])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with small_writer(tmp_path / "store") as writer:
        fill(writer)
        writer.commit()
    return tmp_path / "store"


def test_what_was_written_is_read(store: Path) -> None:
    opened = Store.open(store, verify="full")
    assert opened.lines == ["K562", "NHEK"]
    assert opened.line_features.tolist() == [[1, 2], [3, 4]]
    assert opened.enhancers.names == ["e0", "e1"]
    assert [unpack(row) for row in opened.enhancers.packed(np.array([1, 0]))] == ["TTTT", "ACGT"]
    assert (opened.promoters.start[0], opened.promoters.end[0], opened.promoters.strand[0]) == (100, 200, -1)
    assert opened.pairs.label.tolist() == [1, 0, -1]
    assert opened.pairs.distance.tolist() == [145, 95, -1]


def test_signals_of_a_pair_are_its_own_then_its_elements_in_its_line(store: Path) -> None:
    opened = Store.open(store)
    assert opened.signal_names == ["pair:CTCF (window)", "enhancer:H3K27AC", "promoter:H3K27AC"]
    np.testing.assert_allclose(opened.signals(np.array([2, 0])), [[0.3, 4.0, np.nan], [0.1, 1.0, 5.0]])


def test_build_genes_weights_and_effects_are_kept_where_they_are_told(tmp_path: Path, store: Path) -> None:
    with StoreWriter(tmp_path / "told", ["K562"], ["chr1"], {"enhancer": 0, "promoter": 0}, build="hg38") as writer:
        writer.add_elements("enhancer", ["e"], [0], [0], [9], [0])
        writer.add_elements("promoter", ["p"], [0], [50], [59], [1], genes=["MYC"], gene_ids=["ENSG00000136997"])
        writer.add_pairs([0], [0], [0], [1], [50], weight=[0.75], effect=[-0.4])
        writer.commit()
    told, untold = Store.open(tmp_path / "told"), Store.open(store)
    assert told.manifest.build == "hg38"
    assert (told.promoters.genes, told.promoters.gene_ids, told.enhancers.genes) == (["MYC"], ["ENSG00000136997"], [""])
    assert (told.pairs.weight.tolist(), told.pairs.effect.tolist()) == ([0.75], [np.float32(-0.4)])
    assert (untold.manifest.build, untold.promoters.genes, untold.pairs.weight.tolist()) == ("", [""], [1, 1, 1])
    assert np.isnan(untold.pairs.effect).all()
    assert "build" not in json.loads((store / "manifest.json").read_text(encoding="utf-8"))


def test_rows_are_gathered_across_shards(tmp_path: Path, store: Path) -> None:
    rows = PAIRS_PER_SHARD + 3
    with StoreWriter(tmp_path / "large", ["K562"], ["chr1"], {"enhancer": 0, "promoter": 0}) as writer:
        for kind in ("enhancer", "promoter"):
            writer.add_elements(kind, ["x"], [0], [0], [9], [0])
        zeros = np.zeros(rows, dtype=np.int32)
        writer.add_pairs(zeros, zeros, zeros, zeros, np.arange(rows))
        manifest = writer.commit()
    large = Store.open(tmp_path / "large")
    assert sum(name.startswith("pairs/") for name in manifest.files) == 2
    wanted = np.array([rows - 1, 0, rows - 4, 5])
    assert large.pairs.columns.take("distance", wanted).tolist() == wanted.tolist()
    assert len(large.pairs) == rows


def test_the_same_content_has_the_same_checksum(tmp_path: Path, store: Path) -> None:
    with small_writer(tmp_path / "again") as writer:
        fill(writer)
        again = writer.commit()
    assert Store.open(store).checksum == again.checksum


def test_nothing_is_left_without_commit(tmp_path: Path) -> None:
    with small_writer(tmp_path / "store") as writer:
        fill(writer)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_path_is_refused(store: Path) -> None:
    with pytest.raises(UserError, match=r"store exists already; give another --out or remove it first"):
        small_writer(store)


def test_a_store_without_pairs_is_refused(tmp_path: Path) -> None:
    with small_writer(tmp_path / "store") as writer, pytest.raises(UserError, match="the store would have no pairs"):
        writer.commit()


def test_a_missing_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"store .*nowhere does not exist; make one with"):
        Store.open(tmp_path / "nowhere")


def test_a_folder_that_is_no_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a store: it has no manifest\.json"):
        Store.open(tmp_path)


def test_a_missing_shard_is_named(store: Path) -> None:
    (store / "pairs" / "00000.arrow").unlink()
    with pytest.raises(UserError, match=r"pairs/00000\.arrow is missing; ingest the store again or restore the file"):
        Store.open(store)


def test_a_truncated_shard_is_named_without_reading_it(store: Path) -> None:
    shard = store / "enhancers" / "00000.arrow"
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(UserError, match=r"enhancers/00000\.arrow has \d+ bytes instead of \d+ \(truncated"):
        Store.open(store)


def test_a_flipped_bit_is_found_by_full_verification(store: Path) -> None:
    shard = store / "pairs" / "00000.arrow"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"pairs/00000\.arrow does not match its sha256"):
        Store.open(store, verify="full")


def test_an_edited_manifest_is_refused(store: Path) -> None:
    file = store / "manifest.json"
    content = json.loads(file.read_text())
    content["lines"] = ["K562", "HeLa"]
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="does not match its own checksum"):
        Store.open(store)


def test_another_schema_version_is_refused(store: Path) -> None:
    file = store / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 0}))
    with pytest.raises(UserError, match="has schema version 0, this program reads 1"):
        Store.open(store)


def test_a_damaged_manifest_is_named(store: Path) -> None:
    file = store / "manifest.json"
    file.write_text(file.read_text()[:-20])
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        Store.open(store)
