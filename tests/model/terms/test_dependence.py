from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from model_episodes import episodes, training_module
from torch import Tensor

from data_pipeline.errors import UserError
from data_pipeline.settings import load
from model.objective import ObjectiveSettings, TrainingModule
from model.parameters import parameter_groups
from model.terms.adversary import LineClassifier
from model.terms.club import categorical_club, pair_weights
from model.terms.decoupling import correlation_loss
from model.terms.dependence import (
    cka,
    delta_kernel,
    distance_correlation,
    gaussian_kernel,
    hsic,
    info_nce,
)

QUIET: dict[str, Any] = {"grl": {"on": False}, "corr": {"on": False}}


def module(name: str, **own: object) -> TrainingModule:
    on = {"on": True, **own} if name == "dependence" else {"on": True, "start": 0.0, **own}
    return training_module({"terms": {**QUIET, name: on}}, environment={"trunk_gradient": True})


def finite(report: dict[str, Tensor]) -> bool:
    """A gradient's share is NaN where the term or the task has none; nothing else may be."""
    return all(torch.isfinite(value) for name, value in report.items() if not name.startswith("gradient"))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_T3_5_hsic_with_a_constant_is_exactly_zero_with_zero_gradient() -> None:
    x = normal(64, 5).requires_grad_()
    constant = torch.full((64, 3), 0.1234567, requires_grad=True)
    for statistic in (hsic, cka):
        loss = statistic(gaussian_kernel(x), gaussian_kernel(constant))
        gradients = torch.autograd.grad(loss, [x, constant])
        assert float(loss.detach()) == 0.0
        assert not any(gradient.any() for gradient in gradients)


def test_T3_5_hsic_sees_the_square_where_correlation_does_not() -> None:
    def mean(other: Any) -> float:
        return sum(float(hsic(gaussian_kernel(x), gaussian_kernel(other(x, i)))) for i, x in enumerate(draws)) / 40

    draws = [normal(128, 1, seed=seed) for seed in range(40)]
    independent = mean(lambda x, i: normal(128, 1, seed=1000 + i))
    assert independent == pytest.approx(0.0026, abs=4e-4)
    assert mean(lambda x, i: x.square()) > 4 * independent
    x = normal(4000, 1)
    assert float(correlation_loss(x, x.square())) < 0.01


def test_T3_5_hsic_is_the_trace_of_centred_kernels() -> None:
    x, y = normal(30, 4).double(), normal(30, 2, seed=1).double()
    k, l = gaussian_kernel(x), gaussian_kernel(y)  # noqa: E741
    h = torch.eye(30, dtype=torch.double) - 1 / 30
    expected = torch.trace((k + 1) @ h @ (l + 1) @ h) / 29**2
    assert float(hsic(k, l)) == pytest.approx(float(expected), rel=1e-9)
    weighted = torch.cat([torch.full((20,), 1 / 20), torch.zeros(10)]).double()
    alone = cka(k[:20, :20], l[:20, :20])
    assert float(cka(k, l, weighted)) == pytest.approx(float(alone), rel=1e-9)


def test_T3_5_cka_of_a_variable_with_itself_is_one_and_scale_does_not_matter() -> None:
    x, y = normal(60, 4).double(), normal(60, 3, seed=1).double()
    assert float(cka(gaussian_kernel(x), gaussian_kernel(x))) == pytest.approx(1.0, abs=1e-12)
    first, second = (cka(gaussian_kernel(size * x + 5), gaussian_kernel(y)) for size in (1.0, 100.0))
    assert float(first) == pytest.approx(float(second), rel=1e-9)


def test_T3_5_with_the_delta_kernel_hsic_sums_the_distances_of_the_line_means() -> None:
    line = torch.arange(60) % 3
    x = normal(60, 4).double()
    k = gaussian_kernel(x)
    member = torch.nn.functional.one_hot(line, 3).double()
    mean = (member.T @ k @ member) / 400
    embedding = mean - mean.mean(dim=0) - mean.mean(dim=1, keepdim=True) + mean.mean()
    expected = embedding.diagonal().sum() / 9 * (60 / 59) ** 2
    assert float(hsic(k, delta_kernel(line).double())) == pytest.approx(float(expected), rel=1e-9)


