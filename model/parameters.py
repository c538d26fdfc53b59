"""Which parameters weight decay may touch: matrices of linear and convolution layers, nothing else (T8.2).

The temperature t and the couplings (w, lambda) have groups of their own, without decay, because the declared responses
R100 and R103 may decay them later.
"""

from __future__ import annotations

from typing import Any

from torch import nn

SCALARS = {"t": "temperature", "coupling": "coupling"}
"""Parameters with a group of their own: their name in the module that owns them, and the group's role."""


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Optimiser groups with a `role`: "matrices", which are decayed, and what decay would harm.

    Biases, norms, kind vectors and the energy's t, w, lambda and b are never decayed. Decided by name and owner, not by
    shape, because partitioned parameters (ZeRO-3) have none. Without t or couplings their groups are left out.
    """
    members: dict[str, list[nn.Parameter]] = {"matrices": [], "others": [], "temperature": [], "coupling": []}
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            matrix = name == "weight" and not isinstance(owner, nn.LayerNorm)
            members["matrices" if matrix else SCALARS.get(name, "others")].append(parameter)
    decay = {"matrices": weight_decay}
    return [
        {"params": own, "weight_decay": decay.get(role, 0.0), "role": role}
        for role, own in members.items()
        if own or role in ("matrices", "others")
    ]
