from __future__ import annotations

import pytest
import torch
from model_episodes import episodes, settings
from torch import Tensor

from model.curriculum import CurriculumSettings
from model.environment.id_teacher import IdTeacher, TeacherSettings
from model.objective import ObjectiveSettings, TrainingModule

TEACHER = TeacherSettings(on=True, share=0.5, epochs=10.0, novelty=0.3)


def module(**teacher: object) -> TrainingModule:
    torch.manual_seed(0)
    environment = {"id_teacher": {"on": True, "novelty": 0.0, **teacher}}
    objective = ObjectiveSettings(curriculum=CurriculumSettings(warm_epochs=0, ramp_epochs=0))
    return TrainingModule(settings(environment=environment), objective, 0, 0, lines=3)


def logits(trained: TrainingModule, epoch: float) -> Tensor:
    captured: list[Tensor] = []
    handle = trained.model.energy.register_forward_hook(lambda _, __, scores: captured.append(scores.logits))
    trained(episodes(), step=0, epoch=epoch)
    handle.remove()
    return captured[0]


def test_the_share_of_the_teacher_falls_from_a_half_to_nothing() -> None:
    assert [TEACHER.share_at(epoch) for epoch in (0.0, 5.0, 10.0, 50.0)] == [0.5, 0.25, 0.0, 0.0]


def test_without_novelty_no_draw_makes_a_line_unknown() -> None:
    # A uniform draw of [0, 1) can be 0.
    assert TeacherSettings(novelty=0.0).novel(torch.tensor([0.0, 0.5])).tolist() == [False, False]
    assert TeacherSettings(novelty=0.5).novel(torch.tensor([0.0, 0.49, 0.5])).tolist() == [True, True, False]


def test_simulated_novelty_hides_the_line_as_often_as_configured() -> None:
    teacher, line = IdTeacher(TEACHER, 3, 2), torch.arange(3).repeat(2000)
    _, share = teacher(line, 0.0, seed=1)
    assert set(share.flatten().tolist()) == {0.0, 0.5}
    assert float((share == 0).float().mean()) == pytest.approx(0.3, abs=0.02)
    assert torch.equal(share, teacher(line, 0.0, seed=1)[1])
    assert not torch.equal(share, teacher(line, 0.0, seed=2)[1])


def test_a_line_not_trained_on_has_no_teacher() -> None:
    _, share = IdTeacher(TeacherSettings(on=True, novelty=0.0), 3, 2)(torch.tensor([-1, 0]), 0.0, seed=0)
    assert share.flatten().tolist() == [0.0, 0.5]


def test_the_teacher_takes_part_in_training_and_learns_from_it() -> None:
    trained = module()
    total, _ = trained(episodes(), step=0, epoch=0.0)
    total.backward()
    assert trained.teacher is not None
    gradient = trained.teacher.vectors.grad
    assert gradient is not None
    assert (gradient != 0).any(dim=1).all()


def test_the_teacher_never_speaks_outside_training() -> None:
    trained, other = module().eval(), module().eval()
    for which in (trained, other):
        assert which.teacher is not None
    with torch.no_grad():
        other.teacher.vectors += 100.0
    assert torch.equal(logits(trained, 0.0), logits(other, 0.0))
    assert not torch.equal(logits(trained.train(), 0.0), logits(other.train(), 0.0))


def test_when_its_share_is_gone_the_teacher_is_silent_in_training_too() -> None:
    trained, other = module(), module()
    assert other.teacher is not None
    with torch.no_grad():
        other.teacher.vectors += 100.0
    assert torch.equal(logits(trained, 10.0), logits(other, 10.0))


def test_the_model_that_leaves_training_knows_no_line() -> None:
    assert not [name for name in module().model.state_dict() if "teacher" in name]
