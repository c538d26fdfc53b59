"""Genome builds by the names people give them: hg19 and GRCh37 are one, GRCh38.p14 is hg38."""

from __future__ import annotations

import re

SYNONYMS = {
    "hg18": r"hg18|ncbi_?36|b36",
    "hg19": r"hg19|grch_?37|b37|hs37d5|g1k_v37",
    "hg38": r"hg38|grch_?38|b38|hs38dh?",
    "hs1": r"hs1|t2t-?chm13(v\d+(\.\d+)?)?|chm13(v\d+(\.\d+)?)?",
    "mm10": r"mm10|grcm_?38",
    "mm39": r"mm39|grcm_?39",
}
"""The name that stands for a build, and what else it is called (in lower case, without a patch number)."""


def canonical_build(name: str) -> str:
    """One name per build: UCSC's where it is known, otherwise `name` in lower case without a patch; "" stays ""."""
    bare = re.sub(r"[.]p\d+$", "", name.strip().lower())
    return next((known for known, names in SYNONYMS.items() if re.fullmatch(names, bare)), bare)


def same_build(one: str, other: str) -> bool:
    """Whether two names may be of one build; an empty name is unknown, and may be any."""
    return not one or not other or canonical_build(one) == canonical_build(other)
