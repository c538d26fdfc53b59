"""Which parameters weight decay may touch: matrices of linear and convolution layers, nothing else (T8.2)."""

from __future__ import annotations

from typing import Any

from torch import nn


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two optimiser groups: decayed weights, and everything decay would harm.

    Biases, norms, kind vectors and the energy's t, w, lambda and b are never decayed. Decided by name and owner, not by
    shape, because partitioned parameters (ZeRO-3) have none.
    """
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            matrix = name == "weight" and not isinstance(owner, nn.LayerNorm)
            (decayed if matrix else kept).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
