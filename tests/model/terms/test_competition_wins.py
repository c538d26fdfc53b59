"""Claims about student and opportunist in closed form: what each sees and answers, who wins a line, what it weighs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from model_episodes import episodes
from model_steps import scores_of, step_of
from packed_dna import pack_many
from torch import Tensor

from model.curriculum import CurriculumSettings
from model.environment.student import CompetitionSettings, Student
from model.scores import StudentView
from model.terms.competition import Competition, PullSettings, PushSettings
from model.terms.opportunist import Opportunist
from model.terms.term import TermValue
from tests.model.terms.test_competition import rivals, run


def judge(lines: int, pull: float = 0.5, push: float = 0.5, **own: float) -> Competition:
    """A competition over `lines`, whose pull and push count from the second epoch."""
    weights = PullSettings(weight=pull, start=2.0), PushSettings(weight=push, start=2.0)
    return Competition(CompetitionSettings.model_validate(own), *weights, 0, lines=lines)


def studied(whole: Tensor, strength: float = 1.0, **given: Tensor) -> StudentView:
    """A student that takes `whole` (E, n) off the energy; `given` choices and targets (E, C), else of one line."""
    one = torch.ones(len(whole), 1)
    named: dict[str, Tensor] = {"log_choice": 0 * one, "target": one, "response": whole, **given}
    return StudentView(whole=whole, strength=torch.tensor(strength), **named)


def counted(student: StudentView, logits: Tensor, epoch: float = 5.0) -> float:
    """Win rate of the one line after a step against an opportunist that always says one half."""
    term = judge(1, win_memory=0.0)
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
    assert counted(studied(RIGHT), logits=WRONG, epoch=1.9) == 0.5
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


def test_a_draw_is_no_win() -> None:
    term, same = (
        judge(1, win_memory=0.5),
        torch.tensor([[1.0, -1.0]]),
    )
    term.count(step_of(torch.tensor([[1.0, 0.0]])), same, same)
    assert term.win.tolist() == [0.25]


def test_pull_and_push_are_weighed_by_each_line_s_win_rate() -> None:
    term = judge(2).eval()
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


def test_only_a_line_that_has_a_prototype_is_taught_by_it() -> None:
    for own, other in ((0, 1), (1, 0)):
        student = Student(CompetitionSettings(), {}, 2, lines=2)
        student.observe(torch.tensor([own]), torch.ones(1, 2))
        _, target, _ = student.study(torch.randn(3, 2), torch.tensor([own, other, -1]))
        assert target.tolist() == [[1.0 - own, float(own)], [0.0, 0.0], [0.0, 0.0]]


def test_the_student_chooses_by_the_softmax_of_cosines_over_its_sharpness() -> None:
    student, pooled = Student(CompetitionSettings(sharpness=0.5), {}, 2, lines=3), torch.randn(4, 2)
    student.observe(torch.arange(3), torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, -4.0]]))
    log_choice, _, _ = student.study(pooled, torch.zeros(4, dtype=torch.int64))
    _, prototypes, _ = student.graph()
    cosine = F.cosine_similarity(student.address(pooled).unsqueeze(1), prototypes.unsqueeze(0), dim=2)
    assert torch.allclose(log_choice, (cosine / 0.5).log_softmax(dim=1), atol=1e-6)


def test_a_line_with_the_only_prototype_keeps_it_though_it_is_treated_as_unknown() -> None:
    student = Student(CompetitionSettings(novelty=1.0), {}, 2, lines=3)
    student.observe(torch.tensor([0]), torch.tensor([[1.0, 2.0]]))
    z = student(torch.randn(2, 2), torch.tensor([0, 1]))
    assert torch.allclose(z, torch.tensor([[1.0, 2.0]] * 2))


def test_the_opportunist_sees_half_aa_and_half_tt_in_an_element_of_a_alone() -> None:
    opportunist = Opportunist(0, 8)
    pure = replace(episodes(length=64), enhancer_packed=torch.from_numpy(pack_many(["A" * 64] * 12, 64)))
    # Relative to a sixteenth each, in the order of AA, AC, ..., TT.
    assert opportunist.composition(pure)[0, 0, :16].tolist() == pytest.approx([7.0, *[-1.0] * 14, 7.0])
    assert "table" not in opportunist.state_dict()


def test_an_answer_takes_the_response_off_what_the_energy_is_without_a_line() -> None:
    neutral, response = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, -0.5]])
    scores = replace(scores_of(neutral), bias=torch.tensor(0.3), temperature=torch.tensor(2.0))
    assert Competition.predicted(scores, response).flatten().tolist() == pytest.approx([0.4, 1.4])


def competing(
    labels: Tensor, line: tuple[int, ...], win: float, student: StudentView | None = None, epoch: float = 5.0
) -> tuple[TermValue, Tensor]:
    """The competition of two lines at win rates `win` over pairs of energy 2, and the opportunist's guesses."""
    torch.manual_seed(0)
    term = judge(2, pull=0.3, push=0.7).eval()
    term.win.copy_(torch.tensor([win, 0.5]))
    step = replace(step_of(labels, line=line), composition=torch.rand(*labels.shape, 32))
    scores = replace(scores_of(torch.full_like(labels, 2.0)), student=student)
    value: TermValue = term(step, scores, epoch)
    return value, term.opportunist(step.composition, step.distance, step.h).detach()


