"""The loss terms there are: one settings field and one maker per name.

A new term is a module of its own with a `TermSettings` and a `LossTerm`, one field here and one entry in `TERMS`.
Everything else (weights, bounds, monitors, search space) follows from the registry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from data_pipeline.settings import Settings
from model.episode_model import ModelSettings
from model.terms.club import Club, ClubSettings
from model.terms.conditional_invariance import CdanSettings, ConditionalReversal
from model.terms.contrast import ContrastSettings, HierarchicalContrast
from model.terms.decoupling import Correlation, CorrSettings
from model.terms.dependence import DependenceMonitor, DependenceSettings, Hsic, HsicSettings
from model.terms.invariance import GradientReversal, GrlSettings
from model.terms.moments import CoralSettings, FishrSettings, GradientVariance, MomentMatching
from model.terms.prototypes import PrototypeLoss, PrototypeSettings
from model.terms.ranking import Ranking, RankingSettings
from model.terms.risk_invariance import DroSettings, GroupRobust, InvariantRisk, IrmSettings, RiskVariance, VrexSettings
from model.terms.sparsity import Bottleneck, BottleneckSettings, Sparsity, SparsitySettings
from model.terms.term import LossTerm


class TermsSettings(Settings):
    """The loss terms beside the task; one field per entry of `TERMS`."""

    grl: GrlSettings = GrlSettings()
    """Line-adversarial invariance of z_I."""
    corr: CorrSettings = CorrSettings()
    """Decorrelation of z_I and z_E."""
    rank: RankingSettings = RankingSettings()
    """Ranking of the query inside its line."""
    cdan: CdanSettings = CdanSettings()
    """Line-adversarial invariance of z_I given the class."""
    irm: IrmSettings = IrmSettings()
    """Invariant risk minimisation (IRMv1)."""
    vrex: VrexSettings = VrexSettings()
    """Variance of the lines' risks."""
    dro: DroSettings = DroSettings()
    """Risk of a mixture of lines that leans to the worst."""
    coral: CoralSettings = CoralSettings()
    """Equal means and covariances of z_I in all lines."""
    fishr: FishrSettings = FishrSettings()
    """Equal gradient variances in all lines."""
    club: ClubSettings = ClubSettings()
    """Upper bound on the information of z_I about the line."""
    hsic: HsicSettings = HsicSettings()
    """Independence of z_I from the line or from z_E by kernels."""
    dependence: DependenceSettings = DependenceSettings()
    """Monitors of the dependence of z_I on z_E; no loss."""
    hcont: ContrastSettings = ContrastSettings()
    """Hierarchical contrast of the support codes between lines."""
    proto: PrototypeSettings = PrototypeSettings()
    """Support codes near their line's prototype."""
    sparse: SparsitySettings = SparsitySettings()
    """L1 norm of the normalised z_I."""
    bottleneck: BottleneckSettings = BottleneckSettings()
    """Upper bound on the information that the noisy z_I carries."""


TERMS: dict[str, Callable[[Any, ModelSettings, int], LossTerm]] = {
    "grl": lambda own, model, lines: GradientReversal(own, model.energy.invariant_width, lines),
    "corr": lambda own, model, lines: Correlation(own),
    "rank": lambda own, model, lines: Ranking(own, lines),
    "cdan": lambda own, model, lines: ConditionalReversal(own, model.energy.invariant_width, lines),
    "irm": lambda own, model, lines: InvariantRisk(own),
    "vrex": lambda own, model, lines: RiskVariance(own, lines),
    "dro": lambda own, model, lines: GroupRobust(own, lines),
    "coral": lambda own, model, lines: MomentMatching(own, lines),
    "fishr": lambda own, model, lines: GradientVariance(own, model.energy.invariant_width, lines),
    "club": lambda own, model, lines: Club(own, model.energy.invariant_width, lines),
    "hsic": lambda own, model, lines: Hsic(own),
    "dependence": lambda own, model, lines: DependenceMonitor(
        own, model.energy.invariant_width, model.environment.width
    ),
    "hcont": lambda own, model, lines: HierarchicalContrast(own, model.environment.width, model.tissues, lines),
    "proto": lambda own, model, lines: PrototypeLoss(own, model.environment.width, lines),
    "sparse": lambda own, model, lines: Sparsity(own),
    "bottleneck": lambda own, model, lines: Bottleneck(own, model),
}
"""Makers of the loss terms from their settings, the model's settings and the number of training lines."""
