"""Motifs and the sequences that carry them: the part of the simulator that makes DNA.

A factor's motif is a position weight matrix (PWM) with a chosen information content. Elements are background of a
drawn GC content into which motif instances, sampled from the PWM, are planted on either strand at places that do not
overlap. Everything is a function of the random generator passed in. Cost: a few bytes per base, no Python loop over
elements.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from data_pipeline.simulator.settings import MotifSettings


def consensus_probability(information: float) -> float:
    """Probability of a position's consensus base at `information` bits when the other three bases share the rest."""

    def missing(p: float) -> float:
        return 2.0 + p * math.log2(p) + (1.0 - p) * math.log2((1.0 - p) / 3.0) - information

    return float(brentq(missing, 0.25 + 1e-9, 1.0 - 1e-12))


def draw_motifs(rng: np.random.Generator, factors: int, settings: MotifSettings) -> NDArray[np.float64]:
    """(factors, length, 4) float64 PWMs over A, C, G, T whose consensus words differ on both strands.

    Candidates are drawn and the one farthest (Hamming) from all earlier words and reverse complements is kept, so no
    factor reads another's motif.
    """
    words: list[NDArray[np.int64]] = []
    for _ in range(factors):
        candidates = rng.integers(0, 4, (64, settings.length))
        taken = [word for chosen in words for word in (chosen, 3 - chosen[::-1])]
        distance = (candidates != 3 - candidates[:, ::-1]).sum(axis=1)
        for word in taken:
            distance = np.minimum(distance, (candidates != word).sum(axis=1))
        words.append(candidates[int(distance.argmax())])
    p = consensus_probability(settings.information)
    pwm = np.full((factors, settings.length, 4), (1.0 - p) / 3.0)
    np.put_along_axis(pwm, np.stack(words)[..., None], p, axis=2)
    return pwm


def background(rng: np.random.Generator, gc: NDArray[np.float64], length: int) -> NDArray[np.uint8]:
    """(n, length) uint8 base indices (A0 C1 G2 T3) of sequences with expected GC content `gc` (n,)."""
    strong = rng.random((len(gc), length), dtype=np.float32) < gc[:, None]
    coin = rng.random((len(gc), length), dtype=np.float32) < 0.5
    return np.where(strong, np.where(coin, 1, 2), np.where(coin, 0, 3)).astype(np.uint8)


def plant(
    rng: np.random.Generator, bases: NDArray[np.uint8], counts: NDArray[np.int64], pwm: NDArray[np.float64]
) -> None:
    """Write `counts` (n, factors) motif instances into `bases` (n, length), in place and without overlap.

    Each instance is sampled from its PWM, on a random strand; starts are uniform over the non-overlapping layouts.
    Raises `ValueError` where the instances of an element do not fit.
    """
    width, length = pwm.shape[1], bases.shape[1]
    totals = counts.sum(axis=1)
    if totals.max(initial=0) * width > length:
        raise ValueError(f"{totals.max()} motifs of {width} bases do not fit into {length} bases")
    for total in np.unique(totals[totals > 0]):
        rows = np.flatnonzero(totals == total)
        factor = np.repeat(np.tile(np.arange(pwm.shape[0]), len(rows)), counts[rows].ravel()).reshape(len(rows), -1)
        factor = rng.permuted(factor, axis=1)
        free = length - int(total) * width
        start = np.sort(rng.integers(0, free + 1, factor.shape), axis=1) + np.arange(total) * width
        words = _sample_words(rng, pwm[factor.ravel()]).reshape(*factor.shape, width)
        reverse = rng.random(factor.shape) < 0.5
        words = np.where(reverse[..., None], 3 - words[..., ::-1], words)
        bases[rows[:, None, None], start[..., None] + np.arange(width)] = words


def pack_bases(bases: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, length/2) uint8 packed sequences (see `dna`) of base indices (n, length); `length` is even."""
    nibbles = np.array([1, 2, 4, 8], dtype=np.uint8)[bases]
    return ((nibbles[:, 0::2] << 4) | nibbles[:, 1::2]).astype(np.uint8)


def _sample_words(rng: np.random.Generator, pwm: NDArray[np.float64]) -> NDArray[np.uint8]:
    draw = rng.random(pwm.shape[:2])
    return (draw[..., None] > pwm.cumsum(axis=2)[..., :3]).sum(axis=2).astype(np.uint8)
