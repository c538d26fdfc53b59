"""How a promoter compares with the other annotated promoters within reach of the enhancer."""

from __future__ import annotations

import pytest
from tiny_scenes import Stretch, scene

from data_pipeline.context.promoter_rank import COLUMNS, promoter_rank

E, P = 2_000_000, 2_200_000
WEAK, STRONG, EDGE, OUT = E - 300_000, E + 400_000, E + 500_000, E + 502_000


def at(tss: int, value: float) -> Stretch:
    return tss - 1000, tss + 1000, value


DNASE = [at(P, 4), at(WEAK, 1), at(STRONG, 8), at(EDGE, 2), at(OUT, 99)]
ACETYL = [at(P, 9), at(WEAK, 100), at(STRONG, 0.5)]


def told(genes: list[int], mirror: bool = False) -> dict[str, float]:
    values = promoter_rank(scene([(E, P)], genes, mirror, DNase=DNASE, H3K27ac=ACETYL))[0]
    return dict(zip([column.name for column in COLUMNS], values.tolist(), strict=True))


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("own", [P, P + 100])
def test_the_other_promoters_within_500_kb_of_the_enhancer_compete(own: int, mirror: bool) -> None:
    found = told([WEAK, own, STRONG, EDGE, OUT], mirror)
    assert found["DNase_rank"] == pytest.approx(2 / 3)  # of three others two are weaker
    assert found["DNase_over_strongest"] == pytest.approx(4 / 8)
    assert found["H3K27ac_rank"] == pytest.approx(2 / 3)
    assert found["H3K27ac_over_strongest"] == pytest.approx(9 / 100)
    # Geometric means: 6 here, 10 and 2 at the others.
    assert found["DNase_H3K27ac_rank"] == pytest.approx(2 / 3)
    assert found["DNase_H3K27ac_over_strongest"] == pytest.approx(6 / 10)


def test_a_promoter_without_others_is_the_strongest_and_one_without_signal_is_nothing() -> None:
    for genes in ([], [P], [OUT]):
        found = told(genes)
        assert found["DNase_over_strongest"] == 1.0
        assert found["DNase_rank"] == found["CTCF_rank"] == found["CTCF_over_strongest"] == 0.0