@pytest.mark.parametrize("labels", [[[1.0, math.nan], [math.nan, 0.0]], [[math.nan, math.nan], [1.0, math.nan]]])
def test_the_opportunist_s_own_loss_is_its_mean_cost_over_the_labelled_pairs(labels: list[list[float]]) -> None:
    given = torch.tensor(labels)
    value, guess = competing(given, (0, 1), win=0.2)
    known = ~given.isnan()
    cost = F.binary_cross_entropy_with_logits((2.0 - guess)[known], given[known])
    assert float(value.loss.detach()) == pytest.approx(float(cost))
    assert float(value.report["opportunist"]) == pytest.approx(float(cost))
    standing = {name: float(value.report[name]) for name in ("win", "win_least", "win_most")}
    assert standing == pytest.approx({"win": 0.35, "win_least": 0.2, "win_most": 0.5})


@pytest.mark.parametrize(("epoch", "acts"), [(1.9, False), (2.0, True)])
def test_the_loss_adds_pull_and_push_of_taught_and_training_lines_from_the_start_on(epoch: float, acts: bool) -> None:
    # The second episode is of no training line: it has no teacher, and no win rate that could weigh it.
    target, response = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.1, 0.7, -0.4], [0.9, -0.2, 0.3]])
    student = studied(response, target=target, log_choice=torch.full((2, 2), 0.5).log())
    value, guess = competing(torch.ones(2, 3), (0, -1), win=0.2, student=student, epoch=epoch)
    rho = float(torch.corrcoef(torch.stack([response.flatten(), guess.flatten()]))[0, 1])
    pull, push = (0.8 * math.log(2), 0.6 * rho**2) if acts else (0.0, 0.0)
    assert float(value.report["pull"]) == pytest.approx(pull)
    assert float(value.report["push"]) == pytest.approx(push, rel=1e-4)
    expected = float(value.report["opportunist"]) + 0.3 * pull + 0.7 * push
    assert float(value.loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert rho**2 > 1e-3
    assert "win" in value.report


def test_before_the_start_a_competition_that_has_nothing_to_say_yet_is_finite() -> None:
    nobody = studied(torch.zeros(2, 3), target=torch.zeros(2, 2), log_choice=torch.full((2, 2), 0.5).log())
    value, _ = competing(torch.ones(2, 3), (0, 1), win=0.5, student=nobody, epoch=0.0)
    assert torch.equal(value.loss.detach(), value.report["opportunist"])
