"""Which tables distributed/predict.py reads, and what the end of a file's name says about them."""

from __future__ import annotations

from typing import Literal

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
