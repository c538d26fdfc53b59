"""Claims about balancing inside the training module: what is measured, and that coefficients equal gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_episodes import episodes, settings, taught, training_module
from model_workers import exchange, part, sent
from torch import Tensor

from model.balancing.measuring import length_ratio, measure
from model.balancing.registry import BALANCERS, BY_VALUE
from model.objective import ObjectiveSettings, TrainingModule

RANKED = {"grl": {"on": False}, "corr": {"on": False}, "rank": {"on": True, "start": 0.0}}
BY_GRADIENT = sorted(set(BALANCERS) - set(BY_VALUE))


def module_of(mode: str, **changes: Any) -> TrainingModule:
    """A small module in which `mode` has terms to weight."""
    terms = RANKED if mode in BY_VALUE else {"grl": {"ratio": 0.8}, "corr": {"ratio": 0.2}}
    return training_module({"balance": {"mode": mode}, "terms": terms}, **changes)


def test_T5_1_the_whole_module_reports_the_ratio_it_was_asked_for() -> None:
    module = training_module(
        {"balance": {"beta": 0.0}, "terms": {"grl": {"ratio": 0.8, "reversal_epochs": 0}, "corr": {"ratio": 0.2}}}
    )
    taught(module, episodes(seed=0), episodes(seed=4))
    for step in (0, 4):
        _, report = module(episodes(seed=step), step=step, epoch=3.0)
        assert float(report["gradient_ratio/grl"]) == pytest.approx(0.8, rel=1e-4)
        assert float(report["gradient_ratio/corr"]) == pytest.approx(0.2, rel=1e-4)
        assert abs(float(report["gradient_cosine/grl"])) <= 1.0


def test_a_contrast_on_the_support_codes_alone_is_held_at_its_ratio_too() -> None:
    module = training_module({"balance": {"beta": 0.0}, "terms": {"hcont": {"on": True, "ratio": 0.3, "start": 0.0}}})
    for step in (0, 4):
        _, report = module(episodes(seed=step), step=step, epoch=9.0)
        assert float(report["gradient_ratio/hcont"]) == pytest.approx(0.3, rel=1e-4)
        assert float(report["weight/hcont"]) > 0


def test_a_contrast_has_no_ratio_while_the_environment_has_no_say_in_the_task() -> None:
    module = training_module({"terms": {"hcont": {"on": True, "start": 0.0}}})
    _, report = module(episodes(), step=0, epoch=0.0)
    assert report["gradient_ratio/hcont"].isnan()


@pytest.mark.parametrize("mode", sorted(BALANCERS))
def test_T5_5_with_the_task_alone_every_mode_is_the_plain_gradient(mode: str) -> None:
    module = training_module({"balance": {"mode": mode}, "terms": {"grl": {"on": False}, "corr": {"on": False}}})
    total, report = module(episodes(), step=0, epoch=3.0)
    assert torch.equal(total.detach(), report["loss/task"])
    assert not module.policies


@pytest.mark.parametrize("mode", sorted(BALANCERS))
def test_T5_7_the_coefficients_are_identical_on_all_workers(mode: str) -> None:
    batch = episodes(lines=(0, 1, 2, 0))
    together = [module_of(mode) for _ in range(2)]
    seen = [sent(module, part(batch, worker, 2), step=4) for worker, module in enumerate(together)]
    weights = []
    for worker, module in enumerate(together):
        module.gather = exchange(seen, worker)
        _, report = module(part(batch, worker, 2), step=4, epoch=4.0)
        weights.append([float(value) for name, value in report.items() if name.startswith("weight/")])
    assert weights[0] == weights[1]
    assert len(weights[0]) > 1
    assert any(weights[0][1:])


def trunk_gradients(loss: Tensor, module: TrainingModule) -> Tensor:
    assert module.model.trunk is not None
    parameters = list(module.model.trunk.parameters())
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, found, strict=True)]
    )


@pytest.mark.parametrize("mode", BY_GRADIENT)
def test_the_one_backward_equals_the_weighted_sum_of_parameter_level_gradients(mode: str) -> None:
    module = taught(module_of(mode), episodes())
    losses: dict[str, Tensor] = {}
    module.task.register_forward_hook(lambda _, __, value: losses.update(task=value))
    for name, term in module.terms.items():
        term.register_forward_hook(lambda _, __, value, name=name: losses.update({name: value.loss}))
    total, report = module(episodes(), step=0, epoch=3.0)
    expected = sum(report[f"weight/{name}"] * trunk_gradients(loss, module) for name, loss in losses.items())
    assert len(losses) == 3
    assert all(trunk_gradients(loss, module).any() for loss in losses.values())
    assert torch.allclose(trunk_gradients(total, module), expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("name", ["corr", "hcont"])
def test_what_is_measured_is_what_the_trunk_learns_from_where_it_learns_through_the_codes_too(name: str) -> None:
    terms = {"grl": {"on": False}, "corr": {"on": False}, name: {"on": True, "ratio": 0.5, "start": 0.0}}
    objective: dict[str, object] = {"terms": terms, "balance": {"beta": 0.0}}
    module = training_module(objective, environment={"trunk_gradient": True})
    kept: list[Tensor] = []
    losses: dict[str, Tensor] = {}
    module.gather = lambda own: kept.append(own) or own  # type: ignore[func-returns-value]
    module.task.register_forward_hook(lambda _, __, value: losses.update(task=value))
    module.terms[name].register_forward_hook(lambda _, __, value: losses.update(term=value.loss))
    _, report = module(episodes(), step=0, epoch=9.0)
    features = next(own for own in kept if own.requires_grad)
    task, own = (torch.autograd.grad(losses[key], features, retain_graph=True)[0].flatten() for key in ("task", "term"))
    ratio = float(report[f"weight/{name}"] * own.norm() / task.norm())
    assert ratio == pytest.approx(0.5, rel=1e-3)
    assert float(report[f"gradient_ratio/{name}"]) == pytest.approx(ratio, rel=1e-3)
    cosine = torch.nn.functional.cosine_similarity(task, own, dim=0)
    assert float(report[f"gradient_cosine/{name}"]) == pytest.approx(float(cosine), abs=1e-4)


def test_a_contrast_on_codes_that_the_task_never_reads_keeps_its_fixed_weight() -> None:
    terms = {"grl": {"on": False}, "corr": {"on": False}, "hcont": {"on": True, "start": 0.0, "weight": 0.3}}
    torch.manual_seed(0)
    shape, objective = settings(environment={"encoder": "features"}), ObjectiveSettings.model_validate({"terms": terms})
    module = TrainingModule(shape, objective, 0, 2, lines=3)
    _, report = module(episodes(features=2), step=0, epoch=9.0)
    assert float(report["weight/hcont"]) == pytest.approx(0.3)
    assert "gradient_ratio/hcont" not in report


def test_a_term_on_fewer_rows_than_the_task_is_compared_by_what_reaches_the_trunk() -> None:
    h = torch.randn(6, 4, requires_grad=True)
    found = measure([h.sum(), 3 * h[:2].sum()], [h])
    assert float(found.own / found.task) == pytest.approx(3 * 8**0.5 / 24**0.5)


def test_pcgrad_by_coefficients_is_the_projection_at_the_representation() -> None:
    trunk, h_gradients = torch.nn.Linear(5, 4), []
    x, head = torch.randn(6, 5), torch.randn(3, 4)
    h = trunk(x)
    losses = [(h @ vector).square().mean() for vector in head]
    losses[1] = -losses[0] + 0.3 * losses[1]
    for loss in losses:
        h_gradients.append(torch.autograd.grad(loss, h, retain_graph=True)[0])
    task, own = h_gradients[0], h_gradients[1:]
    kept = [g - min(0.0, float((g * task).sum() / task.square().sum())) * task for g in own]
    expected = torch.autograd.grad(h, trunk.weight, task + 0.5 * kept[0] + 0.5 * kept[1], retain_graph=True)[0]
    gram = measure(losses, [h]).gram
    conflict = (-gram[1:, 0] / gram[0, 0]).clamp(min=0).float()
    total = (1 + 0.5 * conflict.sum()) * losses[0] + 0.5 * losses[1] + 0.5 * losses[2]
    assert conflict[0] > 0
    assert torch.allclose(torch.autograd.grad(total, trunk.weight)[0], expected, rtol=1e-4, atol=1e-7)


def test_a_centred_loss_is_not_lost_by_summing_over_the_batch() -> None:
    h = torch.randn(6, 4, requires_grad=True)
    found = measure([h.sum(), (h - h.mean(dim=0)).square().mean()], [h])
    assert found.own > 0.01


def test_a_term_is_compared_with_the_task_at_the_first_place_it_touches() -> None:
    h, codes = (torch.randn(3, 2, requires_grad=True) for _ in range(2))
    apart = torch.randn(2, requires_grad=True)
    losses = [h.sum() + 2 * codes.sum(), 5 * h.sum(), 7 * codes.sum(), apart.sum()]
    found = measure(losses, [h, codes])
    unit = 6**0.5
    assert found.own.tolist() == pytest.approx([5 * unit, 7 * unit, 0.0])
    assert found.task.tolist() == pytest.approx([unit, 2 * unit, 0.0])
    assert found.touches == (True, True, False)


def test_a_place_that_the_task_never_reaches_compares_nothing() -> None:
    h, codes = (torch.randn(3, 2, requires_grad=True) for _ in range(2))
    found = measure([2 * codes.sum(), 5 * h.sum(), 5 * h.sum() + 7 * codes.sum()], [h, codes])
    assert found.touches == (False, True)
    assert found.own.tolist() == pytest.approx([0.0, 7 * 6**0.5])
    assert found.task.tolist() == pytest.approx([0.0, 2 * 6**0.5])


def test_a_loss_without_a_graph_has_no_gradient_and_no_term_at_all_is_none() -> None:
    h = torch.randn(3, 2, requires_grad=True)
    found = measure([h.sum(), torch.ones(())], [h])
    assert found.touches == (False,)
    assert found.own.tolist() == [0.0]
    assert found.gram.tolist() == [[6.0, 0.0], [0.0, 0.0]]
    assert measure([h.sum()], [h]).own.shape == (0,)


def test_what_is_measured_stays_on_the_device_of_the_places() -> None:
    # As on a GPU, whose numbers a zero of the host cannot be stacked with; this device has shapes alone.
    h = torch.zeros(3, 2, device="meta", requires_grad=True)
    found = measure([h.sum(), torch.ones((), device="meta")], [h])
    assert {each.device.type for each in (found.gram, found.own, found.task)} == {"meta"}


def test_a_length_ratio_is_that_of_the_gradients_and_none_where_the_task_has_none() -> None:
    w = [torch.zeros(2, requires_grad=True), torch.zeros(3, 3, requires_grad=True)]
    task = w[0].sum() + w[1].sum()
    assert float(length_ratio(3 * w[1].sum(), 0.1 * task, w)) == pytest.approx(30 * (9 / 11) ** 0.5)
    assert float(length_ratio(torch.ones(()), task, w)) == 0.0
    assert length_ratio(w[0].sum(), torch.ones(()), w).isnan()


def test_the_graph_of_the_losses_outlives_the_measuring() -> None:
    h = torch.randn(3, 2, requires_grad=True)
    loss = h.square().sum()
    measure([loss, loss], [h])
    loss.backward()
    assert h.grad is not None
    assert torch.equal(h.grad, 2 * h.detach())


def test_steps_without_measurement_take_no_gradient_and_reuse_the_weights() -> None:
    module = training_module({"balance": {"every": 3}})
    _, measured = module(episodes(), step=0, epoch=3.0)
    _, reused = module(episodes(seed=1), step=1, epoch=3.0)
    assert "gradient_ratio/grl" in measured
    assert "gradient_ratio/grl" not in reused
    assert torch.equal(measured["weight/grl"], reused["weight/grl"])


@pytest.mark.parametrize("mode", sorted(BALANCERS))
def test_the_balancer_survives_in_the_state_dict(mode: str) -> None:
    module, resumed = module_of(mode), module_of(mode, seed=1)
    for step in range(3):
        module(episodes(seed=step), step=step, epoch=1.5 + step)
    resumed.load_state_dict(module.state_dict())
    expected, found = (m(episodes(seed=5), step=5, epoch=4.5)[1] for m in (module, resumed))
    assert all(torch.equal(expected[name], found[name]) for name in expected if name.startswith("weight/"))


def test_fixed_weights_start_ramp_and_stop_at_the_cap() -> None:
    term = training_module({"terms": {"grl": {"weight": 0.1, "ramp": 0.05, "cap": 0.2, "start": 2.0}}}).policies["grl"]
    assert [term.weight_at(epoch) for epoch in (0.0, 1.99, 2.0, 3.0, 9.0)] == pytest.approx([0.0, 0.0, 0.1, 0.15, 0.2])


@pytest.mark.parametrize("mode", BY_GRADIENT)
def test_a_term_before_its_start_leaves_the_model_to_the_task(mode: str) -> None:
    module = training_module({"balance": {"mode": mode}})
    _, report = module(episodes(), step=0, epoch=0.0)
    assert float(report["weight/grl"]) == float(report["weight/corr"]) == 0.0


@pytest.mark.parametrize("mode", BY_GRADIENT)
def test_emphasis_multiplies_what_a_term_asks_for(mode: str) -> None:
    module = taught(module_of(mode), episodes())
    _, plain = module(episodes(), step=0, epoch=3.0)
    module.set_emphasis({"corr": 2.0})
    _, more = module(episodes(), step=1, epoch=3.0)
    assert float(more["weight/corr"]) == pytest.approx(2 * float(plain["weight/corr"]), rel=1e-5)
    assert float(more["weight/grl"]) == pytest.approx(float(plain["weight/grl"]), rel=1e-5)
