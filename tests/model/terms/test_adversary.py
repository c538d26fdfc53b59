"""Claims about adversaries: where they stop, what they see, how fast they learn, and what training against one does."""

from __future__ import annotations

import functools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from model_episodes import episodes, taught, training_module
from model_steps import scores_of, step_of
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from distributed.engine import set_learning_rate
from model.balancing.balance import Balance
from model.balancing.measuring import measure
from model.balancing.registry import BALANCERS, BY_VALUE
from model.balancing.rule import Seen, Targets
from model.balancing.settings import BalanceSettings
from model.objective import ObjectiveSettings, TrainingModule
from model.parameters import parameter_groups
from model.terms.club import Club, ClubSettings
from model.terms.conditional_invariance import CdanSettings, ConditionalReversal
from model.terms.dependence import DependenceSettings
from model.terms.invariance import GradientReversal, GrlSettings

LINES, QUERY, WIDTH = 3, 32, 8
TERMS: dict[str, Any] = {
    "grl": lambda: GradientReversal(GrlSettings(), WIDTH, LINES),
    "cdan": lambda: ConditionalReversal(CdanSettings(), WIDTH, LINES),
    "club": lambda: Club(ClubSettings(), WIDTH, LINES),
}
BY_GRADIENT = sorted(set(BALANCERS) - set(BY_VALUE))


