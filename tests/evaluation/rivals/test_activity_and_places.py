"""Scores of the untrained rivals, computed by hand."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.rivals.activity import activity_by_contact, activity_by_distance
from evaluation.rivals.pairs import NotApplicable, PairData, Places, without_context
from evaluation.rivals.places import nearest_gene, within_100_kb

NONE = np.empty((4, 0), dtype=np.uint8)
FAR = (35_000 / 5_000 + 1) ** -0.87


def pairs(**changes):
    """Four pairs of two enhancers with two promoters in one line; the first enhancer is 0 and 35 kb away, ..."""
    own = PairData(
        labels=np.array([1, 0, 0, 1], np.int8),
        distance=np.array([0.0, 35_000.0, 35_000.0, np.nan]),
        enhancer=np.array([0, 0, 1, 1]),
        promoter=np.array([0, 1, 0, 1]),
        line=np.zeros(4, np.int64),
        enhancer_packed=NONE,
        promoter_packed=NONE,
        signals=np.array([[4, 9, 7], [4, 9, 7], [1, 4, 7], [1, np.nan, 7]], np.float32),
        signal_names=("pair:DNase (enhancer)", "pair:H3K27ac (enhancer)", "pair:DNase (promoter)"),
    )
    return replace(own, **changes)


def test_activity_by_distance_is_the_geometric_mean_times_the_power_law_and_0_without_a_number():
    assert activity_by_distance(pairs(), pairs()) == pytest.approx([6.0, 6.0 * FAR, 2.0 * FAR, 0.0])


def test_abc_divides_by_the_sum_over_the_elements_of_the_promoter_in_the_line():
    sums = [6.0 + 2.0 * FAR, 6.0 * FAR]
    expected = [6.0 / sums[0], 1.0, 2.0 * FAR / sums[0], 0.0]
    assert activity_by_contact(pairs(), pairs()) == pytest.approx(expected)
    other_line = pairs(line=np.array([0, 0, 1, 1]))
    assert activity_by_contact(other_line, other_line) == pytest.approx([1.0, 1.0, 1.0, 0.0])


def test_abc_sums_over_all_pairs_of_the_line_and_not_only_over_those_asked():
    everything = pairs()
    names = ("labels", "distance", "enhancer", "promoter", "line", "signals")
    first = replace(everything, **{name: getattr(everything, name)[:1] for name in names}, around=pairs)
    assert activity_by_contact(first, first) == pytest.approx([6.0 / (6.0 + 2.0 * FAR)])


def test_abc_of_the_context_is_taken_where_the_store_has_it_and_left_with_the_context():
    signals = np.column_stack([pairs().signals, np.array([0.4, 0.3, 0.2, np.nan], np.float32)])
    told = pairs(signals=signals, signal_names=(*pairs().signal_names, "context:activity/abc [DNase+H3K27ac]"))
    assert activity_by_contact(told, told) == pytest.approx([0.4, 0.3, 0.2, 0.0])
    bare = without_context(told)
    assert bare.signal_names == pairs().signal_names
    assert activity_by_contact(bare, bare) == pytest.approx(activity_by_contact(pairs(), pairs()))


def test_activity_is_what_one_assay_says_where_the_other_is_missing():
    alone = pairs(signals=pairs().signals[:, :1], signal_names=("enhancer:ATAC",))
    assert activity_by_distance(alone, alone)[:3] == pytest.approx([4.0, 4.0 * FAR, FAR])


@pytest.mark.parametrize(
    ("names", "reason"),
    [(("a", "pair:DNase (promoter)", "pair:H3K27ac (window)"), "DNase, DHS, ATAC or H3K27ac")],
)
def test_activity_without_a_signal_at_the_enhancer_says_so(names, reason):
    own = pairs(signal_names=names)
    for rival in (activity_by_contact, activity_by_distance):
        with pytest.raises(NotApplicable, match=reason):
            rival(own, own)


def test_unknown_distances_leave_out_what_needs_them():
    own = pairs(distance=np.full(4, -1.0))
    for rival in (activity_by_contact, activity_by_distance, within_100_kb):
        with pytest.raises(NotApplicable, match="known distance"):
            rival(own, own)


def test_within_100_kb_holds_its_bound_and_says_no_of_an_unknown_distance():
    own = pairs(distance=np.array([100_000.0, 100_001.0, -1.0, np.nan]))
    assert within_100_kb(own, own).tolist() == [1, 0, 0, 0]


def test_the_nearest_gene_is_sought_among_all_promoters_of_the_chromosome_gene_by_gene():
    # Chromosome 0 has promoters at 100 and 1,000 (gene 5, two of them) and 400 (gene 6); chromosome 1 one at 300.
    places = Places(
        enhancer_chrom=np.array([0, 0, 1, -1]),
        enhancer=np.array([120, 500, 500, 0]),
        promoter_chrom=np.array([0, 0, 0, 1]),
        promoter=np.array([100, 1_000, 400, 300]),
        gene=np.array([5, 5, 6, 7]),
    )
    own = pairs(places=places, enhancer=np.array([0, 0, 1, 1]), promoter=np.array([1, 2, 2, 0]))
    # The far promoter of the nearest gene counts as that gene.
    assert nearest_gene(own, own).tolist() == [1, 0, 1, 0]
    elsewhere = pairs(places=places, enhancer=np.array([2, 2, 3, 3]), promoter=np.array([3, 2, 3, 0]))
    assert nearest_gene(elsewhere, elsewhere).tolist() == [1, 0, 0, 0]


def test_two_genes_equally_near_are_both_nearest():
    places = Places(
        *(np.zeros(1, np.int64), np.array([500])), *(np.zeros(2, np.int64), np.array([400, 600])), np.arange(2)
    )
    own = pairs(places=places, enhancer=np.zeros(4, np.int64), promoter=np.array([0, 1, 0, 1]))
    assert nearest_gene(own, own).tolist() == [1, 1, 1, 1]


def test_elements_without_a_place_have_no_nearest_gene():
    with pytest.raises(NotApplicable, match="where its elements lie"):
        nearest_gene(pairs(), pairs())
