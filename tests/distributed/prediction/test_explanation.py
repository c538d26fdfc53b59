"""Which signals belong together in an explanation."""

from __future__ import annotations

import pytest

from distributed.prediction.explanation import group_of


@pytest.mark.parametrize(
    ("signal", "group"),
    [
        ("enhancer:H3K27ac", "enhancer"),
        ("pair:match_activity", "pair"),
        ("pair:context:barrier/max_between", "barrier"),
        ("context:order/nearer_to_enhancer", "order"),
        ("promoter:my:mark/2", "promoter"),
    ],
)
def test_signals_are_grouped_by_owner_or_by_the_kind_of_context(signal: str, group: str) -> None:
    assert group_of(signal) == group
