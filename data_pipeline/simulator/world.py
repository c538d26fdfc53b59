"""A world with known truth: who the cell lines are, which elements they use, and which pairs interact.

The model (docs/simulator.md has the derivation and the reasons):

    z_c                line latent, d numbers; the first lines lie on a sphere, the last are mixtures of two of them
    a_k(c)             activity of factor k = sigmoid(contrast * w_k . z_c)
    active elements    P(element is used by line c) grows with the activities of the factors whose motifs it carries
    m_k(x)             1 where enhancer and promoter both carry the motif of factor k
    g_k(c)             gain = 1 + environment_effect * (2 a_k(c) - 1), within (0, 2)
    logit(x, c)        b_c + match_gain * sum_k g_k(c) m_k(x) - distance_slope * ln(distance / 20 kb)
    p(x, c)            flip + (1 - 2 flip) * sigmoid(logit); label ~ Bernoulli(p)

b_c is solved so that a line has the asked prevalence. So a pair of elements may interact in one line and not in
another, and the set of elements that a line uses shows, without labels, which factors are active there. Two switches
make other worlds: `usage_factors` lets factors that decide no label decide which elements a line uses, and `nuisance`
adds a marker that tells the line and misleads in unseen ones. Everything is a pure function of the settings; cost is
linear in pairs and bases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from data_pipeline.simulator.motif_grammar import background, draw_motifs, plant
from data_pipeline.simulator.nuisance import line_ties
from data_pipeline.simulator.settings import MotifSettings, SimulatorSettings

Floats = NDArray[np.float64]
REFERENCE_DISTANCE = 20_000
"""bp at which distance neither adds to nor takes from the logit."""


@dataclass(frozen=True)
class Environments:
    """The cell lines: row c of each array."""

    latent: Floats
    """(C, d) z_c."""
    activity: Floats
    """(C, A) a_k(c) in (0, 1) of the label's M factors, then of `usage_factors`."""
    gain: Floats
    """(C, M) g_k(c) in (0, 2)."""
    features: Floats
    """(C, F) v_c."""
    tie: Floats
    """(C,) logit per element with the marker, negative in reversed lines."""
    marker_use: Floats
    """(C,) u_c in (-1, 1): how much the line favours elements with the marker."""


@dataclass(frozen=True)
class Elements:
    """All enhancers or all promoters, ordered by chromosome and position."""

    chrom: NDArray[np.int64]
    """(n,) chromosome index."""
    centre: NDArray[np.int64]
    """(n,) bp of the window's centre (enhancer) or TSS (promoter)."""
    present: NDArray[np.int64]
    """(n, K) 1 where the element carries a motif: the label's M factors, `usage_factors`, the marker."""
    bases: NDArray[np.uint8]
    """(n, window) base indices A0 C1 G2 T3."""


@dataclass(frozen=True)
class Pairs:
    """The pairs of all lines, line by line, with what only a simulator knows."""

    enhancer: NDArray[np.int64]
    promoter: NDArray[np.int64]
    line: NDArray[np.int64]
    distance: NDArray[np.int64]
    match: NDArray[np.int64]
    """(N, M) m_k(x)."""
    marker: NDArray[np.int64]
    """(N,) t(x): how many of the two elements carry the marker."""
    logit: Floats
    """(N,) true log-odds before label flips."""
    probability: Floats
    """(N,) P(label = 1)."""
    label: NDArray[np.int64]
    """(N,) the drawn label."""
    use: Floats
    """(N, C) relative probability that each line would use this pair's elements."""
    bias: Floats
    """(C,) b_c."""


def draw_environments(
    rng: np.random.Generator, nuisance: np.random.Generator, settings: SimulatorSettings
) -> Environments:
    """Draw the lines: latents spread over the unit sphere, then mixtures of neighbours, then activities and gains.

    What the marker does in a line comes from a stream of its own, so that it does not depend on the rest.
    """
    outer = settings.lines - settings.interpolated_lines
    latent = spread_directions(rng, outer, settings.latent_dimension)
    latent = np.concatenate([latent, _mixtures(rng, latent, settings.interpolated_lines)])
    axes = spread_directions(rng, settings.active_factors, settings.latent_dimension)
    activity = expit(settings.activity_contrast * latent @ axes.T)
    mixing = rng.normal(size=(settings.latent_dimension, settings.line_features))
    noise = settings.line_feature_noise * rng.normal(size=(settings.lines, settings.line_features))
    gain = 1.0 + settings.environment_effect * (2.0 * activity[:, : settings.factors] - 1.0)
    tie, marker_use = line_ties(nuisance, settings.nuisance, settings.lines).T
    return Environments(latent, activity, gain, latent @ mixing + noise, tie, marker_use)


