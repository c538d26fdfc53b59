"""DNA as 4 bits per base, and the table that turns packed bytes into one-hot vectors on the device.

A=1, C=2, G=4, T=8; an IUPAC letter is the union of its bases, so N is 15 and the complement is bit reversal of the
nibble. The first base of a byte is its high nibble. An ambiguous letter is shared equally by its bases in the
one-hot row, except N, which maps to the zero vector: padding must not look like sequence (algorithms.md 12).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IUPAC = "-ACMGRSVTWYHKDBN"
"""The letter of each nibble 0-15; nibble 0 (no base) is never stored."""

_NIBBLE_OF_BYTE = np.zeros(256, dtype=np.uint8)
for _nibble, _letter in enumerate(IUPAC[1:], start=1):
    _NIBBLE_OF_BYTE[ord(_letter)] = _NIBBLE_OF_BYTE[ord(_letter.lower())] = _nibble
_NIBBLE_OF_BYTE[ord("U")] = _NIBBLE_OF_BYTE[ord("u")] = 8
_LETTERS = np.frombuffer(IUPAC.encode(), dtype=np.uint8)


def first_bad_letter(sequence: str) -> tuple[int, str] | None:
    """Position (0-based) and letter of the first character that is no IUPAC base, or None."""
    nibbles = _NIBBLE_OF_BYTE[np.frombuffer(sequence.encode("latin-1", "replace"), dtype=np.uint8)]
    bad = np.flatnonzero(nibbles == 0)
    return (int(bad[0]), sequence[bad[0]]) if bad.size else None


def pack(sequence: str, length: int) -> NDArray[np.uint8]:
    """Pack IUPAC letters into (length/2,) uint8, padded with N or cropped evenly on both sides; `length` is even.

    Raises `ValueError` for an odd `length` or a letter that is not IUPAC.
    """
    if length % 2:
        raise ValueError(f"packed length must be even, got {length}")
    nibbles = _NIBBLE_OF_BYTE[np.frombuffer(sequence.encode("latin-1", "replace"), dtype=np.uint8)]
    if not nibbles.all():
        position, letter = first_bad_letter(sequence) or (0, "")
        raise ValueError(f"letter '{letter}' at position {position} is not a base")
    excess = len(nibbles) - length
    if excess > 0:
        nibbles = nibbles[excess // 2 : excess // 2 + length]
    padded = np.full(length, 15, dtype=np.uint8)
    offset = max(-excess, 0) // 2
    padded[offset : offset + len(nibbles)] = nibbles
    return ((padded[0::2] << 4) | padded[1::2]).astype(np.uint8)


def unpack(packed: NDArray[np.uint8]) -> str:
    """The letters of one packed row (length/2,) uint8."""
    nibbles = np.stack([packed >> 4, packed & 15], axis=-1).reshape(-1)
    return _LETTERS[nibbles].tobytes().decode()


def one_hot_table() -> NDArray[np.float32]:
    """(256, 2, 4) float32: for each packed byte its two bases as shares of A, C, G, T; N is all zero."""
    bits = (np.arange(16)[:, None] >> np.arange(4)) & 1
    shares = bits / np.maximum(bits.sum(axis=1, keepdims=True), 1)
    shares[15] = 0.0
    byte = np.arange(256)
    return np.stack([shares[byte >> 4], shares[byte & 15]], axis=1).astype(np.float32)
