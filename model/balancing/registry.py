"""The balancers there are: one entry per name.

A new one is a pair of functions with what it declares (in `gradient_rules`, `value_rules` or a module of its own), one
entry here and one test. The choices of `objective.balance.mode`, what a search may vary under it and which terms it
refuses follow.
"""

from __future__ import annotations

from model.balancing.gradient_rules import ALIGNED, FIXED_RAMP, GRADNORM_EMA, IMTL_G_REP, PCGRAD_PROTECT
from model.balancing.rule import Balancer
from model.balancing.value_rules import DWA, RELOBRALO, UW

BALANCERS: dict[str, Balancer] = {
    "fixed_ramp": FIXED_RAMP,
    "gradnorm_ema": GRADNORM_EMA,
    "pcgrad_protect": PCGRAD_PROTECT,
    "imtl_g_rep": IMTL_G_REP,
    "aligned": ALIGNED,
    "uw": UW,
    "dwa": DWA,
    "relobralo": RELOBRALO,
}
"""The rules by name."""

BY_VALUE = tuple(name for name, rule in BALANCERS.items() if rule.by_value)
"""Rules that look at the values of the losses."""
