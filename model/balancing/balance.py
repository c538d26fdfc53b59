"""Balancers: from what a step shows at the shared representation to a coefficient per loss (algorithms.md 5).

Each rule is a pair of pure functions, `init(terms) -> state` and `update(state, seen, targets, settings) ->
(coefficients, state)`; state is a dict of small tensors that `Balance` keeps in buffers, so it is saved and equal on
every worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import torch
from torch import Tensor, nn

from model.balancing.registry import BALANCERS
from model.balancing.rule import Seen, Strength, Targets
from model.balancing.settings import BalanceSettings
from model.balancing.value_rules import VALUE_KINDS
from model.terms import TermSettings

STRENGTHS: tuple[Strength, ...] = get_args(Strength)
"""Fields of every term that say how strong it is; each rule reads some of them (a weight of 0 switches off in all)."""


def acting_fields(mode: str) -> frozenset[str]:
    """The `STRENGTHS` that have a say under balance.mode=`mode`; changing one of the others changes nothing.

    Under imtl_g_rep none has: a weight above 0 takes part, whatever it is. Under gradnorm_ema a term that touches no
    shared place (a term on support codes that nothing learns through) falls back on its weight.
    """
    return frozenset(BALANCERS[mode].reads)


def acts(mode: str, term: TermSettings, epoch: float) -> bool:
    """Whether a term has a say in what is learnt at a (fractional) epoch under balance.mode=`mode`, or only reports."""
    strength = term.ratio_at(epoch) if "ratio" in acting_fields(mode) else term.weight_at(epoch)
    return term.on and strength > 0


def refusals(settings: BalanceSettings, terms: Mapping[str, TermSettings]) -> list[str]:
    """Why this balancer cannot take each of the `terms` it cannot take, as sentences; usually none."""
    if not BALANCERS[settings.mode].by_value:
        return []
    return [
        f"balance.mode={settings.mode} cannot weight the term '{name}': {VALUE_KINDS[own.value_kind]}; "
        f"set terms.{name}.on=false, or choose fixed_ramp, gradnorm_ema or pcgrad_protect"
        for name, own in terms.items()
        if own.on and own.value_kind != "positive"
    ]


def unread(settings: BalanceSettings, terms: Mapping[str, TermSettings]) -> list[str]:
    """A sentence for each of the `terms` whose strength was set in fields this mode does not read, and in none it does.

    Presets may set what several modes read. What counts as set is what a file or the command line named.
    """
    sentences = []
    for name, own in terms.items():
        named, acting = own.model_fields_set & set(STRENGTHS), acting_fields(settings.mode)
        if own.on and named and not named & acting:
            idle = " and ".join(f"objective.terms.{name}.{field}" for field in STRENGTHS if field in named)
            reads = (
                f"set objective.terms.{name}.{min(acting, key=STRENGTHS.index)}" if acting else "it weighs by itself"
            )
            sentences.append(f"{idle} has no effect under objective.balance.mode={settings.mode}; {reads}")
    return sentences


class Balance(nn.Module):
    """A balancer and its state."""

    def __init__(self, settings: BalanceSettings, terms: int) -> None:
        """`terms` = K, the number of loss terms beside the task."""
        super().__init__()
        self.settings, self.rule = settings, BALANCERS[settings.mode]
        self.names = sorted(initial := self.rule.init(terms))
        for name in self.names:
            self.register_buffer(name, initial[name])

    def measures(self, step: int) -> bool:
        """Whether gradients are measured at this global step."""
        return step % self.settings.every == 0

    @torch.no_grad()
    def forward(self, seen: Seen, targets: Targets) -> Tensor:
        """Coefficients (K+1,) of the losses for this step, task first; in training mode the state moves on.

        A step with a loss that is no number teaches the balancer nothing.
        """
        coefficients, state = self.rule.update(
            {name: self.get_buffer(name) for name in self.names}, seen, targets, self.settings
        )
        if self.training:
            sound = seen.values.isfinite().all()
            for name in self.names:
                kept = self.get_buffer(name)
                kept.copy_(torch.where(sound, state[name], kept))
        return coefficients
