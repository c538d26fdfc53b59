from __future__ import annotations

import math

import pytest
import torch
from model_episodes import episodes, training_module

from data_pipeline.errors import UserError
from model.objective import TrainingModule
from model.parameters import parameter_groups
from model.terms.sparsity import hoyer, normalised_l1, small_share


def module(name: str, noise: float = 0.0, **changes: object) -> TrainingModule:
    terms = {"grl": {"on": False}, "corr": {"on": False}, name: {"on": True, "start": 0.0}}
    return training_module({"terms": terms}, invariant_noise=noise, **changes)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_T8_7_hoyer_of_one_hot_is_1_and_of_uniform_0(scale: float) -> None:
    one_hot, uniform = torch.eye(64)[3], torch.ones(64) * torch.tensor([1.0, -1.0]).repeat(32)
    found = hoyer(scale * torch.stack([one_hot, uniform, torch.zeros(64)]))
    assert found.tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)


def test_T8_7_l1_acts_on_the_normalised_code_so_shrinking_it_does_not_help() -> None:
    x = torch.randn(5, 64, dtype=torch.double, requires_grad=True)
    loss = normalised_l1(x).mean()
    assert float(loss.detach()) == pytest.approx(float(normalised_l1(100 * x).mean().detach()), rel=1e-9)
    (gradient,) = torch.autograd.grad(loss, x)
    assert (gradient * x.detach()).sum(dim=1).abs().max() < 1e-12
    assert float(normalised_l1(torch.eye(64)).mean()) == pytest.approx(1 / 8)
    assert float(normalised_l1(torch.ones(2, 64)).mean()) == pytest.approx(1.0)


def test_T8_7_the_l1_term_never_reaches_the_resistance_or_the_environment() -> None:
    m = module("sparse", environment={"trunk_gradient": True})
    values = []
    m.terms["sparse"].register_forward_hook(lambda _, __, value: values.append(value))
    m(episodes(), step=0, epoch=3.0)
    parameters = dict(m.named_parameters())
    gradients = torch.autograd.grad(values[0].loss, list(parameters.values()), allow_unused=True)
    touched = {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None}
    assert touched
    assert all(name.startswith(("model.trunk.", "model.invariant.")) for name in touched)


def test_unused_dimensions_are_counted_relative_to_the_others() -> None:
    x = torch.tensor([[1.0, 1.0, 1e-4, 0.0], [1e-4, 1e-4, 1e-4, 1e-4]])
    assert float(small_share(x)) == 0.25


def test_a_code_of_zero_is_reported_and_harmless() -> None:
    m = module("sparse")
    with torch.no_grad():
        m.model.invariant[-1].weight.zero_()
        m.model.invariant[-1].bias.zero_()
    total, report = m(episodes(), step=0, epoch=3.0)
    total.backward()
    assert float(report["loss/sparse"]) == 0.0
    assert float(report["degenerate/sparse"]) == 1.0
    assert all(torch.isfinite(p.grad).all() for p in m.parameters() if p.grad is not None)


def test_the_rate_is_the_divergence_from_the_standard_normal_on_average_and_exactly_in_evaluation() -> None:
    m, batch = module("bottleneck", noise=0.4), episodes(query=40)
    noisy = [float(m(batch, step=step, epoch=3.0)[1]["rate/bottleneck"]) for step in range(30)]
    m.eval()
    rate = float(m(batch, step=0, epoch=3.0)[1]["rate/bottleneck"])
    mean = m.model.score_episodes(
        m.model.represent(batch), batch.distance, batch.signals, batch.line_features, batch.support
    ).invariant.detach()
    posterior = torch.distributions.Normal(mean, 0.4)
    standard = torch.distributions.Normal(torch.zeros_like(mean), 1.0)
    expected = float(torch.distributions.kl_divergence(posterior, standard).sum(dim=-1).mean())
    assert rate == pytest.approx(expected, rel=1e-5)
    assert sum(noisy) / len(noisy) == pytest.approx(expected, rel=3e-3)


def test_the_rate_is_above_the_information_of_a_noisy_gaussian_code() -> None:
    # z = mu + sigma noise with mu ~ N(0, s^2): I(z; x) = ln(1 + s^2/sigma^2) / 2 per dimension.
    for spread in (0.0, 0.5, 1.0, 3.0):
        for sigma in (0.1, 0.6):
            information = 0.5 * math.log(1 + spread**2 / sigma**2)
            rate = 0.5 * (spread**2 + sigma**2 - 1 - math.log(sigma**2))
            assert rate >= information - 1e-12


@pytest.mark.parametrize("noise", [0.1, 0.6])
def test_the_rate_stays_above_a_positive_bound(noise: float) -> None:
    m = module("bottleneck", noise=noise)
    assert m.bounds["bottleneck"] == pytest.approx(-0.5 - math.log(noise))
    assert m.bounds["bottleneck"] > 0
    with torch.no_grad():
        m.model.invariant[-1].weight.zero_()
        m.model.invariant[-1].bias.zero_()
    _, report = m(episodes(), step=0, epoch=3.0)
    assert float(report["bound_violated/bottleneck"]) == 0.0


def test_a_bottleneck_without_noise_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.invariant_noise"):
        module("bottleneck")


def test_noise_is_for_training_only_and_off_by_default() -> None:
    batch = episodes()
    plain, noisy = training_module(), training_module(invariant_noise=0.5)
    assert not torch.equal(plain(batch, step=0, epoch=3.0)[0], noisy(batch, step=0, epoch=3.0)[0])
    plain, noisy = training_module().eval(), training_module(invariant_noise=0.5).eval()
    assert torch.equal(plain.model.logits(batch), noisy.model.logits(batch))


@pytest.mark.parametrize(("name", "noise"), [("sparse", 0.0), ("bottleneck", 0.3)])
def test_each_term_trains_with_a_gradient_at_the_shared_representation(name: str, noise: float) -> None:
    m = module(name, noise=noise)
    optimiser = torch.optim.AdamW(parameter_groups(m, 1e-3), lr=1e-3)
    for step in range(5):
        total, report = m(episodes(query=20, seed=step % 2), step=step, epoch=3.0)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        assert torch.isfinite(report[f"loss/{name}"])
        assert float(report[f"bound_violated/{name}"]) == 0.0
        assert step % 4 or float(report[f"gradient_ratio/{name}"]) > 0.0
