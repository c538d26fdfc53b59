from __future__ import annotations

import math

import pytest
import torch
from model_episodes import episodes, training_module
from model_steps import scores_of, step_of

from model.terms.adversary import standardised
from model.terms.invariance import GradientReversal, GrlSettings, line_weights, reversal_schedule
from model.terms.term import TermValue

PUBLISHED = [(-1.0, 0.0), (0.0, 0.0), (0.1, 0.46212), (0.5, 0.98661), (1.0, 0.99991), (2.0, 0.99991)]


@pytest.mark.parametrize(("progress", "value"), PUBLISHED)
def test_T4_1_the_schedule_has_the_published_values(progress: float, value: float) -> None:
    assert reversal_schedule(progress) == pytest.approx(value, abs=5e-6)


def test_T4_1_the_reversal_grows_over_its_epochs_from_the_term_s_start() -> None:
    grown = GrlSettings(start=2.0, reversal_epochs=4.0)
    assert [grown.growth_at(epoch) for epoch in (2.0, 2.4, 4.0)] == pytest.approx([0.0, 0.46212, 0.98661], abs=5e-6)
    assert GrlSettings(start=2.0, reversal_epochs=0.0).growth_at(2.0) == 1.0


def test_T4_1_what_reaches_z_is_minus_the_gradient_that_teaches_the_classifier() -> None:
    torch.manual_seed(0)
    term, z = GradientReversal(GrlSettings(), 4, 3).double(), torch.randn(3, 5, 4, dtype=torch.double)
    # Nudged below chance, so that there is a gradient.
    term.chance = 10.0
    value = term(step_of(torch.ones(3, 5)), scores_of(torch.zeros(3, 5), z.requires_grad_()), 0.0)
    flat = z.detach().flatten(0, 1)
    log_q = term.classifier((z - flat.mean(dim=0)) / flat.std(dim=0, correction=0))
    plain = -torch.stack([log_q[line, :, line].mean() for line in range(3)]).mean()
    ours, theirs = (torch.autograd.grad(loss, [z, *term.parameters()]) for loss in (value.loss, plain))
    assert theirs[0].any()
    assert torch.allclose(ours[0], -theirs[0])
    named = float((log_q.argmax(dim=-1) == torch.arange(3).unsqueeze(1)).double().mean())
    assert float(value.report["accuracy"]) == pytest.approx(named)
    assert named > 0.0
    assert all(torch.allclose(own, expected) for own, expected in zip(ours[1:], theirs[1:], strict=True))
    assert value.own is not None
    assert torch.autograd.grad(value.own, z, allow_unused=True) == (None,)


def test_what_an_adversary_sees_has_mean_0_and_variance_1_over_the_step_and_a_constant_is_0() -> None:
    x = torch.randn(3, 5, 3, dtype=torch.double) * torch.tensor([0.01, 100.0, 0.0]) + 7.0
    found = standardised(x.requires_grad_())
    flat = found.detach().flatten(0, 1)
    assert torch.allclose(flat.mean(dim=0), torch.zeros(3, dtype=torch.double), atol=1e-9)
    assert torch.allclose(flat.square().mean(dim=0), torch.tensor([1.0, 1.0, 0.0], dtype=torch.double), atol=1e-6)
    # The moments are constants: through them a gradient could not tell a shift or a scale of the whole step.
    (gradient,) = torch.autograd.grad(found[..., 1].sum(), x)
    assert torch.allclose(gradient[..., 1] * x[..., 1].detach().std(correction=0), torch.ones(3, 5, dtype=torch.double))


def judged(known: tuple[float, ...], line: tuple[int, ...], **changes: float) -> TermValue:
    """The term's value where its classifier says probabilities `known` whatever it sees; a line's episode is a pair."""
    term = GradientReversal(GrlSettings.model_validate(changes), 4, len(known)).double()
    torch.nn.init.zeros_(term.classifier.out.weight)
    term.classifier.out.bias.data = torch.tensor(known, dtype=torch.double).log()
    z = torch.randn(len(line), 1, 4, dtype=torch.double)
    value: TermValue = term(step_of(torch.ones(len(line), 1), line=line), scores_of(z[..., 0], z), 0.0)
    return value


@pytest.mark.parametrize(
    ("balanced", "cost", "named"),
    [(True, -math.log(0.5 * 0.4) / 2, 1 / 2), (False, -math.log(0.5 * 0.4 * 0.4) / 3, 1 / 3)],
)
def test_the_loss_is_the_mean_cost_of_the_training_lines_and_accuracy_their_share_named(
    balanced: bool, cost: float, named: float
) -> None:
    value = judged((0.5, 0.4, 0.1), (0, 1, 1, -1), balanced=balanced, fade=0.5)
    assert float(value.loss.detach()) == pytest.approx(cost)
    assert float(value.report["accuracy"]) == pytest.approx(named)
    assert float(value.report["degenerate"]) == 0.0
    # Half of ln 3 below chance the reversal is whole, at chance it is gone.
    assert value.strength is not None
    assert float(value.strength) == pytest.approx((math.log(3) - cost) / (0.5 * math.log(3)))


def test_the_reversal_is_gone_above_chance_and_whole_below_it_where_it_does_not_fade() -> None:
    worse, better = ((0.1, 0.2, 0.7), (0.4, 0.4, 0.2))
    strengths = [judged(known, (0, 1), fade=fade).strength for known in (worse, better) for fade in (0.3, 0.0)]
    assert [float(own) for own in strengths if own is not None] == pytest.approx([0.0, 0.0, 0.55319, 1.0], abs=1e-5)


def test_a_step_of_a_single_episode_is_degenerate_and_where_there_is_one_line_nothing_is_reversed() -> None:
    assert float(judged((0.5, 0.3, 0.2), (2,)).report["degenerate"]) == 1.0
    alone = judged((1.0,), (0,)).strength
    assert alone is not None
    assert float(alone) == 0.0


def test_T4_2_a_uniform_classifier_costs_ln_c_and_moves_nothing() -> None:
    module = training_module()
    term = module.terms["grl"]
    assert isinstance(term, GradientReversal)
    with torch.no_grad():
        term.classifier.out.weight.zero_()
        term.classifier.out.bias.zero_()
    _, report = module(episodes(), step=0, epoch=3.0)
    assert float(report["loss/grl"]) == pytest.approx(math.log(3), abs=1e-6)
    assert float(report["gradient_ratio/grl"]) == 0.0


@pytest.mark.parametrize("weight", [0.0, 0.3, 5.0])
def test_the_weight_of_the_term_never_reaches_the_classifier(weight: float) -> None:
    gradients = []
    for own in (weight, 1.0):
        objective = {
            "balance": {"mode": "fixed_ramp"},
            "terms": {"grl": {"weight": own, "cap": 10.0, "start": 0.0}, "corr": {"on": False}},
        }
        module = training_module(objective)
        module(episodes(), step=1, epoch=3.0)[0].backward()
        gradients.append([p.grad.clone() for p in module.terms["grl"].parameters() if p.grad is not None])
    for found, expected in zip(*gradients, strict=True):
        assert torch.allclose(found, expected, atol=1e-6)


def test_lines_count_the_same_however_many_episodes_they_have() -> None:
    assert line_weights(torch.tensor([0, 0, 2, -1]), balanced=True).tolist() == [0.5, 0.5, 1.0, 0.0]
    assert line_weights(torch.tensor([0, 0, 2, -1]), balanced=False).tolist() == [1.0, 1.0, 1.0, 0.0]
