from __future__ import annotations

import math

import pytest
import torch

from model.energy.kan import FourierSum, fourier_kan, waves
from model.parameters import parameter_groups


def layer(inputs: int = 3, outputs: int = 4, harmonics: int = 5) -> FourierSum:
    torch.manual_seed(0)
    return FourierSum(inputs, outputs, harmonics).double()


def test_T8_1_fourier_sums_are_periodic_before_squashing() -> None:
    x = torch.randn(50, 3, dtype=torch.double)
    assert torch.allclose(layer()(x), layer()(x + 2 * math.pi), atol=1e-11)


def test_T8_1_the_squashed_head_is_not_periodic() -> None:
    torch.manual_seed(0)
    head, x = fourier_kan(3, 8, 2, 5), torch.randn(50, 3)
    shifted = x + torch.tensor([2 * math.pi, 0.0, 0.0])
    assert not torch.allclose(head(x), head(shifted), atol=1e-2)


def test_T8_1_without_coefficients_only_the_bias_is_left() -> None:
    module = layer()
    with torch.no_grad():
        module.weight.zero_()
        module.bias.copy_(torch.arange(4.0))
    out = module(torch.randn(7, 3, dtype=torch.double))
    assert torch.equal(out, torch.arange(4.0, dtype=torch.double).expand(7, -1))


@pytest.mark.parametrize(("harmonics", "fits"), [(2, False), (3, True), (5, True)])
def test_T8_1_sin_3x_needs_three_harmonics(harmonics: int, fits: bool) -> None:
    x = torch.linspace(-math.pi, math.pi, 201, dtype=torch.double).unsqueeze(1)
    target = torch.sin(3 * x)
    basis = torch.cat([waves(x, harmonics), torch.ones_like(x)], dim=1)
    rest = target - basis @ torch.linalg.lstsq(basis, target).solution
    assert bool(rest.abs().max() < 1e-10) == fits
    assert fits or rest.square().mean() > 0.45


def test_fourier_sums_start_with_unit_variance() -> None:
    torch.manual_seed(1)
    module = FourierSum(64, 256, 5)
    out = module(torch.rand(500, 64) * 2 * math.pi)
    assert out.var().item() == pytest.approx(1.0, abs=0.05)


def test_the_sum_is_the_one_of_its_coefficients() -> None:
    module, x = layer(), torch.randn(5, 3, dtype=torch.double)
    k = torch.arange(1, 6, dtype=torch.double)
    angles = x.unsqueeze(-1) * k
    a, b = (module.weight.unflatten(-1, (-1, 2, 5)) / k).unbind(dim=2)
    expected = torch.einsum("jik,nik->nj", a, angles.cos()) + torch.einsum("jik,nik->nj", b, angles.sin())
    assert torch.allclose(module(x), expected + module.bias, atol=1e-12)


def test_weight_decay_of_a_fourier_sum_is_the_power_of_its_slope() -> None:
    # sum k^2 (a^2 + b^2) over coefficients is the mean square of the derivative over a period, times 2.
    module = layer()
    points = torch.arange(64, dtype=torch.double) * (2 * math.pi / 64)
    power = torch.zeros((), dtype=torch.double)
    for own in range(3):
        x = torch.zeros(64, 3, dtype=torch.double)
        x[:, own] = points
        x.requires_grad_()
        for output in module(x).unbind(dim=1):
            slope = torch.autograd.grad(output.sum(), x, retain_graph=True)[0][:, own]
            power += 2 * slope.square().mean()
    assert power.item() == pytest.approx(module.weight.square().sum().item())
    decayed, kept = (group["params"] for group in parameter_groups(module, 0.1))
    assert [id(p) for p in decayed] == [id(module.weight)]
    assert [id(p) for p in kept] == [id(module.bias)]
