"""Which tables distributed/predict.py reads and writes, and what the end of a file's name says about them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from data_pipeline.errors import UserError

Format = Literal[
    "csv",
    "tsv",
    "bedpe",
    "bengi",
    "targetfinder",
    "sequences",
    "abc",
    "encode_re2g",
    "sce2g",
    "candidates",
    "loops",
]
SUFFIXES: dict[str, Format] = {".csv": "csv", ".tsv": "tsv", ".txt": "tsv", ".bedpe": "bedpe"}
WRITTEN = (".parquet", ".tsv")


def require_suffix(out: Path) -> None:
    """Raise `UserError` if the name of `out` does not say how to write it."""
    if out.suffix not in WRITTEN:
        raise UserError(f"{out} must end in {' or '.join(WRITTEN)}, which says how it is written")
