from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from model_episodes import episodes, training_module
from model_steps import scores_of, step_of
from torch import Tensor

from model.objective import TrainingModule
from model.terms.conditional_invariance import CdanSettings, ConditionalReversal, certainty, class_probabilities, outer
from model.terms.moments import (
    CoralSettings,
    FishrSettings,
    GradientVariance,
    MomentMatching,
    between_lines,
    head_gradients,
    line_moments,
)
from model.terms.risk_invariance import (
    DroSettings,
    GroupRobust,
    InvariantRisk,
    IrmSettings,
    RiskVariance,
    VrexSettings,
    population_variance,
    slopes,
    tilted,
)

TERMS = ("cdan", "irm", "vrex", "dro", "coral", "fishr")


def only(*names: str, **own: Any) -> dict[str, Any]:
    """Objective settings with these terms alone, active from the first step."""
    terms: dict[str, Any] = {"grl": {"on": False}, "corr": {"on": False}}
    return {"terms": terms | {name: {"on": True, "start": 0.0, **own} for name in names}}


def logits_with_risk(risk: float) -> Tensor:
    """The logit at which a positive pair costs `risk`."""
    return torch.tensor(-math.log(math.expm1(risk)))


def test_T4_3_the_closed_slope_equals_autograd_of_the_risk_in_a_scale_of_the_logits() -> None:
    logits, labels = torch.randn(3, 8, dtype=torch.double), (torch.rand(3, 8) < 0.5).double()
    w = torch.ones(3, 1, dtype=torch.double, requires_grad=True)
    risk = F.binary_cross_entropy_with_logits(w * logits, labels, reduction="none").mean(dim=1).sum()
    (expected,) = torch.autograd.grad(risk, w)
    found, usable = slopes(logits, labels, torch.ones_like(logits))
    assert torch.allclose(found, expected.squeeze(1), atol=1e-12)
    assert usable.all()


@pytest.mark.parametrize("estimator", ["split", "whole"])
def test_T4_3_a_calibrated_environment_costs_nothing(estimator: str) -> None:
    # Each half holds four pairs at probability 3/4 of which three interact: mean (sigma(s) - y) s is 0.
    logits = torch.full((1, 8), math.log(3.0), dtype=torch.double)
    labels = torch.tensor([[1.0, 1, 1, 1, 1, 1, 0, 0]], dtype=torch.double)
    value = InvariantRisk(IrmSettings(estimator=estimator))(step_of(labels), scores_of(logits), 0.0)  # type: ignore[arg-type]
    assert float(value.loss) == pytest.approx(0.0, abs=1e-15)
    assert float(value.report["degenerate"]) == 0.0


def test_T4_3_the_split_estimator_is_unbiased_and_the_whole_one_biased_upwards() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 16, generator=generator, dtype=torch.double)
    labels = (torch.rand(4000, 16, generator=generator) < torch.sigmoid(logits)).double()
    split, whole = (
        float(InvariantRisk(IrmSettings(estimator=name))(step_of(labels), scores_of(logits), 0.0).loss)
        for name in ("split", "whole")
    )
    assert abs(split) < 0.001
    assert whole > 0.005


def test_T4_3_unknown_labels_take_no_part_and_one_label_is_too_few() -> None:
    logits, labels = torch.randn(2, 6), torch.tensor([[1.0, 0, 1, 0, 1, 0], [1.0] + [math.nan] * 5])
    term = InvariantRisk(IrmSettings())
    both = term(step_of(labels), scores_of(logits), 0.0)
    alone = term(step_of(labels[:1]), scores_of(logits[:1]), 0.0)
    assert float(both.loss) == pytest.approx(float(alone.loss), abs=1e-8)
    nothing = term(step_of(labels[1:], line=(0,)), scores_of(logits[1:]), 0.0)
    assert float(nothing.loss) == 0.0
    assert float(nothing.report["degenerate"]) == 1.0


