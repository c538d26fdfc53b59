from __future__ import annotations

import pytest
import torch
from model_episodes import episodes, training_module

from model.balancing import BALANCERS, Balance, BalanceSettings, Targets, gradient_norms


def targets(*ratios: float) -> Targets:
    return Targets(weights=torch.tensor(ratios), ratios=torch.tensor(ratios))


def test_T5_1_gradnorm_holds_each_gradient_at_its_ratio() -> None:
    balance = Balance(BalanceSettings(mode="gradnorm_ema", beta=0.0), terms=3)
    norms = torch.tensor([2.0, 0.5, 40.0, 3.0])
    for factor in (1.0, 1.7):
        weights = balance(norms * factor, targets(0.5, 1.0, 0.25))
        assert torch.allclose(weights * norms[1:] / norms[0], torch.tensor([0.5, 1.0, 0.25]), rtol=1e-6)


def test_T5_1_the_whole_module_reports_the_ratio_it_was_asked_for() -> None:
    module = training_module({"balance": {"beta": 0.0}, "terms": {"grl": {"ratio": 0.8}, "corr": {"ratio": 0.2}}})
    for step in (0, 4):
        _, report = module(episodes(seed=step), step=step, epoch=3.0)
        assert float(report["gradient_ratio/grl"]) == pytest.approx(0.8, rel=1e-4)
        assert float(report["gradient_ratio/corr"]) == pytest.approx(0.2, rel=1e-4)


@pytest.mark.parametrize("mode", sorted(BALANCERS))
def test_T5_5_with_the_task_alone_every_mode_is_the_plain_gradient(mode: str) -> None:
    module = training_module({"balance": {"mode": mode}, "terms": {"grl": {"on": False}, "corr": {"on": False}}})
    total, report = module(episodes(), step=0, epoch=3.0)
    assert torch.equal(total.detach(), report["loss/task"])
    assert not module.policies


def test_T5_6_scaling_a_term_leaves_gradnorm_updates_unchanged() -> None:
    h = torch.randn(5, 4, requires_grad=True)
    losses = [h.square().mean(), h.sin().mean(), h[:3].abs().mean()]
    updates = []
    for scale in (1.0, 1000.0):
        scaled = [losses[0], scale * losses[1], losses[2]]
        balance = Balance(BalanceSettings(mode="gradnorm_ema", smallest=0.0), terms=2)
        weights = balance(gradient_norms(scaled, h), targets(0.5, 0.5))
        updates.append(weights[0] * torch.autograd.grad(scaled[1], h, retain_graph=True)[0])
    assert torch.allclose(*updates, rtol=1e-5)


def test_norms_are_frobenius_over_the_rows_touched() -> None:
    h = torch.zeros(2, 3, 4, requires_grad=True)
    loss = (h[:, 1:] * 3.0).sum()
    assert float(gradient_norms([loss], h)) == pytest.approx(3.0 * 16**0.5 / 4)


def test_a_centred_loss_is_not_lost_by_summing_over_the_batch() -> None:
    h = torch.randn(6, 4, requires_grad=True)
    assert gradient_norms([(h - h.mean(dim=0)).square().mean()], h) > 0.01


def test_steps_without_measurement_take_no_gradient_and_reuse_the_weights() -> None:
    module = training_module({"balance": {"every": 3}})
    _, measured = module(episodes(), step=0, epoch=3.0)
    _, reused = module(episodes(seed=1), step=1, epoch=3.0)
    assert "gradient_ratio/grl" in measured
    assert "gradient_ratio/grl" not in reused
    assert torch.equal(measured["weight/grl"], reused["weight/grl"])


def test_the_balancer_survives_in_the_state_dict() -> None:
    module, resumed = training_module(), training_module(seed=1)
    module(episodes(), step=0, epoch=3.0)
    resumed.load_state_dict(module.state_dict())
    expected, found = (m(episodes(seed=1), step=1, epoch=3.0)[1]["weight/corr"] for m in (module, resumed))
    assert torch.equal(expected, found)


def test_a_degenerate_measurement_does_not_move_the_running_norms() -> None:
    balance = Balance(BalanceSettings(mode="gradnorm_ema"), terms=1)
    before = balance(torch.tensor([2.0, 4.0]), targets(1.0))
    assert torch.equal(balance(torch.tensor([2.0, 0.0]), targets(1.0)), before)


def test_fixed_weights_start_ramp_and_stop_at_the_cap() -> None:
    term = training_module({"terms": {"grl": {"weight": 0.1, "ramp": 0.05, "cap": 0.2, "start": 2.0}}}).policies["grl"]
    assert [term.weight_at(epoch) for epoch in (0.0, 1.99, 2.0, 3.0, 9.0)] == pytest.approx([0.0, 0.0, 0.1, 0.15, 0.2])


@pytest.mark.parametrize("mode", sorted(BALANCERS))
def test_a_term_before_its_start_leaves_the_model_to_the_task(mode: str) -> None:
    module = training_module({"balance": {"mode": mode}})
    _, report = module(episodes(), step=0, epoch=0.0)
    assert float(report["weight/grl"]) == float(report["weight/corr"]) == 0.0
