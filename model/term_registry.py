"""The loss terms there are: one settings field and one maker per name.

A new term is a module of its own with a `TermSettings` and a `LossTerm`, one field here and one entry in `TERMS`.
Everything else (weights, bounds, monitors, search space) follows from the registry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from data_pipeline.settings import Settings
from model.decoupling import Correlation, CorrSettings
from model.episode_model import ModelSettings
from model.invariance import GradientReversal, GrlSettings
from model.ranking import Ranking, RankingSettings
from model.terms import LossTerm


class TermsSettings(Settings):
    """The loss terms beside the task; one field per entry of `TERMS`."""

    grl: GrlSettings = GrlSettings()
    """Line-adversarial invariance of z_I."""
    corr: CorrSettings = CorrSettings()
    """Decorrelation of z_I and z_E."""
    rank: RankingSettings = RankingSettings()
    """Ranking of the query inside its line."""


TERMS: dict[str, Callable[[Any, ModelSettings, int], LossTerm]] = {
    "grl": lambda own, model, lines: GradientReversal(own, model.energy.invariant_width, lines),
    "corr": lambda own, model, lines: Correlation(own),
    "rank": lambda own, model, lines: Ranking(own, lines),
}
"""Makers of the loss terms from their settings, the model's settings and the number of training lines."""
