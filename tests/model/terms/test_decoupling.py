from __future__ import annotations

import pytest
import torch
from model_episodes import episodes, training_module

from model.terms.decoupling import correlation_loss, cross_correlation


def test_T3_1_constant_environment_gives_exactly_zero_and_no_gradient() -> None:
    a = torch.randn(64, 8, requires_grad=True)
    b = torch.full((64, 3), 0.1234567, requires_grad=True)
    loss = correlation_loss(a, b)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert a.grad is not None
    assert b.grad is not None
    assert not a.grad.any()
    assert not b.grad.any()


@pytest.mark.parametrize("debiased", [False, True])
def test_T3_1_constant_environment_is_reported_as_degenerate(debiased: bool) -> None:
    module = training_module({"terms": {"corr": {"debiased": debiased}}}, environment={"encoder": "none"})
    _, report = module(episodes(), step=0, epoch=3.0)
    assert float(report["loss/corr"]) == 0.0
    assert float(report["degenerate/corr"]) == 1.0


def test_T3_2_a_variable_with_itself_has_unit_diagonal_and_squared_norm_d() -> None:
    basis, _ = torch.linalg.qr(torch.randn(64, 9, dtype=torch.double) - 0.5)
    x = basis - basis.mean(dim=0)
    x, _ = torch.linalg.qr(x)
    x = 30 * (x - x.mean(dim=0))
    c = cross_correlation(x, x)
    assert torch.allclose(c.diagonal(), torch.ones(9, dtype=torch.double), atol=1e-6)
    assert float(c.square().sum()) == pytest.approx(9.0, abs=1e-5)


def test_T3_3_affine_maps_of_single_dimensions_change_nothing() -> None:
    a, b = torch.randn(50, 4, dtype=torch.double), torch.randn(50, 3, dtype=torch.double)
    b = b + a[:, :3]
    moved = correlation_loss(a * torch.tensor([2.0, -3.0, 10.0, 0.5]) + 7, b * torch.tensor([-1.0, 4.0, 9.0]) - 2)
    assert float(moved) == pytest.approx(float(correlation_loss(a, b)), rel=1e-6)


def test_T3_4_independent_variables_have_the_null_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = [
        [correlation_loss(a, b, debiased) for debiased in (False, True)]
        for _ in range(300)
        for a, b in [(torch.randn(64, 8, generator=generator), torch.randn(64, 8, generator=generator))]
    ]
    plain, debiased = torch.tensor(draws).mean(dim=0)
    assert float(plain) == pytest.approx(1 / 63, abs=4e-4)
    assert float(debiased) == pytest.approx(0.0, abs=4e-4)


def test_T8_5_a_step_of_one_line_is_exactly_zero_and_reported() -> None:
    module = training_module()
    total, report = module(episodes(lines=(1, 1)), step=0, epoch=3.0)
    total.backward()
    assert float(report["loss/corr"]) == 0.0
    assert float(report["degenerate/corr"]) == 1.0
    assert float(report["degenerate/grl"]) == 1.0
    assert float(module(episodes(), step=1, epoch=3.0)[1]["degenerate/corr"]) == 0.0


def test_the_debiased_term_takes_the_null_mean_of_its_pairs_out_and_may_be_negative() -> None:
    batch = episodes()
    pairs = batch.labels.numel()
    plain, debiased = (
        training_module({"terms": {"corr": {"debiased": own}}}, energy={"dropout": 0.0}, environment={"dropout": 0.0})
        for own in (False, True)
    )
    first, second = (float(module(batch, step=0, epoch=3.0)[1]["loss/corr"]) for module in (plain, debiased))
    null = 1 / (pairs - 1)
    assert second == pytest.approx((first - null) / (1 - null), rel=1e-5)
    assert (plain.bounds["corr"], debiased.bounds["corr"]) == (0.0, -1.0)