def test_distance_correlation_of_an_affine_map_is_one_and_of_the_square_is_seen() -> None:
    x = normal(500, 1).double()
    assert float(distance_correlation(x, 3 - 2 * x)) == pytest.approx(1.0, abs=1e-6)
    assert float(distance_correlation(x, x.square())) == pytest.approx(0.29, abs=0.05)
    assert float(distance_correlation(x, normal(500, 1, seed=1).double())) < 0.03
    assert float(distance_correlation(x, torch.ones_like(x))) == 0.0


def test_T3_6_with_the_true_posterior_categorical_club_is_above_the_information() -> None:
    line = torch.arange(6000) % 3
    weight = torch.full((6000,), 1 / 6000, dtype=torch.double)
    for distance in (0.0, 0.5, 1.0, 3.0):
        means = distance * torch.eye(3, dtype=torch.double)
        z = normal(6000, 3).double() + means[line]
        log_q = (z @ means.T - means.square().sum(dim=1) / 2).log_softmax(dim=1)
        bound = float(categorical_club(log_q, line, weight))
        information = math.log(3) + float(log_q.gather(1, line.unsqueeze(1)).mean())
        assert bound >= information - 1e-12
        assert (bound < 1e-12) == (distance == 0.0)


def test_T3_6_the_encoder_lowers_the_bound_while_q_learns_at_rate_one() -> None:
    gradients = []
    for weight in (0.0, 0.3, 5.0, 1.0):
        objective = {
            "balance": {"mode": "fixed_ramp"},
            "terms": {**QUIET, "club": {"on": True, "weight": weight, "cap": 10.0, "start": 0.0}},
        }
        m = training_module(objective)
        m(episodes(), step=1, epoch=3.0)[0].backward()
        gradients.append([p.grad.clone() for p in m.terms["club"].parameters() if p.grad is not None])
    assert len(gradients[-1]) == 4
    for found in gradients[:-1]:
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, gradients[-1], strict=True))


def probed(z: Tensor, line: Tensor) -> float:
    """Nats that a linear probe, trained afresh to its optimum, knows about line (N,) in {0, 1, 2} from z (N, d)."""
    probe = torch.nn.Linear(z.shape[1], 3)
    optimiser = torch.optim.LBFGS(probe.parameters(), max_iter=50)

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(probe(z), line)
        value.backward()
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return math.log(3) - float(loss().detach())


def test_T3_6_an_encoder_that_can_drop_the_line_does_so_as_a_fresh_probe_sees() -> None:
    torch.manual_seed(0)
    line, weight = torch.arange(300) % 3, torch.full((300,), 1 / 300)
    # The line lives in two of four dimensions; an invertible map could only hide it, two dimensions can do without.
    code, encoder, q = normal(300, 4) + 2 * torch.eye(3, 4)[line], torch.nn.Linear(4, 2), LineClassifier(2, 64, 3)
    optimiser = torch.optim.Adam([*encoder.parameters(), *q.parameters()], lr=1e-2)
    known = []
    for step in range(350):
        z = encoder(code)
        learner = F.nll_loss(q(z.detach()), line)
        bound = categorical_club(q(z, frozen=True), line, weight).clamp(min=0)
        spread = (torch.cov(z.T) - torch.eye(2)).square().sum()
        optimiser.zero_grad()
        (learner + spread + (bound if step >= 50 else 0.0)).backward()
        optimiser.step()
        if step in (49, 290, 310, 330, 349):
            known.append(probed(z.detach(), line))
    assert known[0] > 0.2
    assert max(known[1:]) < 0.1


def test_lines_count_the_same_and_unknown_ones_not_at_all() -> None:
    weights = pair_weights(torch.tensor([0, 0, 2, -1]), 2, balanced=True)
    assert weights.tolist() == [0.125, 0.125, 0.125, 0.125, 0.25, 0.25, 0.0, 0.0]
    assert pair_weights(torch.tensor([-1, -1]), 1, balanced=True).tolist() == [0.0, 0.0]


