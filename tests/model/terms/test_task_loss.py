from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from model.terms.task_loss import TaskLoss, TaskSettings, cube_root_alpha, immax

NO_FEATURES = torch.zeros(1, 1, 1)


def task(**values: object) -> TaskLoss:
    return TaskLoss(TaskSettings.model_validate(values))


def batch(n: int = 60, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, n // 3, generator=generator) * scale
    return logits, (torch.rand(3, n // 3, generator=generator) < 0.4).float()


@pytest.mark.parametrize("values", [{"alpha_mode": "count"}, {"loss": "bce"}, {"alpha_mode": "fixed", "alpha": 0.5}])
def test_T1_1_balanced_immax_is_cross_entropy(values: dict[str, object]) -> None:
    logits, labels = batch()
    loss = task(**values)
    loss.set_class_counts(500, 500)
    expected = F.binary_cross_entropy_with_logits(logits, labels)
    assert torch.allclose(loss(logits, labels, NO_FEATURES), expected, atol=1e-7)


def test_T1_2_margins_follow_the_cube_roots_of_the_counts() -> None:
    alpha = float(cube_root_alpha(torch.tensor([20000.0, 1000.0], dtype=torch.double), torch.ones(2)))
    assert alpha == pytest.approx(0.269221, abs=1e-6)
    assert alpha / (1 - alpha) == pytest.approx(0.368403, abs=1e-6)
    loss = task()
    loss.set_class_counts(1000, 20000)
    assert float(loss.alpha) == pytest.approx(0.269221, abs=1e-6)


def test_T1_3_at_zero_logits_the_loss_is_ln_2_and_the_slope_one_over_two_rho_n() -> None:
    loss = task()
    loss.set_class_counts(1000, 20000)
    labels = torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.0]])
    logits = torch.zeros(1, 5, requires_grad=True)
    value = loss(logits, labels, NO_FEATURES)
    value.backward()
    assert value.item() == pytest.approx(math.log(2), abs=1e-6)
    rho = torch.where(labels > 0, 2 * 0.269221, 2 * (1 - 0.269221))
    assert logits.grad is not None
    assert torch.allclose(logits.grad, (1 - 2 * labels) / (2 * rho * 5), atol=1e-6)


@pytest.mark.parametrize("mode", ["count", "fixed", "radius", "prism"])
@pytest.mark.parametrize("reduction", ["instance", "class_mean"])
def test_T1_4_the_loss_is_never_negative_and_finite_in_bf16(mode: str, reduction: str) -> None:
    loss = task(alpha_mode=mode, reduction=reduction)
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        logits = (torch.rand(4, 16, generator=generator) * 100 - 50).bfloat16()
        labels = (torch.rand(4, 16, generator=generator) < 0.3).float()
        value = loss(logits, labels, torch.randn(4, 16, 8, generator=generator))
        assert torch.isfinite(value)
        assert value >= 0
    assert 0.01 <= float(loss.alpha) <= 0.99


@pytest.mark.parametrize("mode", ["count", "radius", "prism"])
@pytest.mark.parametrize("reduction", ["instance", "class_mean"])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_T1_5_a_batch_of_one_class_works(mode: str, reduction: str, label: float) -> None:
    logits, labels = batch()
    loss = task(alpha_mode=mode, reduction=reduction)
    value = loss(logits, torch.full_like(labels, label), torch.randn(3, 20, 4))
    expected = immax(logits, torch.full_like(labels, label), torch.tensor(0.5)).mean()
    assert torch.allclose(value, expected)
    assert torch.isfinite(loss.alpha)


def test_radii_are_running_means_that_keep_nine_tenths() -> None:
    loss, labels = task(alpha_mode="radius"), torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    z = torch.tensor([2.0, 2.0, 4.0, 4.0]).view(1, 4, 1)
    for radii in ([1.1, 1.3], [1.19, 1.57]):
        loss(torch.zeros(1, 4), labels, z)
        assert loss.radius.tolist() == pytest.approx(radii)


def test_unknown_labels_add_nothing_and_no_label_at_all_gives_zero() -> None:
    logits, labels = batch()
    hidden = labels.clone()
    hidden[:, 10:] = float("nan")
    loss = task()
    assert torch.allclose(loss(logits, hidden, NO_FEATURES), loss(logits[:, :10], labels[:, :10], NO_FEATURES))
    logits.requires_grad_()
    nothing = loss(logits, torch.full_like(labels, float("nan")), NO_FEATURES)
    nothing.backward()
    assert nothing.item() == 0.0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_class_mean_is_the_mean_of_the_two_class_means() -> None:
    logits, labels = batch()
    values = immax(logits, labels, torch.tensor(0.3))
    expected = (values[labels > 0].mean() + values[labels < 1].mean()) / 2
    assert torch.allclose(
        task(reduction="class_mean", alpha_mode="fixed", alpha=0.3)(logits, labels, NO_FEATURES), expected
    )
