from __future__ import annotations

import math

import pytest
import torch
from model_episodes import episodes, training_module

from model.terms.invariance import GradientReversal, line_weights, reversal_schedule


@pytest.mark.parametrize(("progress", "value"), [(0.0, 0.0), (0.1, 0.46212), (0.5, 0.98661), (1.0, 0.99991)])
def test_T4_1_the_schedule_has_the_published_values(progress: float, value: float) -> None:
    assert reversal_schedule(progress) == pytest.approx(value, abs=5e-6)


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
