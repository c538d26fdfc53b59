"""Global steps and scores made of chosen logits, labels and codes, for tests of single loss terms."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from model.energy import Scores
from model.step import GlobalStep


def step_of(labels: Tensor, line: tuple[int, ...] | None = None, support: int = 0, features: int = 0) -> GlobalStep:
    """Labels (G, n) of episodes of lines 0, 1, ... unless given; every pair has a row of its own."""
    episodes, query = labels.shape
    pairs = support + query
    return GlobalStep(
        h=torch.zeros(episodes, pairs, 0),
        distance=torch.full((episodes, pairs), 1e5),
        signals=torch.zeros(episodes, pairs, 0),
        labels=labels,
        line=torch.arange(episodes) if line is None else torch.tensor(line),
        line_features=torch.zeros(episodes, features),
        rows=torch.arange(episodes * pairs).view(episodes, pairs),
        support=support,
    )


def scores_of(logits: Tensor, invariant: Tensor | None = None, codes: Tensor | None = None) -> Scores:
    """Scores with these logits (G, n), z_I (G, n, dI) and support codes (G, m, dE), in a neutral environment."""
    episodes, query = logits.shape
    codes = torch.zeros(episodes, 1, 2) if codes is None else codes
    named = {
        "logits": logits,
        "neutral": logits.detach(),
        "gates": torch.ones(episodes, query, 1),
        "resistance": torch.zeros(episodes, query, 1),
        "shift": torch.zeros(episodes, query),
        "temperature": torch.ones(()),
        "invariant": torch.zeros(episodes, query, 1) if invariant is None else invariant,
        "environment": codes.mean(dim=1),
        "codes": codes,
    }
    return Scores(
        **{field.name: named.get(field.name, torch.zeros(())) for field in fields(Scores) if field.name != "student"}
    )
