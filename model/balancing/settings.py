"""Settings of the balancer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from data_pipeline.settings import Settings, searched
from model.balancing.registry import BALANCERS, BY_VALUE

if TYPE_CHECKING:
    Mode = str
else:
    Mode = Literal[tuple(BALANCERS)]


class BalanceSettings(Settings):
    """How loss terms are weighted against the task."""

    mode: Mode = Field(
        default="gradnorm_ema",
        description="; ".join(f"`{name}` {rule.summary}" for name, rule in BALANCERS.items())
        + f". {', '.join(BY_VALUE)} look at the losses' values and take only terms whose value stays above zero.",
    )
    every: int = Field(default=4, ge=1, le=10000, json_schema_extra=searched(1, 32, log=True, integer=True))
    """Steps between measurements of the gradients (weights refresh and ratios are reported then)."""
    beta: float = Field(default=0.95, ge=0.0, lt=1.0, json_schema_extra=searched(0.5, 0.99))
    """How much of the running norms a measurement keeps (gradnorm_ema), as long as that leaves every ratio within a
    factor 1.2 of the one just measured."""
    smallest: float = Field(default=1e-5, ge=0.0, le=1.0)
    """Lower clamp of an adaptive weight (gradnorm_ema)."""
    largest: float = Field(default=1e3, ge=1.0, le=1e6)
    """Upper clamp of an adaptive weight, relative to the task's."""
    uw_rate: float = Field(default=0.025, gt=0.0, le=1.0, json_schema_extra=searched(0.005, 0.2, log=True))
    """Step size of uw's log variances."""
    dwa_temperature: float = Field(default=2.0, gt=0.0, le=100.0, json_schema_extra=searched(0.5, 8.0, log=True))
    """How evenly dwa spreads its weights."""
    relobralo_temperature: float = Field(default=0.1, gt=0.0, le=100.0, json_schema_extra=searched(0.02, 2.0, log=True))
    """How evenly relobralo spreads its weights."""
    relobralo_memory: float = Field(default=0.999, ge=0.0, lt=1.0, json_schema_extra=searched(0.9, 0.999))
    """How much of its weights relobralo keeps at a step."""
    relobralo_recent: float = Field(default=0.999, ge=0.0, le=1.0)
    """Share of steps at which relobralo goes on from its last weights; at the others it looks back to the start."""
