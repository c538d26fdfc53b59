from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from model_episodes import episodes, settings, training_module
from model_steps import scores_of, step_of
from model_workers import exchange, part, sent
from sklearn.metrics import roc_auc_score
from tiny_training import tiny_fold, tiny_settings, tiny_store
from torch import Tensor, nn

from data_pipeline.errors import UserError
from data_pipeline.settings import validate
from distributed.assembly import build_module
from model.environment.student import CompetitionSettings, Student
from model.episode_model import EpisodeModel, ModelSettings
from model.objective import TrainingModule
from model.terms.competition import (
    Competition,
    PullSettings,
    PushSettings,
    divergence,
    pull_weight,
    push_weight,
    squared_correlation,
)
from model.terms.opportunist import Opportunist
from model.terms.term import TermValue
from tests.model.environment.test_environment_learning import logits, world

QUIET = {"terms": {"grl": {"on": False}, "corr": {"on": False}}, "curriculum": {"warm_epochs": 0.0, "ramp_epochs": 0.0}}


def rivals(tracks: int = 0, **own: Any) -> TrainingModule:
    """A training module with competition, its graph by an even tree; `own` may weigh `pull` and `push`, and `start`."""
    walled = {name: {"weight": own.pop(name)} for name in ("pull", "push") if name in own}
    objective = {**QUIET, "terms": {**QUIET["terms"], **walled}, "start": own.pop("start", 2.0)}
    competition = {"on": True, "relation": "tree", **own}
    tissues = {"a": "x", "b": "x", "c": "y"}
    module = training_module(
        objective, tracks=tracks, competition=competition, tissues=tissues, environment={"trunk_gradient": True}
    )
    module.set_lines(["a", "b", "c"], torch.zeros(3, 0))
    return module


def run(module: TrainingModule, steps: int, epoch: float = 3.0, tracks: int = 0) -> dict[str, Tensor]:
    for step in range(steps):
        _, report = module(episodes(signals=tracks, seed=step), step=step, epoch=epoch)
    return report


def gradients(loss: Tensor, *parts: nn.Module) -> list[Tensor | None]:
    parameters = [parameter for part in parts for parameter in part.parameters()]
    return list(torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True))


def losing(module: TrainingModule) -> Competition:
    """The module's competition with every line lost to the opportunist, so that push and pull both act."""
    assert module.competition is not None
    module.competition.win.fill_(0.1)
    return module.competition


def caught(module: TrainingModule) -> tuple[TermValue, Competition, Any]:
    """Value of the competition in a step after prototypes exist, the term, and the scores it saw."""
    run(module, 2)
    term, seen = losing(module), []
    term.register_forward_hook(lambda _, inputs, value: seen.append((inputs[1], value)))
    module(episodes(seed=7), step=2, epoch=3.0)
    scores, value = seen[-1]
    return value, term, scores


def test_T7_2_pull_and_push_never_reach_trunk_u_or_support_codes() -> None:
    module = rivals()
    _, term, scores = caught(module)
    model = module.model
    assert model.trunk is not None
    assert scores.student is not None
    loss = divergence(scores.student.target, scores.student.log_choice).sum() + squared_correlation(
        scores.student.response.flatten(), torch.randn(scores.student.response.numel())
    )
    behind = (model.trunk, model.invariant, model.energy.channels, model.energy.readout, model.support, term)
    assert all(gradient is None for gradient in gradients(loss, *behind))
    assert model.student is not None
    for own in (model.student, model.energy.resistance, model.energy.shift):
        assert own is not None
        assert any(gradient is not None and gradient.any() for gradient in gradients(loss, own))


def test_T7_2_the_whole_competition_moves_student_line_heads_and_opportunist_only() -> None:
    module = rivals()
    value, _, _ = caught(module)
    assert float(value.report["pull"]) > 0.0
    assert float(value.report["push"]) > 0.0
    moved = {
        name
        for name, parameter in module.named_parameters()
        if (gradient := torch.autograd.grad(value.loss, parameter, allow_unused=True, retain_graph=True)[0]) is not None
        and gradient.any()
    }
    allowed = ("model.student.", "model.energy.resistance.", "model.energy.shift.", "competition.opportunist.")
    assert {name.split(".")[1] for name in moved} == {"student", "energy", "opportunist"}
    assert all(name.startswith(allowed) or name == "model.energy.modulation.coupling" for name in moved)


def test_T7_2_the_opportunist_learns_from_its_own_loss_alone() -> None:
    module = rivals(pull=0.0, push=1.0)
    value, term, _ = caught(module)
    assert float(value.report["push"]) > 0.0
    alone = rivals(pull=0.0, push=0.0)
    reference, other, _ = caught(alone)
    for first, second in zip(
        gradients(value.loss, term.opportunist), gradients(reference.loss, other.opportunist), strict=True
    ):
        assert first is not None
        assert second is not None
        assert torch.equal(first, second)


