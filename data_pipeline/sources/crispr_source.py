"""What describes a table of CRISPR-tested pairs: which columns a predictor may see, which say what was found."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from data_pipeline.settings import PathText
from data_pipeline.sources.pair_source import PairSource

OUTCOMES = (
    "EffectSize",
    "Regulated",
    "Significant",
    "pValueAdjusted",
    "direct_vs_indirect_negative",
    "direct_rate_negative",
    "indirect_rate_negative",
    "imputed_indirect_rate",
)
"""Columns of the benchmark that say what was found, or how surely."""


class CrisprTable(PairSource):
    """Table of CRISPR-tested pairs in the columns of ENCODE's benchmark (EngreitzLab/CRISPR_comparison)."""

    format: Literal["crispr"]
    """Chooses this kind of source."""
    signals: list[str] = Field(
        default=[
            "DHS.RPM",
            "DHS.percentile",
            "H3K27ac.RPM",
            "H3K27ac.percentile",
            "H3K27ac.RPM.expandedRegion",
            "H3K27ac.expandedRegion.percentile",
            "H3K4me1.RPM",
            "H3K27me3.RPM",
            "CTCF.RPM",
            "H3K27ac_peak_overlap",
            "H3K4me1_peak_overlap",
            "H3K27me3_peak_overlap",
            "CTCF_peak_overlap",
            "measuredGeneUbiquitousExpressed",
        ]
    )
    """Columns of numbers (or TRUE and FALSE) that become signals of the pair. Never those that follow from the outcome
    or the design of the screen: effect size, p-value, power, rates, weight."""
    made: bool = True
    """Whether activity and activity by distance are made from the row and join the signals."""
    accessibility: str = "DHS.RPM"
    """Column of the element's accessibility, for `made`."""
    acetylation: str = "H3K27ac.RPM.expandedRegion"
    """Column of the element's H3K27ac, for `made`."""
    genes: PathText | None = None
    """Gene annotation (BED with a header: chr, start, end, name, Ensembl_ID; windows around the TSS), relative to the
    root, of which the pair's place among genes joins the signals."""
    weight: str | None = "direct_vs_indirect_negative"
    """Column of the weight, the probability that a drop in expression is a direct effect; none: every pair weighs 1."""
    effect: str | None = "EffectSize"
    """Column of the measured effect, the relative change of expression."""

    @field_validator("signals")
    @classmethod
    def _no_outcome(cls, signals: list[str]) -> list[str]:
        for name in signals:
            if name in OUTCOMES or name.startswith("PowerAtEffectSize"):
                raise ValueError(
                    f"'{name}' is an outcome of the screen or follows from one; a predictor may not see it"
                )
        return signals
