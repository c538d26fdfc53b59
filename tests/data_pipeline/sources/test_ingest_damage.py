"""Any damage to any input file ends in a sentence, or in a store whose counts add up to the lines of the file."""

from __future__ import annotations

import itertools
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_sources import CHR20, bengi, build, quarantined, write

from data_pipeline.errors import UserError
from data_pipeline.store.store import Store

GENES = "enhancer_chrom,enhancer_start,enhancer_end,promoter_chrom,promoter_start,promoter_end,label,gene,tss\n"
ROWS = 8


def sources() -> dict[str, tuple[dict[str, Any], str]]:
    """A pair source of each format, and its file's text."""
    numbers = range(ROWS)
    csv = "".join(f'chr20,{9 * n},{9 * n + 90},chr20,1000,2000,{n % 2},"G{n % 3}, x",15{n % 3}0\n' for n in numbers)
    names = "enhancer_chrom,enhancer_start,enhancer_end,enhancer_name,promoter_chrom,promoter_start,promoter_end,"
    ends = [f"chr20,{9 * n},{9 * n + 90},K562|chr20:{9 * n}-{9 * n + 90},chr20,1000,2000,K562|P," for n in numbers]
    places = [f"chr20\t{9 * n}\t{9 * n + 90}\tchr20\t1000\t2000\tx\t0\t.\t.\t{n % 2}\n" for n in numbers]
    return {
        "bengi": ({}, "".join(bengi(n % 2, ("chr20", 9 * n, 9 * n + 90), 2000) + "\n" for n in numbers)),
        "targetfinder": (
            {},
            f"{names}promoter_name,label\n" + "".join(f"{end}{n % 2}\n" for n, end in enumerate(ends)),
        ),
        "bedpe": ({"line": "K562"}, "# pairs\n" + "".join(places)),
        "csv": ({"line": "K562", "columns": {"promoter_name": "gene", "tss": "tss"}}, GENES + csv),
        "sequences": (
            {"line": "K562", "enhancer_sequences": "e.csv", "promoter_sequences": "p.fa"},
            "enhancer_name,promoter_name,label\n" + "".join(f"e{n},p{n % 2},{n % 2}\n" for n in numbers),
        ),
    }


DAMAGE = st.lists(
    st.tuples(
        st.integers(0, 700),
        st.integers(0, 4),
        st.one_of(st.sampled_from([b'"', b"\n", b"\r", b"\t", b",", b"#", b"\0", b"-", b"inf"]), st.binary(max_size=3)),
    ),
    min_size=1,
    max_size=5,
)


def damaged(content: bytes, damage: list[tuple[int, int, bytes]]) -> bytes:
    """`content` with stretches (place, length) replaced by other bytes."""
    for place, length, new in damage:
        content = content[: place % (len(content) + 1)] + new + content[place % (len(content) + 1) + length :]
    return content


def lab(root: Path, format: str) -> dict[str, Any]:
    """One line on chr20 with pairs in `format`, a signal table and a peak file; all rows may be bad."""
    own, text = sources()[format]
    write(root / "pairs", text)
    write(root / "chr20.fa", f">chr20\n{CHR20}\n")
    write(root / "e.csv", "region,sequence\n" + "".join(f"e{n},ACGT{'ACGT'[n % 4]}\n" for n in range(ROWS)))
    write(root / "p.fa", ">p0 x\nACGT\nAA\n>p1\nCC\n")
    return {
        "root": str(root),
        "lines": ["K562"],
        "windows": {"enhancer": 20, "promoter": 20},
        "genome": ["chr20.fa"],
        "pairs": [{"format": format, "file": "pairs", "max_bad_fraction": 1.0} | own],
    }


def lines_of(content: bytes) -> int:
    """Physical lines, however they end."""
    return len(re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z", content))


def accounted(store: Store, name: str) -> int:
    """Lines of the table of pairs `name` that a store says something of."""
    report = next(report for report in store.manifest.sources if report["file"] == name)
    rejected = Counter(file for file, _, _ in quarantined(store.path / "quarantine"))[name]
    keys = ("pairs", "duplicates", "outside_regions", "comments", "blank")
    return sum(report.get(key, 0) for key in keys) + rejected + (report["format"] not in ("bengi", "bedpe"))


def outcome(description: dict[str, Any], root: Path) -> Store | None:
    """The store, or None where the ingest ended in a sentence."""
    try:
        return build(description, root / "store")
    except UserError:
        return None


often = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("format", sources())
def test_damaged_pairs_are_counted_or_refused(format: str) -> None:
    @often
    @given(DAMAGE)
    def holds(damage: list[tuple[int, int, bytes]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            description = lab(root, format)
            content = damaged((root / "pairs").read_bytes(), damage)
            (root / "pairs").write_bytes(content)
            if store := outcome(description, root):
                assert accounted(store, "pairs") == lines_of(content)

    holds()


@pytest.mark.parametrize("name", ["signals", "K562.CTCF", "e.csv", "p.fa", "chr20.fa"])
def test_damage_to_the_other_files_is_counted_or_refused_and_leaves_finite_values(name: str) -> None:
    @often
    @given(DAMAGE)
    def holds(damage: list[tuple[int, int, bytes]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            description = lab(root, "csv" if name in ("signals", "K562.CTCF", "chr20.fa") else "sequences")
            pairs = itertools.product(range(3), range(ROWS))
            rows = (f'chr20:{9 * n}-{9 * n + 90},"G{g}, x",K562,{n}.5,{n}\n' for g, n in pairs)
            write(root / "signals", "enh_name,prom_name,celltype,CTCF,DNase\n" + "".join(rows))
            write(root / "K562.CTCF", "".join(f"chr20\t{99 * n}\t{99 * n + 50}\tp\t0\t.\t{n}.5\n" for n in range(ROWS)))
            if description["pairs"][0]["format"] == "csv":
                description["signals"] = [{"file": "signals", "max_bad_fraction": 1.0}]
                description["peaks"] = {"pattern": "{line}.{mark}", "marks": ["CTCF"], "max_bad_fraction": 1.0}
            (root / name).write_bytes(damaged((root / name).read_bytes(), damage))
            if store := outcome(description, root):
                assert not np.isinf(store.signals(np.arange(len(store.pairs)))).any()

    holds()
