from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from model_episodes import episodes, settings, training_module
from torch import Tensor

from model.episode_model import EpisodeModel
from model.erasure import Eraser, erasing_projection
from model.objective import TrainingModule
from model.parameters import parameter_groups


def rows(lines: int = 4, width: int = 12, each: int = 50) -> tuple[Tensor, Tensor]:
    """Correlated codes (N, width) in double, with means that differ by line, and the line (N,)."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(width, width, generator=generator, dtype=torch.double)
    line = torch.arange(lines).repeat_interleave(each)
    means = 3 * torch.randn(lines, width, generator=generator, dtype=torch.double)
    return torch.randn(len(line), width, generator=generator, dtype=torch.double) @ mix + means[line] + 7, line


def moments(x: Tensor, line: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    member = torch.nn.functional.one_hot(line).double()
    means = member.T @ x / member.sum(dim=0).unsqueeze(1)
    apart = x - means[line]
    return means, torch.full((len(means),), 1 / len(means), dtype=torch.double), apart.T @ apart / len(x)


def module(**changes: object) -> TrainingModule:
    return training_module({"terms": {"grl": {"on": False}, "corr": {"on": False}}}, erasure="leace", **changes)


def test_T3_8_the_lines_means_coincide_after_erasure() -> None:
    x, line = rows()
    projection, centre = erasing_projection(*moments(x, line))
    erased = x - (x - centre) @ projection.T
    means, _, _ = moments(erased, line)
    assert (means - means.mean(dim=0)).abs().max() < 1e-10
    assert (moments(x, line)[0].std(dim=0) > 0.5).all()


def test_T3_8_no_linear_probe_beats_the_majority_afterwards() -> None:
    x, line = rows()
    projection, centre = erasing_projection(*moments(x, line))
    target = torch.nn.functional.one_hot(line).double()
    fitted = []
    for codes in (x, x - (x - centre) @ projection.T):
        inputs = torch.cat([codes, torch.ones(len(codes), 1, dtype=torch.double)], dim=1)
        answer = inputs @ torch.linalg.pinv(inputs, rtol=1e-9) @ target
        fitted.append(float((answer - target.mean(dim=0)).abs().max()))
    assert fitted[0] > 0.5
    assert fitted[1] < 1e-8


@pytest.mark.parametrize("lines", [2, 4, 6])
def test_T3_8_at_most_c_minus_1_dimensions_go_and_the_rest_stays(lines: int) -> None:
    x, line = rows(lines=lines)
    projection, _ = erasing_projection(*moments(x, line))
    assert torch.linalg.matrix_rank(projection, rtol=1e-8) == lines - 1
    assert torch.allclose(projection @ projection, projection, atol=1e-8)
    assert float(projection.trace()) == pytest.approx(lines - 1, abs=1e-8)


def test_T3_8_it_moves_the_code_less_than_cutting_the_means_out_does() -> None:
    x, line = rows()
    means, weight, within = moments(x, line)
    projection, centre = erasing_projection(means, weight, within)
    basis, _, _ = torch.linalg.svd((means - centre).T, full_matrices=False)
    cut = basis[:, :3] @ basis[:, :3].T
    moved, moved_by_cut = (((x - centre) @ p.T).square().mean() for p in (projection, cut))
    assert float(moved) < 0.95 * float(moved_by_cut)


def test_T3_8_equal_means_leave_the_code_alone() -> None:
    x, line = rows()
    _, weight, within = moments(x, line)
    projection, _ = erasing_projection(x.mean(dim=0).expand(4, -1), weight, within)
    assert float(projection.abs().max()) < 1e-9


def test_T3_8_inference_needs_no_line() -> None:
    m = module()
    m(episodes(), step=0, epoch=3.0)
    m.eval()
    batch = episodes(seed=1)
    unknown = replace(batch, line=torch.full_like(batch.line, -1))
    assert torch.equal(m.model.logits(batch), m.model.logits(unknown))
    plain = EpisodeModel(settings(erasure="off"), 0, 0, 3).eval()
    plain.load_state_dict(m.model.state_dict(), strict=False)
    assert not torch.equal(m.model.logits(batch), plain.logits(batch))


def test_T3_8_the_model_s_own_codes_lose_the_line() -> None:
    m, batch = module(energy={"invariant_width": 8}), episodes(lines=(0, 1, 2), query=40)
    for step in range(3):
        m(batch, step=step, epoch=3.0)
    _, report = m(batch, step=3, epoch=3.0)
    assert float(report["erasure/line_share_before"]) > -0.01
    # With nothing left between the lines: 1 - (N - 1) / (N - C) of the 120 pairs of three lines.
    assert float(report["erasure/line_share"]) == pytest.approx(1 - 119 / 117, abs=1e-4)
    assert float(report["erasure/dimensions"]) == pytest.approx(2.0, abs=1e-4)


def test_off_is_bit_equal_to_a_model_without_and_on_is_too_until_two_lines_were_seen() -> None:
    batch = episodes()
    off, on = (training_module(erasure=choice) for choice in ("off", "leace"))
    assert set(on.state_dict()) - set(off.state_dict()) == {
        f"model.erasure.{name}" for name in ("means", "counts", "within", "steps", "projection", "centre")
    }
    assert set(off.state_dict()) == set(training_module().state_dict())
    expected = off(batch, step=0, epoch=3.0)[0]
    assert torch.equal(on(batch, step=0, epoch=3.0)[0], expected)
    single = training_module(erasure="leace")
    single(episodes(lines=(1, 1)), step=0, epoch=3.0)
    assert not single.get_buffer("model.erasure.projection").any()


def test_what_a_step_teaches_takes_effect_after_it_and_never_in_evaluation() -> None:
    m, batch = module(), episodes()
    m(batch, step=0, epoch=3.0)
    first = m.get_buffer("model.erasure.projection").clone()
    m.eval()
    m(episodes(seed=3), step=1, epoch=3.0)
    assert torch.equal(m.get_buffer("model.erasure.projection"), first)
    m.train()
    m(episodes(seed=3), step=1, epoch=3.0)
    assert not torch.equal(m.get_buffer("model.erasure.projection"), first)


def test_running_statistics_of_a_repeated_step_are_that_step_s() -> None:
    x, line = rows(lines=3, width=5, each=20)
    eraser = Eraser(5, 3, 0.9)
    for _ in range(50):
        eraser.observe(x.float().view(3, 20, 5), torch.tensor([0, 1, 2]))
    means, _, within = moments(x, line)
    assert torch.allclose(eraser.means.double(), means, atol=1e-4)
    assert torch.allclose(eraser.within.double(), within * 60 / 57, rtol=1e-4, atol=1e-4)


def test_lines_not_trained_on_and_lines_not_present_teach_nothing() -> None:
    eraser = Eraser(5, 3, 0.9)
    codes = torch.randn(3, 20, 5)
    eraser.observe(codes, torch.tensor([0, -1, 2]))
    assert eraser.counts.tolist() == [1.0, 0.0, 1.0]
    assert not eraser.means[1].any()
    before = eraser.projection.clone()
    eraser.observe(codes, torch.tensor([-1, -1, -1]))
    assert eraser.counts.tolist() == [1.0, 0.0, 1.0]
    assert torch.allclose(eraser.projection, before)


def test_it_trains_with_finite_values_and_erased_directions_get_no_gradient() -> None:
    m = module(environment={"trunk_gradient": True})
    optimiser = torch.optim.AdamW(parameter_groups(m, 1e-3), lr=1e-3)
    for step in range(6):
        total, report = m(episodes(query=20, seed=step % 2), step=step, epoch=3.0)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        assert all(torch.isfinite(p.grad).all() for p in m.parameters() if p.grad is not None)
        assert torch.isfinite(report["loss/total"])
    assert m.model.erasure is not None
    code = torch.randn(7, 64, requires_grad=True)
    m.model.erasure(code).square().sum().backward()
    assert code.grad is not None
    assert (code.grad @ m.model.erasure.projection).abs().max() < 1e-3 * code.grad.abs().max()


def test_the_state_is_small() -> None:
    assert sum(b.numel() * b.element_size() for b in Eraser(64, 6, 0.99).buffers()) < 1 << 16
