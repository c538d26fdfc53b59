"""Claims about who wins a line: whose answers are compared, when, and what the win rate then weighs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from model_episodes import episodes
from model_steps import scores_of, step_of
from torch import Tensor

from model.curriculum import CurriculumSettings
from model.environment.student import CompetitionSettings, Student
from model.scores import StudentView
from model.terms.competition import Competition, PullSettings, PushSettings
from tests.model.terms.test_competition import rivals, run


def studied(whole: Tensor, strength: float = 1.0, **given: Tensor) -> StudentView:
    """A student that takes `whole` (E, n) off the energy; `given` choices and targets (E, C), else of one line."""
    one = torch.ones(len(whole), 1)
    named: dict[str, Tensor] = {"log_choice": 0 * one, "target": one, "response": whole, **given}
    return StudentView(whole=whole, strength=torch.tensor(strength), **named)


def counted(student: StudentView, logits: Tensor, epoch: float = 5.0) -> float:
    """Win rate of the one line after a step against an opportunist that always says one half."""
    term = Competition(
        CompetitionSettings(win_memory=0.0), PullSettings(start=2.0), PushSettings(start=2.0), 0, lines=1
    )
    for parameter in term.opportunist.parameters():
        torch.nn.init.zeros_(parameter)
    step = replace(step_of(torch.tensor([[1.0, 0.0]]), line=(0,)), composition=torch.zeros(1, 2, 32))
    scores = replace(scores_of(logits), neutral=torch.zeros(1, 2), student=student)
    term(step, scores, epoch)
    return float(term.win[0])


RIGHT, WRONG = torch.tensor([[-3.0, 3.0]]), torch.tensor([[3.0, -3.0]])
"""What takes nothing off a pair that interacts and much off one that does not, and its contrary."""


def test_a_win_is_the_student_s_own_whatever_the_model_says_with_its_teacher() -> None:
    # The model's logits come of teacher, context dropout and curriculum, and are on the other side here.
    assert counted(studied(RIGHT), logits=RIGHT) == 1.0
    assert counted(studied(WRONG), logits=WRONG) == 0.0


def test_nothing_is_counted_before_the_start_or_while_the_environment_is_held_back() -> None:
    assert counted(studied(RIGHT, strength=0.0), logits=WRONG) == 0.5
    assert counted(studied(RIGHT), logits=WRONG, epoch=CompetitionSettings().start - 0.1) == 0.5
    assert counted(studied(RIGHT, strength=0.01), logits=WRONG) == 1.0


def test_no_win_is_counted_in_the_epochs_of_u_alone_though_the_competition_has_begun() -> None:
    module = rivals(start=0.0)
    module.objective = module.objective.model_copy(
        update={"curriculum": CurriculumSettings(warm_epochs=2.0, ramp_epochs=1.0)}
    )
    run(module, 3, epoch=1.0)
    assert module.competition is not None
    assert module.competition.win.tolist() == [0.5] * 3
    run(module, 1, epoch=2.1)
    assert not (module.competition.win == 0.5).any()


@pytest.mark.parametrize(("scale", "share", "withheld"), [(1.0, 0.0, False), (0.1, 0.9, False), (0.1, 0.9, True)])
def test_the_student_s_answer_has_nothing_of_teacher_context_dropout_or_curriculum(
    scale: float, share: float, withheld: bool
) -> None:
    module = rivals(novelty=0.0)
    run(module, 2)
    model, batch = module.model, episodes(seed=7)
    assert model.student is not None
    model.environment_scale.fill_(scale)
    model.student.share.fill_(share)
    h, m = model.represent(batch), batch.support
    pooled = model.support(h[:, :m], batch.signals[:, :m], batch.line_features)[0]
    z = model.student.study(pooled, batch.line)[2]
    parts = (h, batch.distance, batch.signals, batch.line_features, m)
    scores = model.score_episodes(*parts, torch.full((3,), withheld), line=batch.line)
    assert scores.student is not None
    alone = model.energy.response(scores.channels, z, torch.ones(()))
    assert torch.allclose(scores.student.whole, alone, atol=1e-6)
    assert not scores.student.whole.requires_grad
    assert scores.student.response.requires_grad
    assert float(scores.student.strength) == pytest.approx(scale)


def test_pull_and_push_are_weighed_by_each_line_s_win_rate() -> None:
    term = Competition(CompetitionSettings(), PullSettings(start=2.0), PushSettings(start=2.0), 0, lines=2).eval()
    term.win.copy_(torch.tensor([0.1, 0.9]))
    response, labels = torch.randn(2, 5), torch.ones(2, 5)
    target = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    choice = torch.tensor([[0.5, 0.5], [0.75, 0.25]]).log()
    student = studied(response, target=target, log_choice=choice)
    step = replace(step_of(labels), composition=torch.rand(2, 5, 32))
    guess = term.opportunist(step.composition, step.distance, step.h).detach()
    report = term(step, replace(scores_of(torch.zeros(2, 5)), student=student), 5.0).report
    # KL = ln 2 and ln 4; pull weights .9 and .5, push weights .8 and 0.
    assert float(report["pull"]) == pytest.approx((0.9 * math.log(2) + 0.5 * math.log(4)) / 2)
    rho = float(torch.corrcoef(torch.stack([response.flatten(), guess.flatten()]))[0, 1])
    assert float(report["push"]) == pytest.approx(0.4 * rho**2, rel=1e-4)


def test_the_teacher_s_target_is_where_a_walk_from_the_line_itself_ends() -> None:
    student = Student(CompetitionSettings(relation="tree"), {"a": "x/p", "b": "x/q", "c": "y"}, 2, lines=3)
    student.graph.set_lines(["a", "b", "c"], torch.zeros(3, 0))
    student.observe(torch.arange(3), torch.randn(3, 2))
    _, target, _ = student.study(torch.randn(2, 2), torch.tensor([2, 0]))
    reach, _, _ = student.graph()
    assert not torch.allclose(reach, reach.T, atol=1e-3)
    assert torch.equal(target, reach[[2, 0]])
    assert torch.allclose(target.sum(dim=1), torch.ones(2), atol=1e-6)
