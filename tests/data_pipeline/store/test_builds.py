"""Names of genome builds."""

from __future__ import annotations

import pytest

from data_pipeline.store.builds import canonical_build, same_build


@pytest.mark.parametrize("name", ["hg38", "GRCh38", "GRCh38.p14", "grch38 ", "Hg38"])
def test_names_of_one_build_are_one(name: str) -> None:
    assert canonical_build(name) == "hg38"


def test_unknown_builds_may_be_any_and_others_are_compared_by_name() -> None:
    assert same_build("", "hg19")
    assert same_build("GRCh37", "hg19")
    assert same_build("dm6", "DM6")
    assert not same_build("hg19", "hg38")
    assert not same_build("dm6", "hg38")
