"""Which parameters weight decay may touch: matrices of linear and convolution layers, nothing else (T8.2).

The temperature t and the couplings (w, lambda) have groups of their own, without decay, because the declared responses
R100 and R103 may decay them later. Adversaries have one because they learn at a rate of their own.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from model.terms import Adversary

SCALARS = {"t": "temperature", "coupling": "coupling"}
"""Parameters with a group of their own: their name in the module that owns them, and the group's role."""


def parameter_groups(module: nn.Module, weight_decay: float, adversary_rate: float = 1.0) -> list[dict[str, Any]]:
    """Optimiser groups with a `role`: "matrices", which are decayed, and what decay would harm.

    Biases, norms, kind vectors and the energy's t, w, lambda and b are never decayed, nor are adversaries, which decay
    would only hold back; their group's `rate` multiplies the learning rate, by 1 in every other. Decided by name and
    owner, not by shape, because partitioned parameters (ZeRO-3) have none. Empty groups but the first two are left out.
    """
    roles = ("matrices", "others", *SCALARS.values(), "adversary")
    members: dict[str, list[nn.Parameter]] = {role: [] for role in roles}
    against = {part for own in module.modules() if isinstance(own, Adversary) for part in own.modules()}
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            matrix = name == "weight" and not isinstance(owner, nn.LayerNorm)
            role = "matrices" if matrix else SCALARS.get(name, "others")
            members["adversary" if owner in against else role].append(parameter)
    decay, rate = {"matrices": weight_decay}, {"adversary": adversary_rate}
    return [
        {"params": own, "weight_decay": decay.get(role, 0.0), "rate": rate.get(role, 1.0), "role": role}
        for role, own in members.items()
        if own or role in ("matrices", "others")
    ]
