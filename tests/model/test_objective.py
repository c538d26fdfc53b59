from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from model_episodes import episodes, training_module
from model_workers import exchange, part, sent
from torch import Tensor

from model.curriculum import CurriculumSettings, environment_scale
from model.features import SignalSettings, Standardiser, distance_features, statistics
from model.parameters import parameter_groups

CONSTANTS = ("readout.t", "readout.b", "modulation.coupling")


@pytest.mark.parametrize("mode", ["fixed_ramp", "gradnorm_ema"])
def test_loss_and_gradients_do_not_depend_on_the_number_of_workers(mode: str) -> None:
    batch = episodes(lines=(0, 1, 2, 0), signals=3)
    changes: dict[str, Any] = {"environment": {"context_dropout": 0.5, "trunk_gradient": True}}
    objective: dict[str, object] = {"balance": {"mode": mode}}
    alone = training_module(objective, tracks=3, **changes)
    expected, report = alone(batch, step=4, epoch=4.0)
    expected.backward()
    together = [training_module(objective, tracks=3, **changes) for _ in range(2)]
    seen = [sent(module, part(batch, worker, 2), step=4) for worker, module in enumerate(together)]
    for worker, module in enumerate(together):
        module.gather = exchange(seen, worker)
        total, own_report = module(part(batch, worker, 2), step=4, epoch=4.0)
        total.backward()
        assert torch.allclose(total, expected, rtol=1e-5)
        for name, value in report.items():
            assert torch.allclose(own_report[name], value, rtol=1e-4, atol=1e-6), name
    for reference, *shares in zip(*(dict(m.named_parameters()).items() for m in (alone, *together)), strict=True):
        mean = torch.stack([share.grad for _, share in shares]).mean(dim=0)
        assert reference[1].grad is not None
        assert torch.allclose(mean, reference[1].grad, rtol=1e-4, atol=1e-6), reference[0]
    for name, buffer in alone.named_buffers():
        assert torch.allclose(together[0].get_buffer(name), buffer, rtol=1e-4, atol=1e-6), name


def test_reruns_are_bit_equal() -> None:
    runs = []
    for _ in range(2):
        module = training_module(tracks=3, trunk={"dropout": 0.2}, environment={"context_dropout": 0.3})
        optimiser = torch.optim.AdamW(parameter_groups(module, 1e-3), lr=1e-3)
        for step in range(4):
            torch.manual_seed(step)
            optimiser.zero_grad()
            module(episodes(signals=3, seed=step), step=step, epoch=2.0 + step)[0].backward()
            optimiser.step()
        runs.append(module.state_dict())
    assert all(torch.equal(first, second) for first, second in zip(runs[0].values(), runs[1].values(), strict=True))


@pytest.mark.parametrize("form", ["gated", "interaction", "lin_inter_fallback"])
def test_T8_2_weight_decay_never_touches_temperature_gates_couplings_or_bias(form: str) -> None:
    module = training_module(tracks=3, energy={"form": form})
    decayed, *kept = parameter_groups(module, 0.1)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    spared = {names[id(parameter)] for group in kept for parameter in group["params"]}
    assert {f"model.energy.{name}" for name in CONSTANTS} <= spared
    assert not [names[id(p)] for p in decayed["params"] if "norm" in names[id(p)] or names[id(p)].endswith("bias")]
    assert [group["weight_decay"] for group in kept] == [0.0] * 4
    assert decayed["weight_decay"] == 0.1
    assert len(names) == len(decayed["params"]) + len(spared)


def test_T8_2_an_optimiser_step_without_gradient_leaves_them_alone() -> None:
    module = training_module()
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    torch.optim.AdamW(parameter_groups(module, 0.1), lr=0.1).step()
    for name in CONSTANTS:
        assert torch.equal(module.get_parameter(f"model.energy.{name}"), before[f"model.energy.{name}"])
    weight = "model.trunk.elements.stem.weight"
    assert not torch.equal(module.get_parameter(weight), before[weight])


def test_before_warm_up_ends_the_environment_has_no_say_and_learns_nothing() -> None:
    module = training_module({"terms": {"grl": {"on": False}, "corr": {"on": False}}}, tracks=3)
    total, report = module(episodes(signals=3), step=0, epoch=1.5)
    total.backward()
    assert float(report["gate/sd"]) == float(report["environment/scale"]) == 0.0
    for part_ in (module.model.support, module.model.local, module.model.energy.resistance, module.model.energy.shift):
        assert part_ is not None
        assert not any(p.grad.any() for p in part_.parameters() if p.grad is not None)