def test_T4_4_risks_of_one_and_three_have_variance_one() -> None:
    assert float(population_variance(torch.tensor([1.0, 3.0]), torch.tensor([True, True]))) == 1.0
    logits = torch.stack([logits_with_risk(1.0), logits_with_risk(3.0)]).unsqueeze(1).expand(2, 5)
    value = RiskVariance(VrexSettings(), lines=4)(step_of(torch.ones(2, 5)), scores_of(logits), 0.0)
    assert float(value.loss) == pytest.approx(1.0, abs=1e-5)


def test_T4_4_group_weights_after_ten_steps_are_the_softmax_of_the_summed_risks() -> None:
    q, risks, present = torch.full((2,), 0.5), torch.tensor([1.0, 3.0]), torch.tensor([True, True])
    for _ in range(10):
        q = tilted(q, risks, present, 0.1)
    assert q.tolist() == pytest.approx([0.1192, 0.8808], abs=5e-5)
    assert torch.allclose(q, torch.softmax(10 * 0.1 * risks, dim=0))


def test_T4_4_the_robust_term_carries_its_weights_in_training_only() -> None:
    term = GroupRobust(DroSettings(rate=0.1), lines=2)
    logits = torch.stack([logits_with_risk(1.0), logits_with_risk(3.0)]).unsqueeze(1).expand(2, 5)
    for _ in range(10):
        value = term(step_of(torch.ones(2, 5)), scores_of(logits), 0.0)
    assert term.q.tolist() == pytest.approx([0.1192, 0.8808], abs=5e-5)
    assert float(value.loss) == pytest.approx(0.1192 + 3 * 0.8808, abs=1e-3)
    before = term.q.clone()
    term.eval()(step_of(torch.ones(2, 5)), scores_of(logits), 0.0)
    assert torch.equal(term.q, before)


def test_T4_5_coral_of_identical_sets_is_zero() -> None:
    z = torch.randn(1, 12, 5).repeat(3, 1, 1)
    value = MomentMatching(CoralSettings(), lines=3)(step_of(torch.ones(3, 12)), scores_of(z[..., 0], z), 0.0)
    assert float(value.loss) == pytest.approx(0.0, abs=1e-14)


def test_T4_5_a_shift_of_some_dimensions_costs_their_share_of_its_square() -> None:
    z = torch.randn(20, 8, dtype=torch.double)
    moved = z.clone()
    moved[:, :3] += 0.7
    line = torch.tensor([0] * 20 + [1] * 20)
    means, covariances, present, spread = line_moments(torch.cat([z, moved]), line, 2)
    assert float(between_lines(means, present)) == pytest.approx(3 * 0.7**2 / 8, abs=1e-12)
    assert float(between_lines(covariances, spread)) == pytest.approx(0.0, abs=1e-12)
    assert torch.allclose(covariances[0], torch.cov(z.T))


def test_T4_5_the_gradients_of_a_linear_head_are_those_of_autograd() -> None:
    z, logits, labels = torch.randn(6, 4), torch.randn(6), (torch.rand(6) < 0.5).float()
    found = head_gradients(z, logits, labels)
    for index in range(6):
        w, b = torch.zeros(4, requires_grad=True), torch.zeros((), requires_grad=True)
        F.binary_cross_entropy_with_logits(logits[index] + z[index] @ w + b, labels[index]).backward()
        assert w.grad is not None
        assert b.grad is not None
        assert torch.allclose(found[index], torch.cat([w.grad, b.grad.view(1)]), atol=1e-6)


def test_T4_5_fishr_of_identical_environments_is_zero_and_of_others_is_not() -> None:
    z, labels = torch.randn(1, 10, 4).repeat(3, 1, 1), (torch.rand(1, 10) < 0.5).float().repeat(3, 1)
    term = GradientVariance(FishrSettings(), 4, lines=3)
    for _ in range(3):
        value = term(step_of(labels), scores_of(z[..., 0], z), 0.0)
        assert float(value.loss) == pytest.approx(0.0, abs=1e-12)
    scaled = z * torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    assert float(term(step_of(labels), scores_of(z[..., 0], scaled), 0.0).loss) > 1e-3


