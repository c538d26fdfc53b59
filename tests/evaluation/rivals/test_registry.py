"""Claims about the rivals on tiny data whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
from packed_dna import pack_many, reverse_complement

from evaluation.metrics import auroc
from evaluation.rivals.boosting import signal_boosting
from evaluation.rivals.fitted import distance_only, element_propensity
from evaluation.rivals.kmers import kmer_frequencies, kmer_logistic
from evaluation.rivals.pairs import NotApplicable, PairData, Places
from evaluation.rivals.registry import RIVALS, UNTRAINED, score_rivals

NAMES = ("pair:DNase (enhancer)", "pair:H3K27ac (enhancer)", "pair:CTCF (window)")
EMPTY = np.empty((50, 0), dtype=np.uint8)


def pairs(n=300, seed=0):
    """Pairs of 50 enhancers and 50 promoters without signal; every test plants its own."""
    generator = np.random.default_rng(seed)
    letters = generator.choice(list("ACGT"), (100, 40))
    packed = pack_many(["".join(row) for row in letters], 40)
    return PairData(
        labels=(generator.random(n) < 0.3).astype(np.int8),
        distance=generator.integers(1000, 10**6, n).astype(np.float32),
        enhancer=generator.integers(0, 50, n),
        promoter=generator.integers(0, 50, n),
        line=generator.integers(0, 2, n),
        enhancer_packed=packed[:50],
        promoter_packed=packed[50:],
        signals=generator.normal(size=(n, 3)).astype(np.float32),
        signal_names=NAMES,
        places=Places(
            enhancer_chrom=np.arange(50) % 2,
            enhancer=generator.integers(0, 10**7, 50),
            promoter_chrom=np.arange(50) % 2,
            promoter=generator.integers(0, 10**7, 50),
            gene=np.arange(50),
        ),
    )


def test_every_rival_scores_every_pair_and_is_deterministic():
    train, test = pairs(seed=1), pairs(seed=2)
    first, left_out = score_rivals(train, test)
    again, _ = score_rivals(train, test)
    assert set(first) == set(RIVALS)
    assert not left_out
    for name, scores in first.items():
        assert scores.shape == test.labels.shape
        assert np.isfinite(scores).all()
        assert (scores == again[name]).all()


def test_distance_baseline_ranks_near_pairs_first_and_survives_unknown_distances():
    data = pairs()
    data = replace(data, labels=(data.distance < 3e5).astype(np.int8))
    unknown = data.distance.copy()
    unknown[::10], unknown[1::10] = np.nan, -1
    holed = replace(data, distance=unknown)
    scores = distance_only(holed, holed)
    known = np.nan_to_num(unknown, nan=-1) >= 0
    assert auroc(data.labels[known], scores[known]) > 0.98
    assert np.isfinite(scores).all()


def test_propensity_knows_an_element_from_training_and_nothing_of_an_unseen_one():
    data = pairs()
    data = replace(data, labels=(data.promoter < 10).astype(np.int8))
    unseen = replace(data, enhancer=data.enhancer + 100, promoter=data.promoter + 100)
    assert auroc(data.labels, element_propensity(data, data)) > 0.98
    assert np.ptp(element_propensity(data, unseen)) == 0
    assert element_propensity(data, unseen)[0] == pytest.approx(np.log(data.labels.mean() / (1 - data.labels.mean())))


def test_propensity_does_not_read_the_labels_of_the_test_pairs():
    train, test = pairs(seed=1), pairs(seed=2)
    flipped = replace(test, labels=1 - test.labels)
    for baseline in RIVALS.values():
        assert (baseline(train, test) == baseline(train, flipped)).all()


def test_unknown_labels_are_not_trained_on():
    train, test = pairs(seed=1), pairs(seed=2)
    hidden = np.arange(300) % 3 == 0
    partly = replace(train, labels=np.where(hidden, -1, train.labels).astype(np.int8))
    kept = replace(
        partly,
        **{name: getattr(partly, name)[~hidden] for name in ("labels", "distance", "enhancer", "promoter", "line")},
        signals=partly.signals[~hidden],
    )
    for baseline in RIVALS.values():
        np.testing.assert_allclose(baseline(partly, test), baseline(kept, test), rtol=1e-4, atol=1e-4)


def test_kmer_frequencies_equal_a_count_by_hand():
    row = kmer_frequencies(pack_many(["ACGTN"], 6), k=2)[0]
    # canonical 2-mers in order: AA AC AG AT CA CC CG GA GC TA; AC and GT are one
    assert row.tolist() == pytest.approx([0, 2 / 3, 0, 0, 0, 0, 1 / 3, 0, 0, 0])


def test_kmer_frequencies_do_not_change_under_reverse_complement():
    packed = pairs().enhancer_packed
    assert (kmer_frequencies(packed) == kmer_frequencies(reverse_complement(packed))).all()


def test_kmer_frequencies_of_padding_and_of_a_sequence_shorter_than_k_are_zero():
    assert not kmer_frequencies(pack_many(["N", "NNAC"], 8)).any()
    assert kmer_frequencies(pack_many(["AC"], 2)).shape == (1, 136)


def test_kmer_baseline_finds_a_planted_composition():
    data = pairs()
    rich = pack_many(["ACGT" * 10] * 10, 40)
    data = replace(
        data, labels=(data.enhancer < 10).astype(np.int8), enhancer_packed=np.vstack([rich, data.enhancer_packed[10:]])
    )
    assert auroc(data.labels, kmer_logistic(data, data)) == 1.0


def test_boosting_finds_a_planted_signal_with_missing_values():
    data = pairs(1000)
    signals = data.signals.copy()
    signals[::7, 1] = np.nan
    signals[:, 2] = np.nan
    data = replace(data, labels=(data.signals[:, 0] > 0.5).astype(np.int8), signals=signals)
    assert auroc(data.labels, signal_boosting(data, data)) > 0.98


@pytest.mark.parametrize(
    ("baseline", "change", "reason"),
    [
        (distance_only, {"distance": np.full(300, np.nan, np.float32)}, "known distance"),
        (kmer_logistic, {"enhancer_packed": EMPTY}, "no sequences"),
        (signal_boosting, {"signals": np.empty((300, 0), np.float32), "signal_names": ()}, "no signals"),
        (signal_boosting, {"signals": np.full((300, 3), np.nan, np.float32)}, "has signals"),
    ],
)
def test_a_rival_that_does_not_apply_is_left_out_with_its_reason(baseline, change, reason):
    data = replace(pairs(), **change)
    with pytest.raises(NotApplicable, match=reason):
        baseline(data, data)
    scores, left_out = score_rivals(data, data)
    assert set(scores) | set(left_out) == set(RIVALS)
    assert [text for text in left_out.values() if reason in text]


def test_training_pairs_of_one_class_leave_out_every_rival_that_is_trained():
    data = replace(pairs(), labels=np.zeros(300, np.int8))
    scores, left_out = score_rivals(data, data)
    assert set(scores) == set(UNTRAINED)
    assert set(left_out) == set(RIVALS) - set(UNTRAINED)
