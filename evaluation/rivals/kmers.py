"""The rival that reads sequences: logistic regression on the k-mers of both elements.

k-mers are counted once per element, and the fit sees at most 20,000 training pairs. Cost: about a second for as many.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.rivals.linear import fit_linear
from evaluation.rivals.pairs import NotApplicable, PairData

SEED = 0
KMER = 4
KMER_FIT_PAIRS = 20_000

_KMER_CHUNK = 2_000
"""Elements whose k-mers are counted at a time: 2,000 x 4,096 bases x 8 bytes = 64 MB."""


def kmer_logistic(train: PairData, test: PairData) -> NDArray[np.float64]:
    """Logit of a logistic regression on the canonical 4-mer frequencies of both elements (272 features)."""
    if not (train.enhancer_packed.shape[1] and train.promoter_packed.shape[1]):
        raise NotApplicable("the store holds no sequences")
    chosen = np.flatnonzero(train.known())
    if chosen.size > KMER_FIT_PAIRS:
        chosen = np.sort(np.random.default_rng(SEED).choice(chosen, KMER_FIT_PAIRS, replace=False))
    sides = [
        (train.enhancer_packed, train.enhancer[chosen], test.enhancer_packed, test.enhancer),
        (train.promoter_packed, train.promoter[chosen], test.promoter_packed, test.promoter),
    ]
    train_features = np.hstack([_element_features(packed, ids) for packed, ids, _, _ in sides])
    test_features = np.hstack([_element_features(packed, ids) for _, _, packed, ids in sides])
    fitted = fit_linear(train_features, train.labels[chosen], np.ones(chosen.size, dtype=bool))
    return fitted.decision_function(test_features)


def kmer_frequencies(packed: NDArray[np.uint8], k: int = KMER) -> NDArray[np.float32]:
    """(n, K) share of each canonical k-mer (a k-mer and its reverse complement are one) in packed rows (n, L/2) uint8.

    Windows that hold an ambiguous base or padding are not counted; a row without any countable window is zero.
    """
    columns = _canonical_column(k)
    width = int(columns.max()) + 1
    result = np.zeros((len(packed), width), dtype=np.float32)
    for start in range(0, len(packed), _KMER_CHUNK):
        block = np.asarray(packed[start : start + _KMER_CHUNK])
        base = _BASE_OF_NIBBLE[np.stack([block >> 4, block & 15], axis=-1).reshape(len(block), -1)]
        windows = base.shape[1] - k + 1
        if windows < 1:
            continue
        code = np.zeros((len(block), windows), dtype=np.int64)
        clean = np.ones((len(block), windows), dtype=bool)
        for offset in range(k):
            letter = base[:, offset : offset + windows]
            clean &= letter >= 0
            code = code * 4 + np.maximum(letter, 0)
        cell = (columns[code] + np.arange(len(block))[:, None] * width)[clean]
        counts = np.bincount(cell, minlength=len(block) * width).reshape(len(block), width)
        result[start : start + len(block)] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return result


_BASE_OF_NIBBLE = np.full(16, -1, dtype=np.int8)
_BASE_OF_NIBBLE[[1, 2, 4, 8]] = [0, 1, 2, 3]


def _canonical_column(k: int) -> NDArray[np.int64]:
    """(4^k,) column 0..K-1 of each k-mer code (base 4, first base highest), shared with its reverse complement."""
    codes = np.arange(4**k)
    mirrored = np.zeros_like(codes)
    for position in range(k):
        mirrored = mirrored * 4 + 3 - (codes // 4**position) % 4
    return np.unique(np.minimum(codes, mirrored), return_inverse=True)[1]


def _element_features(packed: NDArray[np.uint8], ids: NDArray[np.int64]) -> NDArray[np.float32]:
    distinct, position = np.unique(ids, return_inverse=True)
    return kmer_frequencies(packed[distinct])[position]