def test_T4_5_gradient_variances_are_running_means_of_the_lines_seen() -> None:
    term = GradientVariance(FishrSettings(memory=0.8), 2, lines=3)
    labels = torch.ones(2, 6)
    first, second = torch.randn(2, 6, 2), torch.randn(2, 6, 2)
    seen = []
    for z in (first, second):
        term(step_of(labels, line=(0, 2)), scores_of(torch.zeros(2, 6), z), 0.0)
        seen.append(torch.cat([-0.5 * z, -0.5 * torch.ones(2, 6, 1)], dim=-1).var(dim=1, correction=0))
    assert torch.allclose(term.variance[[0, 2]], 0.8 * seen[0] + 0.2 * seen[1], atol=1e-6)
    assert not term.variance[1].any()
    assert term.seen.tolist() == [True, False, True]


def test_T4_6_the_binary_classifier_sees_two_copies_of_z_halved_where_the_model_knows_nothing() -> None:
    z = torch.randn(3, 5, 7)
    seen = outer(z, class_probabilities(torch.zeros(3, 5)))
    assert seen.shape == (3, 5, 14)
    assert torch.equal(seen[..., :7], 0.5 * z)
    assert torch.equal(seen[..., 7:], 0.5 * z)
    assert torch.equal(outer(z[0], class_probabilities(torch.zeros(5))), seen[0])
    assert ConditionalReversal(CdanSettings(), 7, 3).classifier.hidden.in_features == 14


def test_T4_6_certain_pairs_count_twice_and_coin_flips_one_and_a_half_times() -> None:
    weights = certainty(class_probabilities(torch.tensor([0.0, 200.0, -200.0])))
    assert weights.tolist() == pytest.approx([1.5, 2.0, 2.0])


def test_T4_6_no_gradient_reaches_the_logits() -> None:
    logits, z = torch.randn(3, 5, requires_grad=True), torch.randn(3, 5, 4, requires_grad=True)
    term = ConditionalReversal(CdanSettings(), 4, 3)
    optimiser = torch.optim.Adam(term.parameters(), lr=1e-2)
    for _ in range(50):
        value = term(step_of(torch.ones(3, 5)), scores_of(logits, z), 0.0)
        assert value.own is not None
        optimiser.zero_grad()
        z.grad = None
        (value.loss + value.own).backward()
        optimiser.step()
    assert logits.grad is None
    assert z.grad is not None
    assert z.grad.any()


def test_T4_6_conditioned_on_labels_an_unlabelled_pair_does_not_count() -> None:
    term = ConditionalReversal(CdanSettings(condition="label"), 4, 3)
    labels, z = torch.tensor([[1.0, math.nan, 0.0]] * 3), torch.randn(3, 3, 4)
    seen = [term.emphasis(step_of(of), scores_of(z[..., 0], z)) for of in (labels, labels.nan_to_num(1.0))]
    assert seen[0][:, 1].tolist() == [0.0] * 3
    assert seen[1][:, 1].min() > 0
    z.requires_grad_()
    value = term(step_of(labels), scores_of(z[..., 0], z), 0.0)
    # Nudged below chance, so that there is a gradient to take no part in.
    term.chance = 2 * float(value.loss.detach())
    term(step_of(labels), scores_of(z[..., 0], z), 0.0).loss.backward()
    assert z.grad is not None
    assert not z.grad[:, 1].any()
    assert z.grad[:, [0, 2]].any()