def correlated(rho: float, batches: int, size: int) -> Tensor:
    """(batches, size, size) true log density ratios log p(y|x)/p(y) of standard normals with correlation rho."""
    x, noise = normal(batches, size, 1), normal(batches, 1, size, seed=1)
    y = rho * x.transpose(1, 2) + math.sqrt(1 - rho**2) * noise
    return -((y - rho * x).square() / (1 - rho**2) - y.square() + math.log(1 - rho**2)) / 2


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("size", [2, 8, 64])
def test_T3_7_info_nce_is_at_most_the_information_and_the_log_of_the_batch(rho: float, size: int) -> None:
    information = -0.5 * math.log(1 - rho**2)
    estimate = float(info_nce(correlated(rho, 20000 // size, size)))
    assert estimate <= math.log(size)
    assert estimate <= information + 0.02
    assert rho == 0.0 or estimate > 0.0


def test_T3_7_minimising_it_certifies_nothing() -> None:
    def unit(x: Tensor) -> Tensor:
        return x / x.norm(dim=1, keepdim=True)

    x, tau = unit(normal(512, 32)), 0.1
    copy = x[:, torch.randperm(32, generator=torch.Generator().manual_seed(0))]
    independent = float(info_nce(x @ unit(normal(512, 32, seed=1)).T / tau))
    assert independent == pytest.approx(-1.49, abs=0.15)
    assert float(info_nce(x @ copy.T / tau)) == pytest.approx(independent, abs=0.25)
    assert float(info_nce(x @ -x.T / tau)) == pytest.approx(-11.5, abs=0.1)


@pytest.mark.parametrize("field", ["weight", "ramp", "ratio"])
def test_T3_7_the_monitor_cannot_be_given_a_weight(field: str) -> None:
    with pytest.raises(UserError, match=f"terms.dependence.{field}"):
        load(ObjectiveSettings, overrides=[f"terms.dependence.{field}=0.5"])


@pytest.mark.parametrize("mode", ["fixed_ramp", "gradnorm_ema"])
def test_T3_7_the_monitor_changes_no_gradient_of_the_model(mode: str) -> None:
    gradients = []
    for on in (False, True):
        m = training_module({"balance": {"mode": mode}, "terms": {**QUIET, "dependence": {"on": on}}})
        m(episodes(), step=0, epoch=3.0)[0].backward()
        gradients.append([p.grad for p in m.model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_T3_7_its_critic_learns_by_ascent_and_is_judged_before() -> None:
    m = module("dependence")
    optimiser = torch.optim.Adam(m.terms.parameters(), lr=1e-2)
    estimates = []
    for step in range(30):
        total, report = m(episodes(query=20), step=step, epoch=3.0)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        estimates.append(float(report["info_nce/dependence"]))
        assert float(report["loss/dependence"]) == float(report["weight/dependence"]) == 0.0
        assert float(report["loss/total"]) == pytest.approx(float(report["loss/task"]) - estimates[-1], abs=1e-5)
    assert estimates[-1] > estimates[0] + 0.1
    assert max(estimates) <= math.log(3)
    assert 0 < float(report["distance_correlation/dependence"]) < 1
    assert 0 < float(report["cka/dependence"]) < 1


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("club", {}),
        ("club", {"balanced": False}),
        ("hsic", {}),
        ("hsic", {"against": "environment", "normalised": False}),
    ],
)
def test_each_term_trains_with_a_gradient_at_the_shared_representation(name: str, own: dict[str, object]) -> None:
    m = module(name, **own)
    optimiser = torch.optim.AdamW(parameter_groups(m, 1e-3), lr=1e-2)
    shares = []
    for step in range(9):
        total, report = m(episodes(query=20), step=step, epoch=3.0)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        assert finite(report)
        assert float(report[f"bound_violated/{name}"]) == float(report[f"degenerate/{name}"]) == 0.0
        shares.append(float(report.get(f"gradient_ratio/{name}", torch.zeros(()))))
    assert shares[8] > 0.0


@pytest.mark.parametrize(
    ("name", "own"), [("club", {}), ("hsic", {}), ("hsic", {"against": "environment"}), ("dependence", {})]
)
@pytest.mark.parametrize("lines", [(1, 1), (1,), (-1, -1, 2)])
def test_a_step_of_one_line_is_harmless(name: str, own: dict[str, object], lines: tuple[int, ...]) -> None:
    m = module(name, **own)
    total, report = m(episodes(lines=lines), step=0, epoch=3.0)
    total.backward()
    assert all(torch.isfinite(p.grad).all() for p in m.parameters() if p.grad is not None)
    assert finite(report)
    if name == "club" or (name == "hsic" and not own):
        assert float(report[f"loss/{name}"]) == 0.0
        assert float(report[f"degenerate/{name}"]) == 1.0
