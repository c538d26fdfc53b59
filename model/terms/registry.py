"""The loss terms there are: one entry per name.

A new term is a module of its own, one entry here and one test. Its settings, the page of settings, weights, bounds,
monitors, alarms, responses, the search of loss weights and the rows of an ablation follow from what the class declares.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, create_model

from data_pipeline.settings import Settings
from model.terms.club import Club
from model.terms.competition import PullSettings, PushSettings
from model.terms.conditional_invariance import ConditionalReversal
from model.terms.contrast import HierarchicalContrast
from model.terms.decoupling import Correlation
from model.terms.dependence import DependenceMonitor, Hsic
from model.terms.invariance import GradientReversal
from model.terms.moments import GradientVariance, MomentMatching
from model.terms.prototypes import PrototypeLoss
from model.terms.ranking import Ranking
from model.terms.risk_invariance import GroupRobust, InvariantRisk, RiskVariance
from model.terms.sparsity import Bottleneck, Sparsity
from model.terms.term import Family, LossTerm, WalledSettings

TERMS: dict[str, type[LossTerm]] = {
    "grl": GradientReversal,
    "corr": Correlation,
    "rank": Ranking,
    "cdan": ConditionalReversal,
    "irm": InvariantRisk,
    "vrex": RiskVariance,
    "dro": GroupRobust,
    "coral": MomentMatching,
    "fishr": GradientVariance,
    "club": Club,
    "hsic": Hsic,
    "dependence": DependenceMonitor,
    "hcont": HierarchicalContrast,
    "proto": PrototypeLoss,
    "sparse": Sparsity,
    "bottleneck": Bottleneck,
}
"""The terms that a balancer weighs, by name, in the order in which losses are added up."""

WALLED: dict[str, type[WalledSettings]] = {"pull": PullSettings, "push": PushSettings}
"""Settings of the losses behind a firewall, which have no gradient to balance and so nothing but a weight."""


def names_of(*families: Family) -> tuple[str, ...]:
    """Names of the terms of `families`, in the order of `TERMS`."""
    return tuple(name for name, term in TERMS.items() if term.family in families)


def _fields() -> dict[str, Any]:
    said: dict[str, tuple[type[Settings], str]] = {name: (term.Settings, term.summary) for name, term in TERMS.items()}
    said |= {name: (cls, cls.__doc__ or "") for name, cls in WALLED.items()}
    return {name: (cls, Field(default=cls(), description=text)) for name, (cls, text) in said.items()}


TermsSettings: type[Settings] = create_model(
    "TermsSettings", __base__=Settings, __doc__="The loss terms beside the task.", **_fields()
)
"""A field per entry of `TERMS` and `WALLED`."""
