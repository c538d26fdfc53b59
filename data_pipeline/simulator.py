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
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.optimize import brentq
from scipy.special import expit

from data_pipeline.motif_grammar import MotifSettings, background, draw_motifs, plant
from data_pipeline.nuisance import NuisanceSettings, line_ties
from data_pipeline.settings import Settings

Floats = NDArray[np.float64]
REFERENCE_DISTANCE = 20_000
"""bp at which distance neither adds to nor takes from the logit."""


class SimulatorSettings(Settings):
    """A simulated store."""

    seed: int = Field(default=1, ge=0)
    """Seed of everything random."""
    lines: int = Field(default=12, ge=3, le=500)
    """Cell lines."""
    interpolated_lines: int = Field(default=2, ge=0)
    """How many lines, the last ones, are mixtures of two others (inside their hull); fewer than `lines` - 1."""
    latent_dimension: int = Field(default=2, ge=1, le=8)
    """Numbers that determine a line's factor activities."""
    factors: int = Field(default=4, ge=1, le=32)
    """Transcription factors, each with one motif."""
    activity_contrast: float = Field(default=4.0, ge=0.0, le=20.0)
    """Slope of activity in the latent; large values make factors on or off."""
    environment_effect: float = Field(default=1.0, ge=0.0, le=1.0)
    """How far gains follow activities; at 0 the label depends on sequences and distance alone."""
    match_gain: float = Field(default=3.5, ge=0.0, le=20.0)
    """Logit that a shared motif of a factor of gain 1 adds."""
    distance_slope: float = Field(default=0.5, ge=0.0, le=5.0)
    """Logit lost per e-fold of distance."""
    prevalence: float = Field(default=0.2, gt=0.0, lt=1.0)
    """Expected share of interacting pairs in every line."""
    label_flip: float = Field(default=0.01, ge=0.0, lt=0.5)
    """Probability that a label is wrong whatever the sequences: the noise floor below which no model gets."""
    chromosomes: int = Field(default=8, ge=1, le=1000)
    """Chromosomes, all of one length."""
    enhancers: int = Field(default=24_000, ge=8)
    """Enhancers over all chromosomes."""
    promoters: int = Field(default=9_000, ge=4)
    """Promoters over all chromosomes."""
    pairs_per_line: int = Field(default=10_000, ge=10)
    """Pairs per line, or all candidates of the line where there are fewer."""
    enhancer_window: int = Field(default=128, ge=32, multiple_of=2)
    """Bases stored per enhancer."""
    promoter_window: int = Field(default=128, ge=32, multiple_of=2)
    """Bases stored per promoter."""
    promoter_spacing: int = Field(default=150_000, ge=1000)
    """Mean bp between promoters of a chromosome."""
    min_distance: int = Field(default=2_000, ge=1)
    """Smallest distance of a candidate pair, bp."""
    max_distance: int = Field(default=500_000, ge=100)
    """Largest distance of a candidate pair, bp."""
    active_enhancers: float = Field(default=0.4, gt=0.0, lt=1.0)
    """Expected share of all enhancers that a line uses."""
    active_promoters: float = Field(default=0.6, gt=0.0, lt=1.0)
    """Expected share of all promoters that a line uses."""
    enrichment: float = Field(default=1.2, ge=0.0, le=10.0)
    """Log-odds of being used that the motif of a fully active factor adds (and of an inactive one takes)."""
    usage_factors: int = Field(default=0, ge=0, le=32)
    """Further factors, each with a motif and an activity, that decide which elements a line uses and no label; the
    label's factors then decide labels only. 0: the label's factors decide both."""
    nuisance: NuisanceSettings = NuisanceSettings()
    """A marker motif that tells the line and whose tie to the label reverses in the last lines."""
    motif: MotifSettings = MotifSettings()
    """The motifs."""
    signals: Literal["none", "element", "pair", "both"] = "none"
    """Which noisy line-specific readouts are stored: occupancy per factor and element, match activity per pair."""
    signal_noise: float = Field(default=0.5, ge=0.0)
    """Standard deviation added to each signal."""
    line_features: int = Field(default=0, ge=0, le=64)
    """Numbers in a line's feature vector v_c, noisy linear images of its latent."""
    line_feature_noise: float = Field(default=0.1, ge=0.0)
    """Standard deviation added to each line feature."""

    @model_validator(mode="after")
    def _consistent(self) -> SimulatorSettings:
        if self.interpolated_lines > self.lines - 2:
            raise ValueError("interpolated_lines must leave at least two lines to interpolate between")
        if self.min_distance >= self.max_distance:
            raise ValueError("min_distance must be below max_distance")
        if not self.label_flip < self.prevalence < 1.0 - self.label_flip:
            raise ValueError("prevalence must lie between label_flip and 1 - label_flip")
        if self.nuisance.on and self.nuisance.reversed_lines >= self.lines:
            raise ValueError("nuisance.reversed_lines must be below lines")
        room = min(self.enhancer_window, self.promoter_window)
        if self.motifs * self.motif.copies * self.motif.length > room:
            what = "factors" if self.motifs == self.factors else "(factors + usage_factors + the nuisance's marker)"
            raise ValueError(f"{what} * motif.copies * motif.length must fit into the smaller window of {room} bases")
        return self

    @property
    def active_factors(self) -> int:
        """Factors that have an activity: the label's, then those of `usage_factors`."""
        return self.factors + self.usage_factors

    @property
    def motifs(self) -> int:
        """Columns of the motif tables: the label's factors, those of `usage_factors`, then the marker."""
        return self.active_factors + int(self.nuisance.on)

    def described(self) -> dict[str, Any]:
        """The settings as JSON values, without the switches that are off: a world is named by what is in it."""
        off = {"usage_factors": self.usage_factors == 0, "nuisance": not self.nuisance.on}
        return self.model_dump(mode="json", exclude={name for name, is_off in off.items() if is_off})


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
