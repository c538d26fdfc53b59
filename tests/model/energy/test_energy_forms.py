from __future__ import annotations

from itertools import product

import pytest
import torch
from model_episodes import episodes, settings
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from model.energy.energy import Energy, EnergySettings
from model.energy.forms import FORMS
from model.energy.free_energy import FreeEnergy
from model.environment.settings import EnvironmentSettings
from model.episode_model import EpisodeModel
from model.scores import Scores

ENERGIES: dict[str, dict[str, object]] = {
    "fourier head": {"head": "fourier_kan", "harmonics": 3},
    "fourier resistance": {"resistance": "fourier_kan"},
    "fourier shift": {"shift": "fourier_kan"},
    "mlp resistance": {"resistance": "mlp"},
    "line temperature": {"temperature_of": "line"},
    "line softplus temperature": {"temperature_of": "line", "temperature": "softplus"},
    "all of it": {"head": "fourier_kan", "resistance": "fourier_kan", "shift": "fourier_kan", "temperature_of": "line"},
}
CASES = list(product(ENERGIES, sorted(FORMS)))
LINES = torch.randn(6, 3, generator=torch.Generator().manual_seed(4), dtype=torch.double)


def energy(name: str, form: str = "gated", local: int = 0, channels: int = 1) -> Energy:
    torch.manual_seed(1)
    values = {"channels": channels, "invariant_width": 5, "dropout": 0.0, "shift": "linear", "form": form}
    module = Energy(EnergySettings.model_validate(values | ENERGIES[name]), 3, local, memory=0.99).double().eval()
    if module.warmth is not None:
        torch.nn.init.normal_(module.warmth.weight, std=2.0)
    return module


def scored(module: Energy, environment: Tensor, scale: float = 1.0, n: int = 400) -> Scores:
    z = torch.randn(1, n, 5, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    with torch.no_grad():
        return module(z.expand(len(environment), -1, -1), environment, None, torch.tensor(scale, dtype=torch.double))


@pytest.mark.parametrize(("name", "form"), CASES)
def test_T0_1_no_environment_changes_the_ranking_of_a_line_with_one_channel(name: str, form: str) -> None:
    scores = scored(energy(name, form), LINES * torch.tensor([0.0, 0.3, 1, 3, 10, 30]).unsqueeze(1))
    labels = (torch.rand(400, generator=torch.Generator().manual_seed(3)) < torch.sigmoid(scores.neutral[0])).int()
    expected = average_precision_score(labels, scores.neutral[0]), roc_auc_score(labels, scores.neutral[0])
    for logits in scores.logits:
        found = average_precision_score(labels, logits), roc_auc_score(labels, logits)
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_T0_3_without_environment_every_form_is_the_identity_on_the_intrinsic_energy(name: str, form: str) -> None:
    scores = scored(energy(name, form), LINES, scale=0.0)
    assert torch.allclose(scores.logits, scores.neutral, atol=1e-6)
    assert torch.equal(scores.gates, torch.ones_like(scores.gates))


@pytest.mark.parametrize("name", ENERGIES)
def test_T0_4_the_gauge_is_fixed_over_the_training_lines(name: str) -> None:
    module = energy(name, channels=2).train()
    scored(module, LINES)
    # The mean afresh: what is read from z_E may itself have been settled by the first step.
    module.centre.count.zero_()
    scored(module, LINES)
    centred = scored(module, LINES)
    assert centred.resistance.mean(dim=0).abs().max() < 1e-6
    assert centred.shift.mean().abs() < 1e-6
    softplus = module.settings.temperature == "softplus"
    raw = centred.temperature.expm1().log() if softplus else ((centred.temperature - 0.5) / 1.5).logit()
    assert (raw - module.readout.t).mean().abs() < 1e-6


@pytest.mark.parametrize("name", ENERGIES)
def test_T0_5_two_channels_let_the_environment_change_the_ranking(name: str) -> None:
    scores = scored(energy(name, channels=2), 3 * LINES[:2])
    assert not torch.equal(scores.logits[0].argsort(), scores.logits[1].argsort())


@pytest.mark.parametrize("name", ENERGIES)
def test_T0_6_an_absent_local_environment_leaves_no_bit_changed(name: str) -> None:
    without, with_local = energy(name, channels=3), energy(name, channels=3, local=4)
    with_local.load_state_dict(without.state_dict(), strict=False)
    assert torch.equal(scored(with_local, LINES).logits, scored(without, LINES).logits)


def test_T0_7_the_temperature_of_a_line_keeps_its_bounds() -> None:
    scores = scored(energy("line temperature"), 1e3 * LINES)
    assert scores.temperature.shape == (6, 1)
    assert scores.temperature.min() >= 0.5
    assert scores.temperature.max() <= 2.0
    assert scores.temperature.std() > 0.1
    assert (scored(energy("line softplus temperature"), 10 * LINES).temperature > 0).all()


def test_T0_7_every_line_starts_at_temperature_one() -> None:
    torch.manual_seed(0)
    fresh = Energy(EnergySettings(temperature_of="line"), 3, 0, memory=0.99)
    z = torch.randn(6, 8, 64)
    assert torch.allclose(fresh(z, LINES.float(), None, torch.ones(())).temperature, torch.ones(6, 1), atol=1e-6)


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("tracks", [0, 3])
def test_the_parts_of_the_free_energy_add_up_to_the_log_odds(form: str, tracks: int) -> None:
    torch.manual_seed(0)
    own = settings(energy={"form": form, "bias": -1.0, "temperature_of": "line"})
    m = EpisodeModel(own, tracks, 0).eval()
    with torch.no_grad():
        scores = m(episodes(signals=tracks))
    parts = FreeEnergy.of(scores)
    total = parts.background + parts.channels.sum(dim=-1) + parts.environment
    assert torch.allclose(total, parts.total, atol=1e-5)
    assert torch.equal(parts.total, scores.logits)


def test_the_default_model_has_none_of_the_options() -> None:
    chosen, energies = EnvironmentSettings(), EnergySettings()
    assert (chosen.encoder, chosen.fusion, chosen.query_attention, chosen.labelled_support) == (
        "mean",
        "none",
        False,
        False,
    )
    assert not chosen.id_teacher.on
    assert (energies.head, energies.resistance, energies.temperature_of) == ("mlp", "linear", "all")
