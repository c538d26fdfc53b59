"""The settings of a simulated store (simulator.py has what they mean, docs/simulator.md why)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from data_pipeline.settings import Settings
from data_pipeline.simulator.nuisance import NuisanceSettings


class MotifSettings(Settings):
    """What a factor's motif looks like and how often elements carry it."""

    length: int = Field(default=12, ge=4, le=30)
    """Bases of a motif."""
    information: float = Field(default=1.9, gt=0.0, lt=2.0)
    """Bits per position of the PWM; 2 would be a fixed word."""
    enhancer_frequency: float = Field(default=0.4, gt=0.0, lt=1.0)
    """Probability that an enhancer carries a given factor's motif."""
    promoter_frequency: float = Field(default=0.4, gt=0.0, lt=1.0)
    """Probability that a promoter carries a given factor's motif."""
    copies: int = Field(default=2, ge=1, le=8)
    """Instances planted where a motif is present; the label depends on presence alone."""


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
