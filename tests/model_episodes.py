"""Small episode batches of random DNA for the model's tests."""

from __future__ import annotations

import numpy as np
import torch

from data_pipeline.batch import EpisodeBatch
from data_pipeline.dna import pack_many
from model.adversary import Adversary
from model.episode_model import ModelSettings
from model.objective import ObjectiveSettings, TrainingModule


def dna(rng: np.random.Generator, count: int, length: int) -> list[str]:
    return ["".join(rng.choice(list("ACGT"), length)) for _ in range(count)]


def episodes(
    lines: tuple[int, ...] = (0, 1, 2),
    support: int = 4,
    query: int = 6,
    length: int = 64,
    signals: int = 0,
    features: int = 0,
    seed: int = 0,
) -> EpisodeBatch:
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    count, pairs, elements = len(lines), support + query, 12
    return EpisodeBatch(
        enhancer_packed=torch.from_numpy(pack_many(dna(rng, elements, length), length)),
        promoter_packed=torch.from_numpy(pack_many(dna(rng, elements, length), length)),
        enhancer=torch.randint(0, elements, (count, pairs), generator=generator),
        promoter=torch.randint(0, elements, (count, pairs), generator=generator),
        distance=torch.rand(count, pairs, generator=generator) * 1e6,
        signals=torch.randn(count, pairs, signals, generator=generator),
        labels=(torch.rand(count, query, generator=generator) < 0.4).float(),
        line=torch.tensor(lines),
        line_features=torch.randn(count, features, generator=generator),
        rows=torch.randperm(1000, generator=generator)[: count * pairs].view(count, pairs),
        support=support,
    )


def settings(**changes: object) -> ModelSettings:
    """Tiny and without any dropout; `changes` replace whole sections."""
    quiet: dict[str, object] = {
        "trunk": {"size": "tiny", "dropout": 0.0},
        "environment": {"dropout": 0.0, "local_dropout": 0.0, "context_dropout": 0.0},
        "energy": {"dropout": 0.0},
    }
    for section, values in changes.items():
        base = quiet.get(section, {})
        quiet[section] = {**base, **values} if isinstance(base, dict) and isinstance(values, dict) else values
    return ModelSettings.model_validate(quiet)


def training_module(
    objective: dict[str, object] | None = None, tracks: int = 0, seed: int = 0, **changes: object
) -> TrainingModule:
    torch.manual_seed(seed)
    return TrainingModule(settings(**changes), ObjectiveSettings.model_validate(objective or {}), tracks, 0, lines=3)


def taught(module: TrainingModule, *batches: EpisodeBatch, steps: int = 60) -> TrainingModule:
    """`module` with adversaries that read the line off z_I in these batches; everything else as it was."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    against = [own for part in module.modules() if isinstance(part, Adversary) for own in part.parameters()]
    optimiser = torch.optim.Adam(against, lr=1e-2)
    for step in range(steps):
        module.zero_grad()
        module(batches[step % len(batches)], step=step, epoch=0.0)[0].backward()
        optimiser.step()
    module.zero_grad()
    for name, buffer in buffers.items():
        module.get_buffer(name).copy_(buffer)
    return module
