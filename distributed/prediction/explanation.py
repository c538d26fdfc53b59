"""The columns that say what a logit is made of, and which signals belong together.

logit = [b + sum_k u_k g_k - r] / T (algorithms.md 0): the first K + 2 columns are its summands, then U by channel, the
gates and the shift on the energy's own scale, then what each group of signals adds to the logit through the local
environment. All are means over the support draws, so a product of means is not the mean of the products.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_pipeline.store import group_of
from distributed.prediction.deployment import ModelDescription


def explained(model: ModelDescription) -> list[str]:
    """Names of the columns, in the order in which `HeadScores.parts` has them."""
    channels = range(1, model.model.energy.channels + 1)
    return [
        *("logit_background", "logit_environment"),
        *(f"logit_channel_{k}" for k in channels),
        *(f"energy_channel_{k}" for k in channels),
        *(f"gate_{k}" for k in channels),
        "shift",
        *(f"context_{group}" for group in context_groups(model)),
    ]


def context_groups(model: ModelDescription) -> dict[str, NDArray[np.int64]]:
    """Positions of the signals of each group, and of the profile's tracks behind them; none of what the model does not
    look at in the pair itself."""
    environment, signals = model.model.environment, len(model.signal_names)
    groups: dict[str, list[int]] = {}
    if environment.local or environment.query_attention:
        for place, name in enumerate(model.signal_names):
            groups.setdefault(group_of(name), []).append(place)
    if environment.profile.on:
        groups["landscape"] = list(range(signals, signals + len(model.landscape_names)))
    return {group: np.array(places, dtype=np.int64) for group, places in groups.items()}
