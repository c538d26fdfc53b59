from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from model_episodes import episodes, training_module
from torch import Tensor

from evaluation.metrics import average_precision
from model.lines.score_bank import KeyedMeans, ScoreBank
from model.objective import TrainingModule
from model.parameters import parameter_groups
from model.terms.ranking import (
    MODES,
    Pool,
    Ranking,
    RankingSettings,
    line_mean,
    pairs,
    pool,
    smooth_ap,
    soap,
    soap_means,
)

ONLY_RANK: dict[str, Any] = {"grl": {"on": False}, "corr": {"on": False}}


def ranked(count: int = 40, positives: int = 14, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (count,) in double, labels and line 0."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.randperm(count, generator=generator) < positives).double()
    logits = torch.randn(count, generator=generator, dtype=torch.double) + labels
    return logits, labels, torch.zeros(count, dtype=torch.int64)


def logistic(p: Pool) -> tuple[Tensor, Tensor]:
    return pairs(p, lambda difference: F.softplus(-difference))


def module(**rank: object) -> TrainingModule:
    return training_module({"terms": {**ONLY_RANK, "rank": {"on": True, "start": 0.0, "smallest_pool": 2, **rank}}})


def test_T2_1_soap_on_the_full_batch_has_the_gradient_of_the_surrogate_precision() -> None:
    logits, labels, line = ranked()
    logits.requires_grad_()
    p = pool(logits, labels, line)
    total, count = soap(p, soap_means(p, 1.0), 1.0)
    (found,) = torch.autograd.grad(line_mean(total, count, line, 1)[0], logits, retain_graph=True)
    g1, g2 = soap_means(p, 1.0)[labels > 0.5].unbind(dim=1)
    surrogate = -(g1 / g2).mean()
    (expected,) = torch.autograd.grad(surrogate, logits)
    assert torch.allclose(found, expected, atol=1e-15)
    assert found.abs().max() > 1e-3
    # What it returns is no precision: exactly 0 here, whatever the ranking.
    assert float(total.detach().abs().max()) < 1e-12
    assert float(surrogate.detach()) < -0.2


def test_T2_1_soap_means_start_at_the_first_value_and_then_move_by_the_rate() -> None:
    means = KeyedMeans(8, 2)
    first, second = torch.tensor([[2.0, 4.0]]), torch.tensor([[3.0, 8.0]])
    key, kept = torch.tensor([5]), torch.tensor([True])
    u, known = means(key, first, 0.1)
    assert torch.equal(u, first)
    assert not known.any()
    means.observe(key, u, kept)
    u, known = means(key, second, 0.1)
    assert torch.allclose(u, torch.tensor([[2.1, 4.4]]))
    assert known.all()


def test_T2_1_a_forgotten_pair_starts_afresh_and_no_slot_mixes_two_pairs() -> None:
    means = KeyedMeans(8, 1)
    means.observe(torch.tensor([3, 11, 4]), torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([True, True, False]))
    _, known = means(torch.tensor([3, 11, 4]), torch.zeros(3, 1), 0.5)
    assert known.tolist() == [False, True, False]
    assert float(means(torch.tensor([11]), torch.zeros(1, 1), 0.5)[0]) == 1.0


def test_T2_1_soap_never_falls_below_its_declared_bound() -> None:
    rate = 0.2
    term = Ranking(RankingSettings(mode="soap", rate=rate), 1)
    for seed in range(30):
        logits, labels, line = ranked(seed=seed)
        p = pool(10 * logits, labels, line)
        g = soap_means(p, 1.0)
        earlier = torch.rand(len(g), 2, dtype=torch.double).sort(dim=1).values * 1e-3
        total, count = soap(p, (1 - rate) * earlier + rate * g, 1.0)
        assert float(line_mean(total, count, line, 1)[0]) >= term.lower_bound


def test_T2_2_smooth_ap_with_sharp_steps_is_average_precision() -> None:
    for seed in range(5):
        logits, labels, line = ranked(seed=seed)
        loss, _ = line_mean(*smooth_ap(pool(logits, labels, line), 1e-6), line, 1)
        assert 1 - float(loss) == pytest.approx(average_precision(labels.numpy(), logits.numpy()), abs=1e-9)


def test_T2_2_smooth_ap_of_equal_scores_has_its_closed_form() -> None:
    _, labels, line = ranked(count=40, positives=13)
    loss, _ = line_mean(*smooth_ap(pool(torch.zeros(40), labels, line), 0.2), line, 1)
    assert 1 - float(loss) == pytest.approx((1 + 12 / 2) / (1 + 39 / 2), abs=1e-6)
    assert 1 - float(loss) == pytest.approx(0.341463, abs=1e-6)


def test_T2_2_standardised_steps_do_not_depend_on_the_size_of_the_logits_and_keep_their_gradients() -> None:
    own = RankingSettings(mode="smoothap", smallest_pool=2)
    losses, alive = [], []
    for size in (1.0, 100.0):
        logits, labels, line = ranked()
        scaled = (size * logits).requires_grad_()
        loss, _ = line_mean(*MODES["smoothap"](pool(scaled, labels, line), own, torch.zeros(0)), line, 1)
        (gradient,) = torch.autograd.grad(loss, scaled)
        losses.append(float(loss.detach()))
        alive.append(int((gradient.abs() * size > 1e-4).sum()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert min(alive) > 36


def test_T2_2_the_unit_of_a_step_is_a_constant_of_the_gradient() -> None:
    logits, labels, line = ranked()
    logits.requires_grad_()
    compared = pool(logits, labels, line)
    unit = (
        compared.difference.detach().square().mean(dim=1) - compared.difference.detach().mean(dim=1).square()
    ).sqrt()
    fixed = Pool(
        compared.difference / unit.unsqueeze(1), compared.positive, compared.candidate_positive, compared.valid
    )
    own = RankingSettings(mode="smoothap", smallest_pool=2)
    found, expected = (
        torch.autograd.grad(line_mean(*value, line, 1)[0], logits, retain_graph=True)[0]
        for value in (MODES["smoothap"](compared, own, torch.zeros(0)), smooth_ap(fixed, own.sharpness))
    )
    # Differentiated too, the unit would make the gradient orthogonal to the logits: their size could not grow.
    assert torch.allclose(found, expected, rtol=1e-6)
    assert abs(float(found @ logits.detach())) > 1e-3


def test_T2_2_smooth_ap_waits_for_a_pool_large_enough_to_be_unbiased() -> None:
    logits, labels, line = ranked()
    assert not smooth_ap(pool(logits, labels, line), 0.2, smallest=41)[1].any()
    assert int(smooth_ap(pool(logits, labels, line), 0.2, smallest=40)[1].sum()) == 14


def test_T2_3_ties_cost_ln_2_and_gradients_sum_to_zero() -> None:
    logits, labels, line = ranked()
    tied = torch.zeros_like(logits, requires_grad=True)
    loss, _ = line_mean(*logistic(pool(tied, labels, line)), line, 1)
    assert float(loss.detach()) == pytest.approx(math.log(2), abs=1e-12)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(line_mean(*logistic(pool(logits, labels, line)), line, 1)[0], logits)
    assert abs(float(gradient.sum())) < 1e-14
    assert gradient.abs().max() > 1e-3


def test_T2_3_the_loss_is_the_mean_over_all_pairs_of_the_line_with_its_bank() -> None:
    logits, labels, line = ranked(count=12, positives=5)
    stored, kinds = torch.randn(9, dtype=torch.double), torch.arange(9) % 2 == 0
    rows = [stored.expand(12, -1), kinds.expand(12, -1), torch.ones(12, 9, dtype=torch.bool)]
    loss, _ = line_mean(*logistic(pool(logits, labels, line, (rows[0], rows[1], rows[2]))), line, 1)
    positive, negative = logits[labels > 0.5], logits[labels < 0.5]
    blocks = [(positive, negative), (positive, stored[~kinds]), (stored[kinds], negative)]
    values = torch.cat([F.softplus(-(a.unsqueeze(1) - b)).flatten() for a, b in blocks])
    assert float(loss) == pytest.approx(float(values.mean()), abs=1e-12)


def test_T2_3_batches_of_one_size_average_to_the_full_data_value() -> None:
    logits, labels, line = ranked(count=12, positives=6)
    full = float(line_mean(*logistic(pool(logits, labels, line)), line, 1)[0])
    positive, negative = (labels > 0.5).nonzero().squeeze(1), (labels < 0.5).nonzero().squeeze(1)
    values = []
    for a in torch.combinations(positive, 3):
        for b in torch.combinations(negative, 3):
            some = torch.cat([a, b])
            values.append(float(line_mean(*logistic(pool(logits[some], labels[some], line[some])), line[some], 1)[0]))
    assert sum(values) / len(values) == pytest.approx(full, abs=1e-12)


@pytest.mark.parametrize("mode", sorted(MODES))
def test_T2_3_pairs_never_cross_lines(mode: str) -> None:
    own = RankingSettings(mode=mode, smallest_pool=2)
    logits, labels, _ = ranked()
    line = torch.arange(40) % 2

    def value(logits: Tensor) -> Tensor:
        p = pool(logits, labels, line)
        return line_mean(*MODES[mode](p, own, soap_means(p, 1.0) + 0.1), line, 2)[0]

    assert torch.allclose(value(logits), value(logits + 5.0 * line), atol=1e-9)
    first = line == 0
    (gradient,) = torch.autograd.grad(value(logits.requires_grad_()), logits)
    logits, labels, line = logits.detach()[first].requires_grad_(), labels[first], line[first]
    (alone,) = torch.autograd.grad(value(logits), logits)
    assert torch.allclose(gradient[first], alone / 2, atol=1e-12)


def test_T2_3_no_gradient_reaches_the_bank() -> None:
    logits, labels, line = ranked()
    stored = torch.randn(40, 7, dtype=torch.double, requires_grad=True)
    logits.requires_grad_()
    p = pool(logits, labels, line, (stored, stored.detach() > 0, torch.ones(40, 7, dtype=torch.bool)))
    line_mean(*logistic(p), line, 1)[0].backward()
    assert stored.grad is None
    assert logits.grad is not None
    bank = ScoreBank(1, 8, 20)
    bank.observe(line, logits, labels > 0.5, torch.ones(40, dtype=torch.bool))
    assert not bank.logits.requires_grad
    assert not any(part.requires_grad for part in bank(line))


def test_T2_3_the_bank_is_a_ring_per_line_that_forgets_by_age() -> None:
    bank = ScoreBank(lines=2, size=4, oldest=2)
    known = torch.ones(3, dtype=torch.bool)
    line = torch.tensor([0, 0, 1])
    for step in range(3):
        values = torch.tensor([10.0, 11.0, 12.0]) + 10 * step
        bank.observe(line, values, values > 20, known)
    logits, positive, valid = bank(torch.tensor([0, 1, -1]))
    assert logits[0].tolist() == [30.0, 31.0, 20.0, 21.0]
    assert positive[0].tolist() == [True, True, False, True]
    assert logits[1, :3].tolist() == [12.0, 22.0, 32.0]
    assert valid.tolist() == [[True] * 4, [False, True, True, False], [False] * 4]


def test_T2_3_of_more_logits_than_a_ring_holds_the_last_stay_and_unlabelled_ones_never_enter() -> None:
    bank = ScoreBank(lines=1, size=4, oldest=9)
    known = torch.tensor([True] * 6 + [False])
    bank.observe(torch.zeros(7, dtype=torch.int64), torch.arange(7.0), known, known)
    assert sorted(bank.logits[0].tolist()) == [2.0, 3.0, 4.0, 5.0]
    bank.observe(torch.full((7,), -1), torch.arange(7.0) + 50, known, known)
    assert sorted(bank.logits[0].tolist()) == [2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize(("positives", "expected"), [(16, 0.549), (8, 0.324)])
def test_T2_4_average_precision_of_32_random_scores_is_biased_upwards(positives: int, expected: float) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = (torch.arange(32) < positives).numpy()
    values = [average_precision(labels, torch.rand(32, generator=generator).numpy()) for _ in range(400)]
    assert sum(values) / len(values) == pytest.approx(expected, abs=0.012)


@pytest.mark.parametrize("mode", sorted(MODES))
def test_T2_4_no_monitor_of_a_step_is_an_average_precision(mode: str) -> None:
    _, report = module(mode=mode)(episodes(query=30), step=0, epoch=3.0)
    own = {name.split("/")[0] for name in report if name.endswith("/rank")}
    assert own <= {
        "loss",
        "weight",
        "bound_violated",
        "gradient_ratio",
        "gradient_cosine",
        "degenerate",
        "bank_fill",
        "revisited",
    }
    assert not [name for name in report if "precision" in name or name.startswith(("ap/", "aupr"))]


@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize("labels", ["one class", "unknown", "single positive"])
def test_steps_without_contrast_are_exactly_zero_and_reported(mode: str, labels: str) -> None:
    batch = episodes()
    values = torch.ones_like(batch.labels) if labels == "one class" else torch.full_like(batch.labels, float("nan"))
    if labels == "single positive":
        values[0, 0] = 1.0
    m = module(mode=mode)
    total, report = m(replace(batch, labels=values), step=0, epoch=3.0)
    total.backward()
    assert float(report["loss/rank"]) == 0.0
    assert float(report["degenerate/rank"]) == 1.0
    assert all(torch.isfinite(p.grad).all() for p in m.parameters() if p.grad is not None)


@pytest.mark.parametrize("mode", sorted(MODES))
def test_a_step_of_one_line_still_ranks(mode: str) -> None:
    _, report = module(mode=mode)(episodes(lines=(1, 1), query=20), step=0, epoch=3.0)
    assert float(report["degenerate/rank"]) == 0.0


@pytest.mark.parametrize("mode", sorted(MODES))
def test_each_mode_trains_with_a_gradient_at_the_shared_representation(mode: str) -> None:
    m = module(mode=mode)
    optimiser = torch.optim.AdamW(parameter_groups(m, 1e-3), lr=1e-3)
    for step in range(5):
        total, report = m(episodes(query=20, seed=step % 2), step=step, epoch=3.0)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        assert all(torch.isfinite(value) for value in report.values())
        assert float(report["bound_violated/rank"]) == 0.0
        assert step % 4 or float(report["gradient_ratio/rank"]) > 0.0
    assert float(report["bank_fill/rank"]) > 0.0
    assert mode != "soap" or float(report["revisited/rank"]) == 1.0


def test_evaluation_leaves_the_memories_alone() -> None:
    m = module(mode="soap")
    m(episodes(query=20), step=0, epoch=3.0)
    m.eval()
    before = {name: value.clone() for name, value in m.named_buffers()}
    with torch.no_grad():
        m(episodes(query=20, seed=1), step=1, epoch=3.0)
    assert all(torch.equal(value, before[name]) for name, value in m.named_buffers())


def test_the_memories_of_six_lines_stay_below_a_megabyte_and_are_saved() -> None:
    term = Ranking(RankingSettings(mode="soap"), lines=6)
    assert sum(value.numel() * value.element_size() for value in term.buffers()) < 1 << 20
    assert set(dict(term.named_buffers())) == set(term.state_dict())