def test_the_environment_grows_linearly_after_warm_up() -> None:
    curriculum = CurriculumSettings(warm_epochs=2, ramp_epochs=4)
    scales = [environment_scale(curriculum, epoch) for epoch in (0.0, 2.0, 3.0, 6.0, 9.0)]
    assert scales == [0.0, 0.0, 0.25, 1.0, 1.0]
    assert environment_scale(CurriculumSettings(warm_epochs=0, ramp_epochs=0), 0.0) == 1.0


def test_evaluation_changes_no_state_and_needs_no_gradient() -> None:
    module = training_module(tracks=3)
    module(episodes(signals=3), step=0, epoch=3.0)
    module.eval()
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with torch.no_grad():
        _, report = module(episodes(signals=3, seed=1), step=4, epoch=9.0)
    assert "gradient_ratio/grl" not in report
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())


def test_signals_are_standardised_by_the_training_lines_and_missing_ones_become_zero() -> None:
    values = torch.randn(500, 3) * torch.tensor([1.0, 5.0, 0.0]) + 4
    values[::7, 1] = float("nan")
    standardise = Standardiser(3, SignalSettings(transform="log1p"))
    standardise.fit(values)
    out = standardise(values)
    assert not out[::7, 1].any()
    assert torch.allclose(out[:, 0].mean(), torch.tensor(0.0), atol=1e-4)
    assert torch.allclose(out[:, 0].std(), torch.tensor(1.0), atol=1e-2)
    assert out[:, 2].abs().max() < 1e-3


def test_an_unknown_distance_is_only_its_flag() -> None:
    features = distance_features(torch.tensor([float("nan"), 0.0, 1e5]))
    assert features[0].tolist() == [0.0] * 9 + [1.0]
    assert not features[1:, -1].any()
    assert float(features[2, 0]) == pytest.approx(0.0, abs=1e-5)


def test_a_few_steps_lower_the_loss() -> None:
    module = training_module(tracks=3, trunk={"size": "none"})
    optimiser = torch.optim.AdamW(parameter_groups(module, 1e-3), lr=3e-3)
    losses = []
    for step in range(60):
        batch = episodes(signals=3, query=24, seed=step % 4)
        labels = (batch.signals[:, batch.support :, 0] > 0).float()
        total, report = module(replace(batch, labels=labels), step=step, epoch=10.0)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        losses.append(float(report["loss/task"]))
    assert sum(losses[-4:]) < 0.5 * sum(losses[:4])


def test_modules_that_own_parameters_return_only_what_zero_3_can_see() -> None:
    module = training_module(tracks=3)
    results: list[object] = []
    for owner in module.modules():
        if list(owner.parameters(recurse=False)):
            owner.register_forward_hook(lambda _, __, result: results.append(result))
    module(episodes(signals=3), step=0, epoch=3.0)
    flat = [part_ for result in results for part_ in (result if type(result) is tuple else (result,))]
    assert flat
    assert all(isinstance(part_, Tensor) for part_ in flat)
    assert all(parameter.dim() > 0 for parameter in module.parameters())


def test_head_parameters_are_all_but_the_trunk() -> None:
    module = training_module(tracks=3)
    assert module.model.trunk is not None
    heads, trunk = {id(p) for p in module.head_parameters()}, {id(p) for p in module.model.trunk.parameters()}
    assert not heads & trunk
    assert heads | trunk == {id(p) for p in module.parameters()}


def test_infinite_signals_are_missing_ones_and_leave_the_track_its_statistics() -> None:
    values = torch.tensor([[1.0, 5.0], [3.0, torch.inf], [-torch.inf, 7.0], [torch.nan, 6.0]])
    mean, deviation = statistics(values, "none")
    torch.testing.assert_close(mean, torch.tensor([2.0, 6.0]))
    torch.testing.assert_close(deviation, torch.tensor([1.0, (2 / 3) ** 0.5]))
    standardise = Standardiser(2, SignalSettings())
    standardise.fit(values)
    assert standardise(values)[:, 0].tolist() == [-1.0, 1.0, 0.0, 0.0]
    assert standardise(values)[1, 1] == 0.0
