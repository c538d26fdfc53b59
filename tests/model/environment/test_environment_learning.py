"""A world in which only the environment says which way distance counts: near pairs interact in one kind of line, far
pairs in the other, and a line's kind shows in the mean of its support's noisy signal (or in its features)."""

from __future__ import annotations

import pytest
import torch
from model_episodes import settings
from sklearn.metrics import roc_auc_score

from model.episode_model import EpisodeModel

EPISODES, SUPPORT, QUERY, STEPS = 8, 16, 32, 60
WORLDS: dict[str, dict[str, object]] = {
    "mean": {"encoder": "mean"},
    "attention": {"encoder": "attention"},
    "isab": {"encoder": "isab"},
    "prototypes": {"encoder": "prototypes"},
    "features": {"encoder": "features"},
    "fused": {"encoder": "mean", "fusion": "gp"},
    "query attention": {"encoder": "mean", "query_attention": True},
}


def world(seed: int) -> dict[str, torch.Tensor]:
    """Eight lines of alternating kinds, with features that are new in every world."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.tensor([1.0, -1.0]).repeat(EPISODES // 2).unsqueeze(1)
    decades = 4 + 2 * torch.rand(EPISODES, SUPPORT + QUERY, generator=generator)
    signals = kind + 2 * torch.randn(EPISODES, SUPPORT + QUERY, generator=generator)
    near = (kind * (5 - decades))[:, SUPPORT:]
    return {
        "distance": 10**decades,
        "signals": signals.unsqueeze(-1),
        "labels": (torch.rand(near.shape, generator=generator) < torch.sigmoid(8 * near)).float(),
        "line_features": torch.cat([kind, 0.3 * torch.randn(EPISODES, 1, generator=generator)], dim=1),
    }


def logits(m: EpisodeModel, data: dict[str, torch.Tensor]) -> torch.Tensor:
    h = torch.empty(EPISODES, SUPPORT + QUERY, 0)
    line = torch.arange(EPISODES)
    return m.score_episodes(h, data["distance"], data["signals"], data["line_features"], SUPPORT, line=line).logits


@pytest.mark.parametrize("name", WORLDS)
def test_every_environment_learns_which_way_a_new_line_turns_the_energy(name: str) -> None:
    torch.manual_seed(0)
    own = {"local": False, "width": 8, "hidden": 16, **WORLDS[name]}
    m = EpisodeModel(settings(trunk={"size": "none"}, environment=own, energy={"channels": 2}), 1, 2, lines=EPISODES)
    optimiser = torch.optim.Adam(m.parameters(), lr=2e-2)
    for step in range(STEPS):
        data = world(step)
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(logits(m, data), data["labels"]).backward()
        optimiser.step()
    m.eval()
    data = world(10_000)
    turned = {**data, "signals": -data["signals"], "line_features": -data["line_features"]}
    with torch.no_grad():
        right, wrong = (roc_auc_score(data["labels"].flatten(), logits(m, x).flatten()) for x in (data, turned))
    assert right > 0.85
    assert wrong < 0.25