def test_T7_2_the_student_is_in_the_main_forward_and_the_task_teaches_it() -> None:
    module = rivals()
    run(module, 2)
    module(episodes(seed=5), step=2, epoch=30.0)[0].backward()
    assert module.model.student is not None
    assert all(p.grad is not None and p.grad.any() for p in module.model.student.parameters())


def share_of_the_student(epoch: float = 3.0, **own: Any) -> tuple[float, float]:
    """Gradient of the competition at the student relative to the task's, and the weight, in a step where lines lose."""
    module = rivals(**own)
    run(module, 4)
    losing(module)
    _, report = module(episodes(seed=7), step=4, epoch=epoch)
    return float(report["gradient_ratio/competition"]), float(report["weight/competition"])


def test_the_competition_s_gradient_share_is_what_reaches_the_student() -> None:
    one, weight = share_of_the_student(pull=0.5, push=0.0)
    two, _ = share_of_the_student(pull=1.0, push=0.0)
    assert one > 0.0
    assert two == pytest.approx(2 * one, rel=1e-4)
    assert weight == 1.0


def test_a_competition_that_does_not_act_yet_has_no_share() -> None:
    assert share_of_the_student(pull=0.0, push=0.0) == (0.0, 1.0)
    assert share_of_the_student(epoch=1.0) == (0.0, 0.0)


def test_between_measurements_there_is_no_share() -> None:
    module = rivals()
    assert "gradient_ratio/competition" not in module(episodes(seed=7), step=1, epoch=3.0)[1]


def test_T7_3_the_divergence_is_zero_exactly_where_student_and_teacher_agree() -> None:
    target = torch.rand(4, 5, dtype=torch.double).softmax(dim=1)
    target[0] = torch.tensor([1.0, 0, 0, 0, 0])
    log_q = target.clamp(min=1e-300).log()
    assert divergence(target, log_q).abs().max() < 1e-15
    other = torch.randn(4, 5, dtype=torch.double).log_softmax(dim=1)
    assert (divergence(target, other) > 1e-3).all()
    assert not divergence(torch.zeros(2, 5), torch.randn(2, 5)).any()


def test_T7_4_a_hundred_straight_wins() -> None:
    term = Competition(CompetitionSettings(), PullSettings(start=2.0), PushSettings(start=2.0), 0, lines=2)
    labels = torch.tensor([[1.0, 0.0, math.nan]])
    right, wrong = torch.tensor([[3.0, -3.0, 0.0]]), torch.zeros(1, 3)
    for _ in range(100):
        term.count(step_of(labels, line=(1,)), right, wrong)
    assert term.win.tolist() == pytest.approx([0.5, 1 - 0.5 * 0.99**100])
    assert float(term.win[1]) == pytest.approx(0.81698, abs=1e-5)


def test_T7_4_only_lines_with_labels_are_counted_and_in_training_only() -> None:
    module = rivals()
    assert module.competition is not None
    batch = episodes()
    for _ in range(2):
        module(replace(batch, labels=torch.full_like(batch.labels, math.nan)), step=0, epoch=3.0)
    assert module.competition.win.tolist() == [0.5] * 3
    module(batch, step=1, epoch=1.0)
    assert module.competition.win.tolist() == [0.5] * 3
    module(batch, step=1, epoch=3.0)
    after = module.competition.win.clone()
    assert not (after == 0.5).any()
    module.eval()
    module(batch, step=2, epoch=3.0)
    assert torch.equal(module.competition.win, after)


def test_T7_4_the_push_acts_only_where_the_opportunist_wins() -> None:
    win = torch.tensor([0.0, 0.25, 0.5, 0.9])
    assert push_weight(win).tolist() == [1.0, 0.5, 0.0, 0.0]
    assert pull_weight(win).tolist() == [1.0, 0.75, 0.5, 0.5]


def test_T7_5_the_graph_is_not_the_identity() -> None:
    module = rivals()
    run(module, 1)
    assert module.model.student is not None
    reach, smoothed, _ = module.model.student.graph()
    assert float(reach.sum() - reach.diagonal().sum()) > 0.5
    assert float(reach[0, 1]) > float(reach[0, 2]) > 0.0
    prototypes, _ = module.model.student.graph.prototypes()
    assert torch.allclose(smoothed, reach @ prototypes, atol=1e-6)
    assert not torch.allclose(smoothed, prototypes, atol=1e-3)


