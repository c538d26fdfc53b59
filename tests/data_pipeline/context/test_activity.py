"""Activity by contact, and shares in a neighbourhood."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_scenes import scene

from data_pipeline.context.activity import COLUMNS, activity, contact

E, P, OTHER, OUT = 2_005_000, 2_105_000, 1_905_000, 2_605_001


def told(mirror: bool = False, genes: tuple[int, ...] = (P, OTHER, OUT), rival: float = 0.0) -> dict[str, float]:
    dnase = [(E - 200, E + 200, 4.0)] + [(2_200_000, 2_210_000, rival)] * (rival > 0)
    acetyl = [(E - 200, E + 200, 9.0)] + [(2_200_000, 2_210_000, rival)] * (rival > 0)
    ctcf = [(P - 15_000, P + 15_000, 1.0), (OTHER - 15_000, OTHER + 15_000, 3.0)]
    values = activity(scene([(E, P)], list(genes), mirror, DNase=dnase, H3K27ac=acetyl, CTCF=ctcf))[0]
    return dict(zip([column.name for column in COLUMNS], values.tolist(), strict=True))


def test_contact_is_the_power_law_of_the_distance() -> None:
    np.testing.assert_allclose(contact(np.array([0, 5_000, 95_000])), [1.0, 2**-0.87, 20**-0.87])


@pytest.mark.parametrize("mirror", [False, True])
def test_shares_of_a_pair_worked_out_by_hand(mirror: bool) -> None:
    found = told(mirror)
    assert found["contact_share"] == pytest.approx(1 / 2)  # the other gene is as far, the third is out of reach
    assert found["ctcf_share"] == pytest.approx(1 / 4)
    # Nothing else is active near the gene: of its bin, the 400 bp have 2 x 200 / 500, as the landscape's grid has it.
    assert found["abc"] == pytest.approx(0.4 / 1.4)


def test_activity_is_the_root_of_the_product_times_the_length() -> None:
    whole = scene([(2_000_250, P)], [], DNase=[(2_000_000, 2_000_500, 4.0)], H3K27ac=[(2_000_000, 2_000_500, 9.0)])
    assert activity(whole)[0, 0] == pytest.approx(400 * 6)


def test_a_rival_enhancer_takes_its_share_by_its_contact() -> None:
    alone, beside = told(), told(rival=5.0)
    own = alone["activity"] * contact(np.array(100_000))
    bin_own = own * (1 - alone["abc"]) / alone["abc"]
    rival = 50_000 * contact(np.array(100_000))
    assert beside["abc"] == pytest.approx(own / (own + bin_own + rival), rel=1e-6)


def test_the_own_gene_counts_once_wherever_the_annotation_has_it() -> None:
    for genes in ((P, OTHER), (P + 1, OTHER), (OTHER,)):
        found = told(genes=genes)
        assert (found["contact_share"], found["ctcf_share"]) == pytest.approx((1 / 2, 1 / 4))
    nobody = told(genes=())
    assert nobody["contact_share"] == nobody["ctcf_share"] == 1.0


def test_no_signal_is_no_share() -> None:
    empty = activity(scene([(E, P)], [P], H3K9me3=[(0, 500, 1.0)]))[0]
    assert empty.tolist() == [0.0, 0.0, 1.0, 0.0]
