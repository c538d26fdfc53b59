from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from model.energy.energy import TEMPERATURES, Energy, EnergySettings
from model.energy.forms import FORMS
from model.scores import Scores

SEED_FORMS = sorted(FORMS)


def energy(width: int = 3, local: int = 0, **changes: object) -> Energy:
    torch.manual_seed(1)
    values = {"channels": 1, "invariant_width": 5, "dropout": 0.0, "shift": "linear", **changes}
    return Energy(EnergySettings.model_validate(values), width, local, memory=0.99).double().eval()


def one() -> Tensor:
    return torch.ones((), dtype=torch.double)


def scored(module: Energy, environment: Tensor, scale: Tensor | None = None, n: int = 400) -> Scores:
    z = torch.randn(1, n, 5, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    with torch.no_grad():
        return module(z.expand(len(environment), -1, -1), environment, None, one() if scale is None else scale)


@pytest.mark.parametrize("form", SEED_FORMS)
@pytest.mark.parametrize("sign", ["signed", "nonneg"])
def test_T0_1_no_environment_changes_the_ranking_of_a_line_with_one_channel(form: str, sign: str) -> None:
    module = energy(form=form, sign=sign)
    environments = torch.randn(6, 3, dtype=torch.double) * torch.tensor([0.0, 0.3, 1, 3, 10, 30]).unsqueeze(1)
    scores = scored(module, environments)
    labels = (torch.rand(400, generator=torch.Generator().manual_seed(3)) < torch.sigmoid(scores.neutral[0])).int()
    expected = average_precision_score(labels, scores.neutral[0]), roc_auc_score(labels, scores.neutral[0])
    for logits in scores.logits:
        found = average_precision_score(labels, logits), roc_auc_score(labels, logits)
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("form", SEED_FORMS)
def test_T0_1_no_coupling_and_no_resistance_makes_a_gate_negative(form: str) -> None:
    resistance = torch.linspace(-50, 50, 1001).view(1, -1, 1)
    for coupling in (-5.0, -0.5, 0.0, 0.1, 5.0):
        gates, _ = FORMS[form].apply(resistance, resistance[..., 0], torch.full((2,), coupling)[: 1 + ("lin_" in form)])
        assert (gates >= 0).all()
        assert (gates[resistance.abs() < 10] > 0).all()


def test_T0_2_the_interaction_form_pivots_at_one_over_lambda() -> None:
    resistance = torch.tensor([0.0, 0.5, 1.0, 3.0, 10.0]).view(-1, 1, 1)
    coupling = torch.tensor([0.1])
    gates, shift = FORMS["interaction"].apply(resistance, resistance[..., 0], coupling)
    logits = 10.0 * gates[..., 0] - shift
    assert torch.allclose(logits, torch.full_like(logits, 10.0), atol=1e-5)


def test_T0_3_a_closed_gate_leaves_the_background_odds() -> None:
    module = energy(bias=-2.0, shift="none")
    with torch.no_grad():
        module.resistance.line.weight.fill_(-1e4)
    scores = scored(module, torch.ones(1, 3, dtype=torch.double))
    assert torch.allclose(scores.logits, torch.full_like(scores.logits, -2.0))


@pytest.mark.parametrize("form", SEED_FORMS)
def test_T0_3_without_environment_every_form_is_the_identity_on_the_intrinsic_energy(form: str) -> None:
    scores = scored(energy(form=form), torch.randn(4, 3, dtype=torch.double), scale=0 * one())
    # t starts at -ln 2 to six digits, so T is 1 to about 1e-7.
    assert torch.allclose(scores.logits, scores.neutral, atol=1e-6)
    assert torch.equal(scores.gates, torch.ones_like(scores.gates))


def test_T0_4_the_centre_of_resistance_follows_the_training_lines() -> None:
    module = energy(channels=2)
    environments = torch.randn(4, 3, dtype=torch.double)
    module.train()
    scored(module, environments)
    # The first step also set the scale of z_E; the centre is asked for on that scale.
    module.centre.count.zero_()
    scored(module, environments)
    centred = scored(module, environments)
    assert centred.resistance.mean(dim=0).abs().max() < 1e-12
    assert centred.shift.mean().abs() < 1e-12
    shifted = energy(channels=2)
    shifted.load_state_dict(module.state_dict())
    with torch.no_grad():
        shifted.resistance.line.bias += 7.0
    shifted.centre.count.zero_()
    shifted.centre.mean.zero_()
    shifted.train()
    # The scale of z_E follows the last environments exactly as in the first module.
    shifted.scale.load_state_dict(module.scale.state_dict())
    scored(shifted, environments)
    assert torch.allclose(scored(shifted, environments).logits, centred.logits, atol=1e-12)


def test_z_E_reaches_the_heads_at_unit_scale_whatever_units_the_encoder_chose() -> None:
    environments = torch.randn(6, 3, dtype=torch.double)
    small, large = energy(channels=2), energy(channels=2)
    large.load_state_dict(small.state_dict())
    for module, values in ((small, 0.01 * environments + 5.0), (large, 100 * environments)):
        module.train()
        scored(module, values)
        module.eval()
    one, other = scored(small, 0.01 * environments + 5.0), scored(large, 100 * environments)
    assert torch.allclose(one.resistance - one.resistance[:1], other.resistance - other.resistance[:1], atol=1e-4)
    assert one.resistance.std(dim=0).min() > 0.05


def test_T0_4_the_sign_of_a_gate_and_the_scale_of_the_energy_are_fixed() -> None:
    resistance = torch.tensor([-1.0, 1.0]).view(2, 1, 1)
    for raw in (-20.0, -1.0, 0.0, 3.0):
        gates, _ = FORMS["gated"].apply(resistance, resistance[..., 0], torch.tensor([raw]))
        assert gates[0] <= 1.0 <= gates[1]


def test_T0_5_two_channels_let_the_environment_change_the_ranking() -> None:
    generator = torch.Generator().manual_seed(5)
    u = torch.randn(4000, 2, generator=generator)
    labels = (torch.rand(4000, generator=generator) < torch.sigmoid(2 * u[:, 0] + 0.1 * u[:, 1])).int()
    gates = torch.tensor([[1.0, 1.0], [2.0, 0.1], [0.1, 2.0]])
    both, first, second = (average_precision_score(labels, (u * gate).sum(dim=1)) for gate in gates)
    assert first > both + 0.05 > second + 0.1


def test_T0_5_gates_of_two_channels_differ_in_the_module() -> None:
    scores = scored(energy(channels=2), 3 * torch.randn(2, 3, dtype=torch.double))
    assert not torch.equal(scores.logits[0].argsort(), scores.logits[1].argsort())


@pytest.mark.parametrize("shift", ["none", "linear", "mlp"])
def test_T0_6_an_absent_local_environment_leaves_no_bit_changed(shift: str) -> None:
    without, with_local = energy(shift=shift, channels=3), energy(shift=shift, channels=3, local=4)
    with_local.load_state_dict(without.state_dict(), strict=False)
    z, environment = torch.randn(2, 8, 5, dtype=torch.double), torch.randn(2, 3, dtype=torch.double)
    plain = without(z, environment, None, one())
    assert torch.equal(with_local(z, environment, None, one()).logits, plain.logits)
    zero = with_local(z, environment, torch.zeros(2, 8, 4, dtype=torch.double), one())
    assert torch.allclose(zero.logits, plain.logits, atol=1e-14, rtol=0)


def test_T0_7_softplus_starts_at_one_and_the_bounded_form_keeps_its_bounds() -> None:
    softplus, start = TEMPERATURES["softplus"]
    assert start == pytest.approx(math.log(math.e - 1), abs=1e-6)
    assert float(softplus(torch.tensor(start))) == pytest.approx(1.0, abs=1e-6)
    assert float(softplus(torch.tensor(0.0))) == pytest.approx(0.693147, abs=1e-6)
    bounded, start = TEMPERATURES["bounded"]
    assert float(bounded(torch.tensor(start))) == pytest.approx(1.0, abs=1e-6)
    everywhere = bounded(torch.linspace(-50, 50, 1001))
    assert everywhere.min() >= 0.5
    assert everywhere.max() <= 2.0
