"""A few-line genome, tables and peaks in the public files' own formats, written to a folder."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

from data_pipeline.settings import validate
from data_pipeline.store import Store
from data_pipeline.store_ingest import ingest
from data_pipeline.store_settings import StoreSettings

CHR20 = "".join(random.Random(20).choices("ACGT", k=6000))
CHRX = "".join(random.Random(23).choices("ACGT", k=4000))


def bengi(
    label: int | str, enhancer: tuple[str, int, int], tss: int, strand: str = "+", line: str = "K562", n: int = 1
) -> str:
    """One BENGI row; the promoter is the 2 kb around `tss` as BENGI cuts it, `n` tells its transcript."""
    chrom, start, end = enhancer
    left = tss - 1499 if strand == "+" else tss - 499
    promoter = f"{chrom}:{tss}-{tss + 1}|{line}|ENSG1.1|ENST{n}.1|{strand}"
    fields = [label, 100.0, chrom, start, end, f"{chrom}:{start}-{end}|{line}|EH1", chrom, left, left + 2000, promoter]
    return "\t".join(map(str, fields))


def write(path: Path, text: str) -> Path:
    """Write text, gzipped where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def lab(root: Path, rows: list[str] | None = None) -> dict[str, Any]:
    """Write genome and one BENGI table below `root`; returns settings that describe a store of them."""
    wrapped = "\n".join(CHR20[i : i + 60] for i in range(0, len(CHR20), 60))
    write(root / "chr20.fa.gz", f">20\n{wrapped}\n")
    write(root / "chrX.fa", f">X  gi|224589822|ref|NC_000023.10|\n{CHRX}\n")
    if rows is None:
        rows = [
            bengi(1, ("chr20", 3000, 3400), 2000),
            bengi(0, ("chr20", 3600, 3700), 2000),
            bengi(0, ("chr20", 3000, 3400), 4000, "-"),
            bengi(1, ("chrX", 1000, 1100), 2200, line="NHEK"),
        ]
    write(root / "pairs.tsv.gz", "".join(row + "\n" for row in rows))
    return {
        "root": str(root),
        "lines": ["K562", "NHEK"],
        "windows": {"enhancer": 200, "promoter": 300},
        "genome": ["chr20.fa.gz", "chrX.fa"],
        "pairs": [{"format": "bengi", "file": "pairs.tsv.gz", "max_bad_fraction": 1.0}],
    }


def build(description: dict[str, Any], out: Path) -> Store:
    """Ingest a description and open the store with every checksum verified."""
    ingest(validate(StoreSettings, description, "test"), out)
    return Store.open(out, verify="full")


def quarantined(out: Path) -> list[tuple[str, int, str]]:
    """(file, line, reason) of every row in a quarantine folder, sorted."""
    # Rows may hold characters that `splitlines` takes for a line's end.
    rows = [text.split("\t") for file in out.iterdir() for text in file.read_text("utf-8").split("\n")[1:-1]]
    return sorted((row[0], int(row[1]), row[2]) for row in rows)
