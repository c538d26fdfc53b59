"""Balancers that look at the values of the losses only (algorithms.md 5).

They read a falling value as progress and divide by it, so they take terms whose loss stays above zero: `VALUE_KINDS`
says why each other kind of loss is refused. A term's fixed weight multiplies what the rule gives it; 0 leaves it out.
No gradient is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model.balancing.rule import Balancer, Seen, State, Targets, with_task

if TYPE_CHECKING:
    from model.balancing.settings import BalanceSettings

VALUE_KINDS: dict[str, str] = {
    "vanishing": "its loss can reach 0, where a weight derived from its value explodes",
    "signed": "its loss can be negative, so that its value says nothing about progress",
    "adversarial": "its loss is an adversary's, which ends at the value of chance: lower is not better",
}
"""Kinds of `TermSettings.value_kind` that these rules refuse, and why."""


def _uw_init(terms: int) -> State:
    return {"log_variance": torch.full((terms + 1,), -0.5)}


def _uw_update(state: State, seen: Seen, targets: Targets, settings: BalanceSettings) -> tuple[Tensor, State]:
    """Kendall: s_k descends L_k / (2 e^s_k) + s_k / 2; weights e^-s_k relative to the task's."""
    s = state["log_variance"]
    coefficients = with_task(targets.weights * targets.factors) * torch.exp(s[0] - s)
    coefficients[1:] = coefficients[1:].clamp(max=settings.largest)
    return coefficients, {"log_variance": s + settings.uw_rate * 0.5 * (seen.values * torch.exp(-s) - 1)}


def _dwa_init(terms: int) -> State:
    zeros = torch.zeros(terms + 1)
    return {
        "sum": zeros.clone(),
        "steps": torch.zeros(()),
        "epoch": torch.zeros(()),
        "epochs": torch.zeros(()),
        "last": zeros.clone(),
        "before": zeros.clone(),
    }


def _dwa_update(state: State, seen: Seen, targets: Targets, settings: BalanceSettings) -> tuple[Tensor, State]:
    """K softmax((L(e-1) / L(e-2)) / T) on the mean losses of the last two whole epochs; even before there are two."""
    now = torch.full_like(state["epoch"], float(int(seen.epoch)))
    turned = (now > state["epoch"]) & (state["steps"] > 0)
    mean = state["sum"] / state["steps"].clamp(min=1)
    state = {
        "last": torch.where(turned, mean, state["last"]),
        "before": torch.where(turned, state["last"], state["before"]),
        "epochs": state["epochs"] + turned,
        "sum": torch.where(turned, torch.zeros_like(mean), state["sum"]) + seen.values,
        "steps": torch.where(turned, torch.zeros_like(now), state["steps"]) + 1,
        "epoch": now,
    }
    ratio = torch.where(state["epochs"] >= 2, _ratio(state["last"], state["before"]), torch.ones_like(mean))
    base = with_task(targets.weights * targets.factors)
    return base * _shares(ratio / settings.dwa_temperature, base > 0), state


def _relobralo_init(terms: int) -> State:
    return {
        "weights": torch.ones(terms + 1),
        "first": torch.zeros(terms + 1),
        "previous": torch.zeros(terms + 1),
        "steps": torch.zeros(()),
    }


def _relobralo_update(state: State, seen: Seen, targets: Targets, settings: BalanceSettings) -> tuple[Tensor, State]:
    """a (rho l(t-1) + (1 - rho) lhat(t; 0)) + (1 - a) lhat(t; t-1), lhat(t; t') = K softmax(L(t) / (T L(t')))."""
    begun = state["steps"] > 0
    first = torch.where(begun, state["first"], seen.values)
    previous = torch.where(begun, state["previous"], seen.values)
    base = with_task(targets.weights * targets.factors)
    since_first, since_last = (
        _shares(_ratio(seen.values, old) / settings.relobralo_temperature, base > 0) for old in (first, previous)
    )
    # Multiples of the golden ratio stand in for coin tosses: every worker and every rerun sees the same.
    recent = torch.frac(state["steps"].double() * 0.6180339887498949) < settings.relobralo_recent
    kept = torch.where(recent & begun, state["weights"], since_first)
    memory = settings.relobralo_memory
    weights = memory * kept + (1 - memory) * since_last
    following = {"weights": weights, "first": first, "previous": seen.values, "steps": state["steps"] + 1}
    return base * torch.where(base > 0, weights, torch.zeros_like(weights)), following


def _ratio(new: Tensor, old: Tensor) -> Tensor:
    return new / old.clamp(min=torch.finfo(old.dtype).tiny)


def _shares(scores: Tensor, active: Tensor) -> Tensor:
    """Softmax of scores (K+1,) over the active losses, times their number; 0 for the others."""
    return active.sum() * torch.softmax(scores.masked_fill(~active, -torch.inf), dim=0)


UW = Balancer("learns a variance per loss", _uw_init, _uw_update, settings=("uw_rate", "largest"), by_value=True)
DWA = Balancer(
    "weighs up what fell least over the last two epochs",
    _dwa_init,
    _dwa_update,
    settings=("dwa_temperature",),
    by_value=True,
)
RELOBRALO = Balancer(
    "weighs up what fell least since the last step and since the start",
    _relobralo_init,
    _relobralo_update,
    settings=("relobralo_temperature", "relobralo_memory", "relobralo_recent"),
    by_value=True,
)
