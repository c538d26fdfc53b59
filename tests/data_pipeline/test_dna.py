"""Packed DNA (algorithms.md 12)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packed_dna import pack_many, reverse_complement

from data_pipeline.dna import IUPAC, first_bad_letter, one_hot_table, pack, unpack

LETTERS = IUPAC[1:]
COMPLEMENT = dict(zip("ACGTMRWSYKVHDBN", "TGCAKYWSRMBDHVN", strict=True))


@given(st.text(alphabet=LETTERS, min_size=0, max_size=64).filter(lambda text: len(text) % 2 == 0))
def test_T12_2_pack_and_unpack_round_trip_all_iupac_letters(sequence: str) -> None:
    assert unpack(pack(sequence, len(sequence))) == sequence


@given(st.text(alphabet=LETTERS, min_size=0, max_size=64).filter(lambda text: len(text) % 2 == 0))
def test_T12_2_reverse_complement_is_the_letterwise_complement_read_backwards(sequence: str) -> None:
    expected = "".join(COMPLEMENT[letter] for letter in reversed(sequence))
    assert unpack(reverse_complement(pack(sequence, len(sequence)))) == expected


def test_T12_2_complement_of_a_nibble_is_its_bit_reversal() -> None:
    for nibble, letter in enumerate(IUPAC[1:], start=1):
        complement = IUPAC.index(COMPLEMENT[letter])
        assert f"{complement:04b}" == f"{nibble:04b}"[::-1]


def test_first_base_of_a_byte_is_its_high_nibble() -> None:
    assert pack("AT", 2).tolist() == [0x18]


def test_lower_case_and_uracil_are_read() -> None:
    assert unpack(pack("acgu", 4)) == "ACGT"


def test_short_sequences_are_padded_and_long_ones_cropped_evenly() -> None:
    assert unpack(pack("AC", 6)) == "NNACNN"
    assert unpack(pack("GGACGG", 2)) == "AC"


def test_n_is_the_zero_vector_and_ambiguous_letters_are_shared() -> None:
    table = one_hot_table()
    rows = table[pack("NARB", 4)].reshape(4, 4)
    np.testing.assert_allclose(
        rows, [[0, 0, 0, 0], [1, 0, 0, 0], [0.5, 0, 0.5, 0], [0, 1 / 3, 1 / 3, 1 / 3]], rtol=1e-6
    )


def test_the_first_bad_letter_is_named_with_its_position() -> None:
    assert first_bad_letter("ACGJ") == (3, "J")
    assert first_bad_letter("ACGé") == (3, "é")
    assert first_bad_letter("ACGN") is None
    assert first_bad_letter("") is None


def test_packing_refuses_odd_lengths_and_bad_letters() -> None:
    with pytest.raises(ValueError, match="even"):
        pack("ACG", 3)
    with pytest.raises(ValueError, match="letter 'Z' at position 1"):
        pack("AZ", 2)


def test_packing_nothing_gives_an_empty_table() -> None:
    assert pack_many([], 4).shape == (0, 2)
