"""Terms with a memory: equal for any number of workers, bit for bit repeatable, and whole in a checkpoint."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_episodes import episodes, training_module
from model_workers import exchange, part, sent
from torch import Tensor

from model.objective import TrainingModule
from model.parameters import parameter_groups

QUIET: dict[str, Any] = {"grl": {"on": False}, "corr": {"on": False}}
DROPOUT: dict[str, Any] = {"energy": {"dropout": 0.2}, "environment": {"dropout": 0.2, "trunk_gradient": True}}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rank": ({"rank": {"on": True}}, {}),
    "soap": ({"rank": {"on": True, "mode": "soap"}}, {}),
    "smoothap": ({"rank": {"on": True, "mode": "smoothap", "smallest_pool": 2}}, {}),
    "club": ({"club": {"on": True}}, {}),
    "hsic": ({"hsic": {"on": True}}, {}),
    "dependence": ({"dependence": {"on": True}}, {}),
    "leace": ({}, {"erasure": "leace"}),
    "bottleneck": ({"bottleneck": {"on": True}, "sparse": {"on": True}}, {"invariant_noise": 0.3}),
}


def module(case: str, seed: int = 0) -> TrainingModule:
    terms, changes = CASES[case]
    return training_module({"terms": {**QUIET, **terms}}, seed=seed, **DROPOUT, **changes)


def train(m: TrainingModule, first: int, steps: int) -> list[Tensor]:
    """Totals of plain gradient steps `first`, first + 1, ...; `m` keeps what they taught it."""
    optimiser = torch.optim.SGD([p for group in parameter_groups(m, 0.0) for p in group["params"]], lr=0.05)
    totals = []
    for step in range(first, first + steps):
        total, _ = m(episodes(query=12, seed=step % 3), step=step, epoch=4.0)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(total.detach())
    return totals


@pytest.mark.parametrize("case", sorted(CASES))
def test_two_workers_see_what_one_sees(case: str) -> None:
    alone, together = module(case), [module(case) for _ in range(2)]
    for step in range(3):
        batch = episodes(lines=(0, 1, 2, 0), query=12, seed=step)
        expected, report = alone(batch, step=step, epoch=4.0)
        seen = [sent(m, part(batch, worker, 2), step=step) for worker, m in enumerate(together)]
        for worker, m in enumerate(together):
            m.gather = exchange(seen, worker)
            total, own = m(part(batch, worker, 2), step=step, epoch=4.0)
            assert torch.allclose(total, expected, rtol=1e-4, atol=1e-6)
            assert all(torch.allclose(own[name], report[name], rtol=1e-3, atol=1e-5, equal_nan=True) for name in report)
    for name, buffer in alone.named_buffers():
        for m in together:
            assert torch.allclose(m.get_buffer(name), buffer, rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_run_resumed_from_its_state_is_the_run_that_never_stopped(case: str) -> None:
    whole = module(case)
    totals = train(whole, 0, 6)
    halted = module(case)
    train(halted, 0, 3)
    resumed = module(case, seed=1)
    resumed.load_state_dict({name: value.clone() for name, value in halted.state_dict().items()})
    assert all(torch.equal(a, b) for a, b in zip(train(resumed, 3, 3), totals[3:], strict=True))
    assert all(
        torch.equal(a, b) for a, b in zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("case", sorted(CASES))
def test_no_parameter_lacks_a_dimension_and_owners_return_tensors(case: str) -> None:
    m = module(case)
    results: list[object] = []
    for owner in m.modules():
        if list(owner.parameters(recurse=False)):
            owner.register_forward_hook(lambda _, __, result: results.append(result))
    m(episodes(), step=0, epoch=4.0)
    flat = [each for result in results for each in (result if type(result) is tuple else (result,))]
    assert flat
    assert all(isinstance(each, Tensor) for each in flat)
    assert all(parameter.dim() > 0 for parameter in m.parameters())