def test_T7_6_without_competition_every_logit_is_bit_equal_to_the_base_model() -> None:
    batch, found = episodes(signals=3), []
    for competition in ({}, {"on": False, "spread": 0.9}):
        module = training_module(QUIET, tracks=3, competition=competition)
        run(module, 2, tracks=3)
        found.append(module.eval().model.logits(batch))
    assert torch.equal(found[0], found[1])


def test_T7_6_the_other_weights_do_not_depend_on_the_switch() -> None:
    torch.manual_seed(0)
    off = EpisodeModel(settings(), 3, 0, lines=3)
    torch.manual_seed(0)
    on = EpisodeModel(settings(competition={"on": True}), 3, 0, lines=3)
    assert not [name for name in off.state_dict() if "student" in name]
    assert all(torch.equal(value, on.state_dict()[name]) for name, value in off.state_dict().items())
    # Before there are prototypes the student passes the pooled codes on.
    batch = episodes(signals=3)
    assert torch.equal(off.eval().logits(batch), on.eval().logits(batch))


def test_the_student_s_environment_lies_in_the_hull_of_the_smoothed_prototypes() -> None:
    student = Student(CompetitionSettings(), {}, 2, lines=3)
    student.observe(torch.arange(3), torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    student.eval()
    z = student(50 * torch.randn(40, 2), None)
    _, smoothed, _ = student.graph()
    share = torch.linalg.solve(torch.cat([smoothed.T, torch.ones(1, 3)]), torch.cat([z.T, torch.ones(1, 40)]))
    assert (share > -1e-5).all()


def test_the_teacher_speaks_for_training_lines_in_training_only() -> None:
    student = Student(CompetitionSettings(novelty=0.0, share=0.5, share_epochs=10.0), {}, 2, lines=2)
    student.observe(torch.arange(2), torch.randn(2, 2))
    pooled, line = torch.randn(3, 2), torch.tensor([0, 1, -1])
    student.set_epoch(0.0)
    taught = student(pooled, line)
    _, smoothed, _ = student.graph()
    student.eval()
    alone = student(pooled, line)
    assert torch.allclose(taught[:2], 0.5 * smoothed + 0.5 * alone[:2], atol=1e-6)
    assert torch.equal(taught[2], alone[2])
    student.train().set_epoch(10.0)
    assert torch.allclose(student(pooled, line), alone, atol=1e-6)


def test_a_line_treated_as_unknown_does_not_find_its_own_prototype() -> None:
    student = Student(CompetitionSettings(novelty=1.0, spread=0.0), {}, 2, lines=3)
    student.observe(torch.arange(3), torch.tensor([[5.0, 5.0], [-1.0, 0.0], [0.0, -1.0]]))
    z = student(torch.randn(1, 2), torch.tensor([0])).detach()
    assert float(z.max()) <= 0.0
    assert float(z.sum()) == pytest.approx(-1.0, abs=1e-5)


def test_competition_does_not_depend_on_the_number_of_workers() -> None:
    alone, together = rivals(), [rivals(), rivals()]
    for step in range(3):
        batch = episodes(lines=(0, 1, 2, 0), seed=step)
        seen = [sent(module, part(batch, worker, 2), step=step) for worker, module in enumerate(together)]
        total, report = alone(batch, step=step, epoch=4.0)
        for worker, module in enumerate(together):
            module.gather = exchange(seen, worker)
            own_total, own_report = module(part(batch, worker, 2), step=step, epoch=4.0)
            assert torch.allclose(own_total, total, rtol=1e-5)
            assert float(own_report["loss/competition"]) == pytest.approx(float(report["loss/competition"]), rel=1e-5)
    for name, buffer in alone.named_buffers():
        assert torch.allclose(together[0].get_buffer(name), buffer, rtol=1e-4, atol=1e-6), name
        assert torch.equal(together[0].get_buffer(name), together[1].get_buffer(name)), name


def test_the_correlation_is_bounded_and_a_constant_has_none() -> None:
    a = torch.randn(30, requires_grad=True)
    assert float(squared_correlation(a, 3 - 2 * a).detach()) == pytest.approx(1.0, abs=1e-6)
    assert 0.0 <= float(squared_correlation(a, torch.randn(30)).detach()) <= 1.0
    flat = squared_correlation(a * 0 + 1.0, torch.randn(30))
    flat.backward()
    assert float(flat.detach()) == 0.0
    assert a.grad is not None
    assert not a.grad.any()


def test_the_opportunist_sees_what_the_sequences_are_made_of_on_both_strands() -> None:
    opportunist, batch = Opportunist(0, 8), episodes(length=200)
    composition = opportunist.composition(batch)
    assert composition.shape == (3, 6, 32)
    assert torch.allclose(composition[..., :16].mean(dim=-1), torch.zeros(3, 6), atol=1e-5)
    table = composition[..., :16].view(3, 6, 4, 4)
    assert torch.allclose(table, table.transpose(2, 3).flip(2, 3), atol=1e-6)
    assert not opportunist.composition(episodes(length=0)).any()


@pytest.mark.parametrize("trunk", ["none", "tiny"])
def test_competition_trains_with_finite_values_above_its_bound(trunk: str) -> None:
    module = training_module(
        {"balance": {"every": 1}, "start": 0.0}, tracks=3, competition={"on": True}, trunk={"size": trunk}
    )
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3)
    for step in range(6):
        total, report = module(episodes(signals=3, seed=step), step=step, epoch=5.0 + step)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        # Before there are prototypes the task does not reach the student, and nothing can be compared with it there.
        endless = {name for name, value in report.items() if not torch.isfinite(value)}
        assert endless == ({"gradient_ratio/competition"} if step == 0 else set())
        assert float(report["bound_violated/competition"]) == 0.0
    assert float(report["win_least/competition"]) != 0.5
    assert not [name for name, parameter in module.named_parameters() if parameter.grad is None]
    assert all(parameter.dim() > 0 for parameter in module.parameters())