@pytest.mark.parametrize(
    ("condition", "classes"), [("label", [[0.0, 1.0], [1.0, 0.0]]), ("prediction", [[0.75, 0.25], [0.25, 0.75]])]
)
def test_T4_6_the_class_is_the_label_or_the_model_s_own_probability(condition: str, classes: list[Any]) -> None:
    term = ConditionalReversal(CdanSettings.model_validate({"condition": condition}), 3, 2)
    z, logits = torch.randn(1, 2, 3), torch.tensor([[-math.log(3.0), math.log(3.0)]])
    found = term.inputs(z, step_of(torch.tensor([[1.0, 0.0]])), scores_of(logits, z))
    assert torch.allclose(found, outer(z, torch.tensor([classes])))


@pytest.mark.parametrize("weighed", [True, False])
@pytest.mark.parametrize(("condition", "unlabelled"), [("label", 0.0), ("prediction", 1.0)])
def test_T4_6_a_pair_counts_as_its_certainty_says_or_once_and_unlabelled_ones_where_none_is_asked_for(
    condition: str, unlabelled: float, weighed: bool
) -> None:
    term = ConditionalReversal(CdanSettings.model_validate({"condition": condition, "entropy_weight": weighed}), 4, 1)
    labels, logits = torch.tensor([[1.0, math.nan]]), torch.tensor([[200.0, 200.0]])
    once = 2.0 if weighed else 1.0
    assert term.emphasis(step_of(labels), scores_of(logits)).tolist() == [[once, once * unlabelled]]


def test_T4_6_the_one_labelled_pair_of_a_step_is_the_whole_mean() -> None:
    term = ConditionalReversal(CdanSettings(condition="label", entropy_weight=False), 4, 3)
    torch.nn.init.zeros_(term.classifier.out.weight)
    torch.nn.init.zeros_(term.classifier.out.bias)
    labels = torch.tensor([[1.0], [math.nan], [math.nan]])
    value = term(step_of(labels, line=(1, 1, 1)), scores_of(torch.zeros(3, 1), torch.randn(3, 1, 4)), 0.0)
    assert float(value.loss.detach()) == pytest.approx(math.log(3))


@pytest.mark.parametrize("name", TERMS)
def test_a_term_without_two_lines_says_so_and_stays_finite(name: str) -> None:
    module = training_module(only(name))
    total, report = module(episodes(lines=(1, 1)), step=0, epoch=3.0)
    total.backward()
    assert torch.isfinite(total)
    if name != "irm":
        assert float(report[f"degenerate/{name}"]) == 1.0
    if name in ("vrex", "coral", "fishr"):
        assert float(report[f"loss/{name}"]) == 0.0


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("labels", ["one class", "none"])
def test_a_term_is_finite_on_steps_of_one_class_or_without_labels(name: str, labels: str) -> None:
    module = training_module(only(name, condition="label") if name == "cdan" else only(name))
    batch = episodes()
    value = 1.0 if labels == "one class" else math.nan
    total, report = module(replace(batch, labels=torch.full_like(batch.labels, value)), step=0, epoch=3.0)
    total.backward()
    # Without a label the task has no gradient, and a ratio to it means nothing.
    assert all(torch.isfinite(monitor) for name, monitor in report.items() if "gradient_ratio" not in name)
    assert not any(p.grad.isnan().any() for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize("mode", ["fixed_ramp", "gradnorm_ema"])
def test_the_invariance_terms_train_together_above_their_bounds(mode: str) -> None:
    module: TrainingModule = training_module(only(*TERMS) | {"balance": {"mode": mode, "every": 1}}, tracks=3)
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3)
    taught_by: set[str] = set()
    for step in range(8):
        total, report = module(episodes(signals=3, seed=step), step=step, epoch=3.0)
        taught_by |= {name for name in TERMS if float(report[f"gradient_ratio/{name}"]) > 0.0}
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        assert all(torch.isfinite(value) for value in report.values())
        assert not any(value for name, value in report.items() if name.startswith("bound_violated"))
    # An adversary above chance asks nothing of the step.
    assert taught_by == set(TERMS)