def spread_directions(rng: np.random.Generator, count: int, dimension: int) -> Floats:
    """(count, dimension) unit vectors, each the farthest from the earlier ones among many random candidates."""
    chosen = np.zeros((0, dimension))
    for _ in range(count):
        candidates = rng.normal(size=(256, dimension))
        candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
        nearest = (candidates @ chosen.T).max(axis=1, initial=-1.0)
        chosen = np.concatenate([chosen, candidates[[int(nearest.argmin())]]])
    return chosen


def draw_elements(rng: np.random.Generator, settings: SimulatorSettings, pwm: Floats) -> tuple[Elements, Elements]:
    """Enhancers and promoters: places, motifs and sequences (GC about .42 and .55)."""
    length = -(-settings.promoters // settings.chromosomes) * settings.promoter_spacing
    margin = settings.max_distance + settings.enhancer_window + settings.promoter_window
    chrom = np.sort(np.arange(settings.promoters) % settings.chromosomes)
    tss = margin + rng.integers(0, length, settings.promoters)
    order = np.lexsort((tss, chrom))
    chrom, tss = chrom[order], tss[order]
    anchor = np.sort(rng.integers(0, settings.promoters, settings.enhancers))
    reach = np.exp(rng.uniform(np.log(settings.min_distance), np.log(settings.max_distance), settings.enhancers))
    centre = tss[anchor] + (rng.choice([-1, 1], settings.enhancers) * reach).astype(np.int64)
    order = np.lexsort((centre, chrom[anchor]))
    motif = settings.motif
    enhancers = _with_sequence(
        rng, chrom[anchor][order], centre[order], motif.enhancer_frequency, 0.42, settings.enhancer_window, motif, pwm
    )
    promoters = _with_sequence(rng, chrom, tss, motif.promoter_frequency, 0.55, settings.promoter_window, motif, pwm)
    return enhancers, promoters


def draw_pairs(
    rng: np.random.Generator,
    settings: SimulatorSettings,
    environments: Environments,
    enhancers: Elements,
    promoters: Elements,
) -> Pairs:
    """Choose each line's candidate pairs among the elements it uses, and draw their labels.

    Raises `ValueError` naming a line without candidates.
    """
    enhancer, promoter, distance = candidate_pairs(enhancers, promoters, settings.min_distance, settings.max_distance)
    uses_enhancer = use_probability(enhancers.present, environments, settings, settings.active_enhancers)
    uses_promoter = use_probability(promoters.present, environments, settings, settings.active_promoters)
    active_enhancer = rng.random(uses_enhancer.shape) < uses_enhancer
    active_promoter = rng.random(uses_promoter.shape) < uses_promoter
    rows, lines = [], []
    for line in range(settings.lines):
        open_rows = np.flatnonzero(active_enhancer[enhancer, line] & active_promoter[promoter, line])
        if not open_rows.size:
            raise ValueError(f"line {line + 1} has no candidate pairs; raise enhancers, promoters or the active shares")
        kept = rng.permutation(open_rows)[: settings.pairs_per_line]
        rows.append(np.sort(kept))
        lines.append(np.full(len(kept), line))
    row, line_of = np.concatenate(rows), np.concatenate(lines)
    enhancer, promoter, distance = enhancer[row], promoter[row], distance[row]
    match, marker = _shared_motifs(enhancers.present[enhancer], promoters.present[promoter], settings)
    free = free_logit(match, distance, environments.gain[line_of], settings) + environments.tie[line_of] * marker
    bias = np.array([_solve_bias(free[line_of == line], settings) for line in range(settings.lines)])
    logit = free + bias[line_of]
    probability = settings.label_flip + (1.0 - 2.0 * settings.label_flip) * expit(logit)
    label = (rng.random(len(row)) < probability).astype(np.int64)
    use = uses_enhancer[enhancer] * uses_promoter[promoter]
    return Pairs(enhancer, promoter, line_of, distance, match, marker, logit, probability, label, use, bias)


def _shared_motifs(
    enhancer: NDArray[np.int64], promoter: NDArray[np.int64], settings: SimulatorSettings
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """m_k(x) (N, M) and t(x) (N,) from the motifs (N, K) of both elements."""
    labelled = slice(0, settings.factors)
    markers = slice(settings.active_factors, None)
    return enhancer[:, labelled] * promoter[:, labelled], (enhancer[:, markers] + promoter[:, markers]).sum(axis=1)


def free_logit(
    match: NDArray[np.int64], distance: NDArray[np.int64], gain: Floats, settings: SimulatorSettings
) -> Floats:
    """(N,) log-odds without the line's bias and marker, for matches (N, M), bp (N,) and gains (N, M) or (M,)."""
    return settings.match_gain * (match * gain).sum(axis=1) - settings.distance_slope * np.log(
        distance / REFERENCE_DISTANCE
    )


def use_probability(
    present: NDArray[np.int64], environments: Environments, settings: SimulatorSettings, share: float
) -> Floats:
    """(n, C) probability that each line uses each element of motifs (n, K); its mean is `share` in every line."""
    drivers = slice(settings.factors if settings.usage_factors else 0, settings.active_factors)
    pull = settings.enrichment * present[:, drivers] @ (2.0 * environments.activity[:, drivers].T - 1.0)
    if settings.nuisance.on:
        pull = pull + settings.nuisance.enrichment * np.outer(present[:, -1], environments.marker_use)

    def offset(column: Floats) -> float:
        return float(brentq(lambda shift: expit(column + shift).mean() - share, -100.0, 100.0))

    return expit(pull + np.array([offset(column) for column in pull.T]))


def candidate_pairs(
    enhancers: Elements, promoters: Elements, low: int, high: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Enhancer rows, promoter rows and bp of all pairs on one chromosome between `low` and `high` bp apart."""
    stride = int(max(enhancers.centre.max(), promoters.centre.max())) + 2 * high
    place = enhancers.chrom * stride + enhancers.centre
    centre = promoters.chrom * stride + promoters.centre
    first = np.searchsorted(place, centre - high, side="left")
    count = np.searchsorted(place, centre + high, side="right") - first
    promoter = np.repeat(np.arange(len(centre)), count)
    enhancer = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count) + np.repeat(first, count)
    distance = np.abs(place[enhancer] - centre[promoter])
    kept = distance >= low
    return enhancer[kept], promoter[kept], distance[kept]


def draw_world(settings: SimulatorSettings) -> tuple[Floats, Environments, Elements, Elements, Pairs]:
    """PWMs (K, length, 4), lines, enhancers, promoters and pairs of `settings`, each from its own random stream."""
    streams = [np.random.default_rng(seed) for seed in np.random.SeedSequence(settings.seed).spawn(5)]
    pwm = draw_motifs(streams[0], settings.motifs, settings.motif)
    environments = draw_environments(streams[1], streams[4], settings)
    enhancers, promoters = draw_elements(streams[2], settings, pwm)
    return pwm, environments, enhancers, promoters, draw_pairs(streams[3], settings, environments, enhancers, promoters)


def _mixtures(rng: np.random.Generator, outer: Floats, count: int) -> Floats:
    gram = outer @ outer.T
    first, second = np.triu_indices(len(outer), k=1)
    neighbours = np.argsort(-gram[first, second], kind="stable")[: max(len(outer), count)]
    picked = neighbours[rng.permutation(len(neighbours))[np.arange(count) % len(neighbours)]]
    share = rng.uniform(0.35, 0.65, (count, 1))
    return share * outer[first[picked]] + (1.0 - share) * outer[second[picked]]


def _with_sequence(
    rng: np.random.Generator,
    chrom: NDArray[np.int64],
    centre: NDArray[np.int64],
    frequency: float,
    gc: float,
    window: int,
    motif: MotifSettings,
    pwm: Floats,
) -> Elements:
    present = (rng.random((len(chrom), len(pwm))) < frequency).astype(np.int64)
    bases = background(rng, np.clip(rng.normal(gc, 0.05, len(chrom)), 0.25, 0.75), window)
    plant(rng, bases, present * motif.copies, pwm)
    return Elements(chrom, centre, present, bases)


def _solve_bias(free: Floats, settings: SimulatorSettings) -> float:
    wanted = (settings.prevalence - settings.label_flip) / (1.0 - 2.0 * settings.label_flip)
    return float(brentq(lambda bias: expit(free + bias).mean() - wanted, -200.0, 200.0))
