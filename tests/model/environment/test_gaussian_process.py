from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.environment.gaussian_process import GaussianProcessPrior, fused, gp_posterior

FEATURES = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.5, 1.5], [-1.0, 2.0]], dtype=torch.double)
VALUES = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
ONE = torch.ones((), dtype=torch.double)


def posterior(query: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    return gp_posterior(FEATURES, VALUES, query, torch.ones(len(query), 5, dtype=torch.bool), ONE, noise)


def trained(noise: float = 0.1) -> GaussianProcessPrior:
    prior = GaussianProcessPrior(5, 2, 3, memory=0.9, noise=noise)
    codes = VALUES.float().unsqueeze(1) + torch.tensor([-0.5, 0.5]).view(1, 2, 1)
    prior.observe(torch.arange(5), FEATURES.float(), codes.mean(dim=1), codes)
    return prior


def test_T10_1_without_noise_the_process_interpolates() -> None:
    mean, variance = posterior(FEATURES, noise=1e-6)
    assert torch.allclose(mean, VALUES, atol=1e-6)
    assert variance.max() < 1e-6


def test_T10_1_far_away_it_returns_the_mean_with_variance_one() -> None:
    mean, variance = posterior(torch.full((1, 2), 100.0, dtype=torch.double), noise=0.1)
    assert torch.allclose(mean[0], VALUES.mean(dim=0))
    assert variance.item() == pytest.approx(1.0)


def test_T10_1_many_support_pairs_leave_the_support_mean() -> None:
    support, prior = torch.randn(2, 3), torch.randn(2, 3)
    within, variance = torch.tensor(2.0), torch.tensor([0.5, 1.0])
    assert torch.allclose(fused(support, 10**9, within, prior, variance), support, atol=1e-6)
    assert torch.equal(fused(support, 32, within, prior, torch.zeros(2)), prior)
    halved = fused(support, 4, within, prior, torch.tensor([0.5, 0.5]))
    assert torch.allclose(halved, (support + prior) / 2)


def test_lines_left_out_do_not_count() -> None:
    known = torch.tensor([[True, True, False, True, True]])
    query = FEATURES[2:3]
    mean, variance = gp_posterior(FEATURES, VALUES, query, known, ONE, 0.1)
    rest = [0, 1, 3, 4]
    expected = gp_posterior(FEATURES[rest], VALUES[rest], query, torch.ones(1, 4, dtype=torch.bool), ONE, 0.1)
    assert torch.allclose(mean, expected[0])
    assert torch.allclose(variance, expected[1])


def test_a_line_is_never_its_own_prior() -> None:
    prior, moved = trained(), trained()
    moved.lines.mean[2] += 100.0
    asked = FEATURES[2:3].float()
    for own, other in zip(prior(asked), moved(asked), strict=True):
        assert torch.equal(own, other)
    assert not torch.equal(prior(FEATURES[1:2].float())[0], moved(FEATURES[1:2].float())[0])


def test_the_prior_variance_is_in_the_units_of_the_codes() -> None:
    small, large = trained(), trained()
    large.lines.mean *= 10.0
    query = torch.tensor([[0.4, 0.4]])
    assert torch.allclose(large(query)[1], 100 * small(query)[1], rtol=1e-5)


def test_before_two_other_lines_are_known_the_support_stands_alone() -> None:
    prior, support = GaussianProcessPrior(5, 2, 3, memory=0.9, noise=0.1), torch.randn(2, 3)
    features = FEATURES[:2].float()
    assert torch.equal(prior.fuse(support, 8, features), support)
    prior.observe(torch.tensor([0, 1]), features, support, support.unsqueeze(1).expand(-1, 8, -1))
    assert torch.equal(prior.fuse(support, 8, features), support)


def test_what_is_kept_per_line_is_a_mean_over_steps_and_skips_unknown_lines() -> None:
    prior = GaussianProcessPrior(3, 2, 1, memory=0.9, noise=0.1)
    values = torch.tensor([[1.0], [3.0], [10.0]])
    for line in ([0, 0, 2], [0, -1, -1]):
        prior.observe(torch.tensor(line), FEATURES[line].float(), values, values.unsqueeze(1))
    assert prior.lines.count.tolist() == [2, 0, 1]
    assert prior.lines.mean[:, 0].tolist() == pytest.approx([1.5, 0.0, 10.0])
    assert torch.equal(prior.features.mean[2], FEATURES[2].float())