def stream(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs (6, n, 12) of three lines, label and line each told by dimensions of their own; labels and lines."""
    generator = torch.Generator().manual_seed(seed)
    line = torch.arange(6) % LINES
    labels = (torch.rand(6, QUERY, generator=generator) < 0.5).float()
    x = torch.randn(6, QUERY, 12, generator=generator)
    x[..., :3] += 1.2 * (2 * labels - 1).unsqueeze(-1)
    x[..., 3:6] += 2 * F.one_hot(line, LINES).float().unsqueeze(1)
    return x, labels, line


class Encoder(nn.Module):
    """Shared features h, z_I from them, and logits of z_I."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(12, 16)
        self.invariant = nn.Sequential(nn.GELU(), nn.Linear(16, WIDTH))
        self.out = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.shared(x)
        z = self.invariant(h)
        return h, z, self.out(z).squeeze(-1)


def probed(encoder: Encoder) -> float:
    """Share of unseen pairs whose line a classifier trained afresh on z_I names."""
    with torch.no_grad():
        drawn = [(encoder(x)[1].flatten(0, 1), line) for x, _, line in map(stream, range(10_000, 10_016))]
    z = torch.cat([part for part, _ in drawn])
    z, line = (z / z.std(dim=0)).numpy(), torch.cat([part.repeat_interleave(QUERY) for _, part in drawn]).numpy()
    half = len(z) // 2
    return float(LogisticRegression(max_iter=300).fit(z[:half], line[:half]).score(z[half:], line[half:]))


def against(name: str, mode: str, steps: int, start: int, strength: float = 0.5) -> tuple[Encoder, list[float]]:
    """An encoder trained on the label and, from step `start`, against an adversary; the adversary's cross-entropies."""
    torch.manual_seed(0)
    encoder, term, balance = Encoder(), TERMS[name](), Balance(BalanceSettings.model_validate({"mode": mode}), 1)
    module = nn.ModuleDict({"encoder": encoder, "term": term})
    groups = parameter_groups(module, 0.0, 5.0)
    optimiser = torch.optim.AdamW([{**group, "lr": 1e-3 * group["rate"]} for group in groups])
    costs = []
    for step in range(steps):
        x, labels, line = stream(step)
        h, z, logits = encoder(x)
        task = F.binary_cross_entropy_with_logits(logits, labels)
        value = term(step_of(labels, tuple(line.tolist())), scores_of(logits, z), 0.0)
        found = measure([task, value.loss], [h]) if balance.measures(step) else None
        asked = torch.tensor([strength if step >= start else 0.0])
        seen = Seen(torch.stack([task.detach(), value.loss.detach()]), 0.0, found)
        weights = balance(seen, Targets(asked, asked, torch.ones(1)))
        optimiser.zero_grad()
        (weights[0] * task + weights[1] * value.loss + (1 - weights[1]) * value.own).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        costs.append(float(value.own.detach()))
    return encoder, costs


@functools.cache
def left_free(name: str) -> Encoder:
    """An encoder beside an adversary that never acts on it: whatever the rule, it has nothing to weigh."""
    return against(name, "fixed_ramp", 400, start=400)[0]


def length(encoder: Encoder) -> float:
    with torch.no_grad():
        return float(encoder(stream(20_000)[0])[1].norm(dim=-1).mean())


@pytest.mark.parametrize(
    ("name", "mode"), [*(("grl", mode) for mode in BY_GRADIENT), ("cdan", "fixed_ramp"), ("cdan", "gradnorm_ema")]
)
def test_an_encoder_trained_against_an_adversary_ends_at_chance_stays_in_bounds_and_tells_less(
    name: str, mode: str
) -> None:
    free = left_free(name)
    encoder, costs = against(name, mode, 400, start=100)
    smoothed = [sum(costs[first : first + 100]) / 100 for first in range(100, 300)]
    assert max(smoothed) <= math.log(LINES) + 0.05
    assert smoothed[-1] > math.log(LINES) - 0.15
    assert length(encoder) < 2 * length(free)
    assert probed(encoder) < probed(free) - 0.05
    with torch.no_grad():
        x, labels, _ = stream(20_001)
        assert float(((encoder(x)[2] > 0) == (labels > 0.5)).float().mean()) > 0.95


@pytest.mark.parametrize("name", ["grl", "cdan"])
def test_above_chance_the_encoder_is_left_alone_and_the_adversary_learns_on(name: str) -> None:
    torch.manual_seed(0)
    term, z = TERMS[name](), torch.randn(3, 20, WIDTH)
    logits = torch.zeros(3, 20)
    optimiser = torch.optim.Adam(term.parameters(), lr=1e-2)
    for _ in range(60):  # it learns to name every line wrongly
        optimiser.zero_grad()
        (term(step_of(torch.ones(3, 20), line=(1, 2, 0)), scores_of(logits, z), 0.0).own).backward()
        optimiser.step()
    for line, moves in (((0, 1, 2), False), ((1, 2, 0), True)):
        seen = z.clone().requires_grad_()
        value = term(step_of(torch.ones(3, 20), line=line), scores_of(logits, seen), 0.0)
        assert (float(value.loss.detach()) < math.log(3)) == moves
        assert torch.equal(value.loss.detach(), value.own.detach())
        found = torch.autograd.grad(value.loss, [seen, *term.parameters()], retain_graph=True)
        own = torch.autograd.grad(value.own, list(term.parameters()))
        assert bool(found[0].any()) == moves
        assert all(torch.equal(a, b) for a, b in zip(found[1:], own, strict=True))
        assert all(part.any() for part in own)


@pytest.mark.parametrize("mode", ["fixed_ramp", "gradnorm_ema"])
@pytest.mark.parametrize("name", ["grl", "cdan"])
def test_the_reversal_fades_out_below_chance_and_no_balancer_undoes_it(name: str, mode: str) -> None:
    reached, strength = {}, 1.0
    for fade in (0.0, 1.0):
        own = {"on": True, "start": 0.0, "fade": fade, "reversal_epochs": 0.0}
        terms = {"grl": {"on": False}, "corr": {"on": False}, name: own}
        # A few steps: of a classifier that knows the lines, a strength of almost 1 is not told from one left out.
        module = taught(training_module({"balance": {"mode": mode, "every": 1}, "terms": terms}), episodes(), steps=4)
        kept: dict[str, Tensor] = {}
        module.task.register_forward_hook(lambda _, inputs, value, kept=kept: kept.update(task=value, z=inputs[2]))
        total, report = module(episodes(), step=1, epoch=3.0)
        task, whole = (torch.autograd.grad(loss, kept["z"], retain_graph=True)[0] for loss in (kept["task"], total))
        reached[fade], strength = whole - task, float(report[f"strength/{name}"])
    assert 0.2 < strength < 0.8
    assert reached[0.0].abs().max() > 1e-5
    assert torch.allclose(reached[1.0], strength * reached[0.0], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("weight", [0.3, 2.0])
def test_T4_1_the_encoder_gets_minus_the_weight_times_the_gradient_of_the_classifier_s_loss(weight: float) -> None:
    objective: dict[str, object] = {
        "balance": {"mode": "fixed_ramp"},
        "terms": {"grl": {"weight": weight, "start": 0.0, "fade": 0.0}, "corr": {"on": False}},
    }
    module = taught(training_module(objective), episodes())
    kept: dict[str, Tensor] = {}
    module.task.register_forward_hook(lambda _, inputs, value: kept.update(task=value, z=inputs[2]))
    module.terms["grl"].register_forward_hook(lambda own, inputs, _: kept.update(plain=plain(own, *inputs[:2])))
    total, _ = module(episodes(), step=1, epoch=3.0)
    task, own, whole = (torch.autograd.grad(loss, kept["z"], retain_graph=True)[0]
                        for loss in (kept["task"], kept["plain"], total))  # fmt: skip
    assert own.any()
    assert torch.allclose(whole - task, -weight * own, rtol=1e-3, atol=1e-6)


def plain(term: GradientReversal, step: Any, scores: Any) -> Tensor:
    """The classifier's cross-entropy of lines 0, 1, 2 as a function of z_I (standardised by this step's moments)."""
    z = scores.invariant
    flat = z.detach().flatten(0, 1)
    log_q = term.classifier((z - flat.mean(dim=0)) / flat.std(dim=0, correction=0))
    return F.nll_loss(log_q.flatten(0, 1), step.line.repeat_interleave(z.shape[1]))


@pytest.mark.parametrize("name", sorted(TERMS))
def test_scale_and_place_of_z_hide_nothing_from_an_adversary(name: str) -> None:
    torch.manual_seed(0)
    term, z, logits = TERMS[name](), torch.randn(3, 20, WIDTH), torch.zeros(3, 20)
    scales = torch.logspace(-2, 2, WIDTH)
    found = [
        float(term(step_of(torch.ones(3, 20)), scores_of(logits, moved), 0.0).own.detach())
        for moved in (z, 100 * z, scales * z + 7 * scales)
    ]
    assert found[1:] == pytest.approx(found[:1] * 2, abs=1e-3)


def test_every_adversary_learns_at_the_rate_of_adversaries_and_nothing_else_does() -> None:
    on = {name: {"on": True} for name in ("grl", "cdan", "club", "dependence")}
    module: TrainingModule = training_module({"terms": on})
    groups = {group["role"]: group for group in parameter_groups(module, 1e-3, 5.0)}
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    members = {names[id(parameter)] for parameter in groups["adversary"]["params"]}
    assert members == {name for name in names.values() if name.startswith("terms.")}
    assert sum(len(group["params"]) for group in groups.values()) == len(names)
    engine = SimpleNamespace(optimizer=torch.optim.AdamW(list(groups.values()), lr=1.0))
    set_learning_rate(engine, 0.01)
    rates = {group["role"]: group["lr"] for group in engine.optimizer.param_groups}
    assert rates.pop("adversary") == pytest.approx(0.05)
    assert set(rates.values()) == {0.01}


@pytest.mark.parametrize("mode", BY_GRADIENT)
@pytest.mark.parametrize("name", ["grl", "cdan"])
def test_the_reversal_grows_from_the_term_s_start_under_every_balancer(name: str, mode: str) -> None:
    shares = []
    for epochs in (0.0, 4.0):
        terms: dict[str, object] = {"grl": {"on": False}, "corr": {"on": False}}
        own = {"on": True, "start": 2.0, "reversal_epochs": epochs}
        module = taught(training_module({"balance": {"mode": mode}, "terms": terms | {name: own}}), episodes())
        shares.append([float(module(episodes(), step=0, epoch=epoch)[1][f"weight/{name}"])
                       for epoch in (1.9, 2.0, 2.4, 4.0, 6.0)])  # fmt: skip
    whole, grown = shares
    assert whole[0] == grown[0] == grown[1] == 0.0
    assert whole[1] > 0
    expected = [2 / (1 + math.exp(-10 * (epoch - 2) / 4)) - 1 for epoch in (2.4, 4.0, 6.0)]
    assert [part / full for part, full in zip(grown[2:], whole[2:], strict=True)] == pytest.approx(expected, rel=1e-3)


def test_terms_without_a_ramp_of_their_own_are_whole_from_their_start() -> None:
    terms = ObjectiveSettings().policies().values()
    assert {type(own) for own in terms if own.growth_at(0.0) != 1.0} == {GrlSettings, CdanSettings}
    assert DependenceSettings().growth_at(9.0) == 1.0