def test_a_step_of_one_line_of_one_class_or_unknown_lines_stays_finite() -> None:
    for lines, label in (((1, 1), 1.0), ((-1, -1), 0.0), ((0, 2), math.nan)):
        module = rivals()
        run(module, 1)
        losing(module)
        batch = episodes(lines=lines)
        total, report = module(replace(batch, labels=torch.full_like(batch.labels, label)), step=1, epoch=3.0)
        total.backward()
        assert torch.isfinite(total)
        assert all(torch.isfinite(value) for name, value in report.items() if "gradient" not in name)


def test_the_student_learns_which_way_a_new_line_turns_the_energy() -> None:
    torch.manual_seed(0)
    own = {"local": False, "width": 8, "hidden": 16}
    sections: dict[str, Any] = {"trunk": {"size": "none"}, "environment": own, "energy": {"channels": 2}}
    m = EpisodeModel(settings(**sections, competition={"on": True}), 1, 2, lines=8)
    assert m.student is not None
    optimiser = torch.optim.Adam(m.parameters(), lr=2e-2)
    for step in range(60):
        m.student.set_epoch(step / 6)
        data = world(step)
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(logits(m, data), data["labels"]).backward()
        optimiser.step()
    m.eval()
    data = world(10_000)
    turned = {**data, "signals": -data["signals"]}
    with torch.no_grad():
        right, wrong = (roc_auc_score(data["labels"].flatten(), logits(m, x).flatten()) for x in (data, turned))
    assert right > 0.85
    assert wrong < 0.25


def test_what_is_deployed_carries_graph_and_prototypes_and_needs_no_line() -> None:
    module = rivals()
    run(module, 3)
    module.eval()
    torch.manual_seed(9)
    twin = EpisodeModel(module.model.settings, 0, 0, lines=3).eval()
    twin.load_state_dict(module.model.state_dict())
    batch = episodes(seed=11)
    unknown = replace(batch, line=torch.full_like(batch.line, -1))
    assert torch.equal(twin.logits(unknown), module.model.logits(batch))


def test_a_run_on_a_store_relates_its_lines_by_their_features(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "store", "line_features=3", "lines=5")
    module = build_module(store, tiny_fold(store), tiny_settings("model.competition.on=true"))
    assert module.model.student is not None
    weights = module.model.student.graph.weights
    assert not torch.equal(weights, 1.0 - torch.eye(3))
    assert torch.equal(weights, weights.T)


def test_every_line_idle_is_reported() -> None:
    term = Competition(CompetitionSettings(), PullSettings(start=2.0), PushSettings(start=2.0), 0, lines=3)
    step, scores = step_of(torch.ones(3, 2)), scores_of(torch.zeros(3, 2))
    step = replace(step, composition=torch.zeros(3, 2, 32))
    assert float(term(step, scores, 5.0).report["idle"]) == 1.0
    term.win[1] = 0.8
    assert float(term(step, scores, 5.0).report["idle"]) == 0.0


def test_impossible_settings_are_refused_with_the_reason() -> None:
    with pytest.raises(UserError, match=r"environment\.encoder"):
        validate(ModelSettings, {"competition": {"on": True}, "environment": {"encoder": "none"}}, where="test")
    with pytest.raises(UserError, match="training lines"):
        EpisodeModel(settings(competition={"on": True}), 3, 0)
    module = training_module(competition={"on": True, "relation": "features"})
    with pytest.raises(UserError, match="feature vectors"):
        module.set_lines(["a", "b", "c"], torch.zeros(3, 0))
