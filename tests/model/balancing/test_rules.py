"""Claims about the balancers as rules: closed forms, invariances, and what each refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from data_pipeline.errors import UserError
from data_pipeline.settings import validate
from model.balancing.balance import Balance, acting_fields
from model.balancing.gradient_rules import SLACK, alignment, equal_projections
from model.balancing.measuring import Gradients, measure
from model.balancing.registry import BALANCERS, BY_VALUE
from model.balancing.rule import Seen, Targets
from model.balancing.settings import BalanceSettings
from model.objective import ObjectiveSettings
from model.terms.registry import TermsSettings

RANK_ALONE: dict[str, object] = {"grl": {"on": False}, "corr": {"on": False}, "rank": {"on": True}}


def targets(*ratios: float, factors: tuple[float, ...] = ()) -> Targets:
    asked = torch.tensor(ratios)
    return Targets(weights=asked, ratios=asked, factors=torch.tensor(factors) if factors else torch.ones_like(asked))


def measured(gradients: Tensor) -> Seen:
    """What a step shows whose losses have the rows of `gradients` (K+1, d) as gradients on a single row."""
    h = torch.zeros(1, gradients.shape[1], requires_grad=True)
    return Seen(torch.ones(len(gradients)), 3.0, measure([(row * h).sum() for row in gradients], [h]))


def balance(mode: str, terms: int, **changes: float) -> Balance:
    return Balance(BalanceSettings.model_validate({"mode": mode, **changes}), terms)


def values(*losses: float, epoch: float = 3.0) -> Seen:
    return Seen(torch.tensor(losses), epoch, None)


def random_gradients(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 12, generator=torch.Generator().manual_seed(seed)) + 0.5


def test_T5_1_gradnorm_holds_each_gradient_at_its_ratio() -> None:
    rule = balance("gradnorm_ema", 3, beta=0.0)
    gradients = random_gradients(4) * torch.tensor([[2.0], [0.5], [40.0], [3.0]])
    for factor in (1.0, 1.7):
        weights = rule(measured(gradients * factor), targets(0.5, 1.0, 0.25))[1:]
        norms = gradients.norm(dim=1)
        assert torch.allclose(weights * norms[1:] / norms[0], torch.tensor([0.5, 1.0, 0.25]), rtol=1e-5)


def seen_norms(own: float, task: float) -> Seen:
    return measured(torch.tensor([[task, 0.0], [0.0, own]]))


@pytest.mark.parametrize("who", ["term", "task"])
@pytest.mark.parametrize("factor", [1000.0, 1e-3])
def test_T5_1_gradnorm_holds_its_ratio_while_norms_move_a_thousandfold_and_back(who: str, factor: float) -> None:
    rule, held = balance("gradnorm_ema", 1), []
    every = rule.settings.every
    for step in range(80 + 400):
        way = 1 - abs(1 - max(step - 80, 0) / 200)
        own, task = (factor**way, 1.0) if who == "term" else (1.0, factor**way)
        seen = seen_norms(own, task) if rule.measures(step) else values(1.0, 1.0)
        held.append(float(rule(seen, targets(0.5))[1]) * own / task / 0.5)
    assert all(1 / 1.5 < ratio < 1.5 for ratio in held[20 * every :])
    assert all(ratio * 1.0001 > 1 / SLACK and ratio < SLACK * 1.0001 for ratio in held[::every])


def test_T5_1_gradnorm_smooths_what_only_trembles() -> None:
    rule, noise = balance("gradnorm_ema", 1), torch.Generator().manual_seed(0)
    given = []
    for _ in range(200):
        own = float(torch.exp(0.1 * torch.randn(1, generator=noise)))
        given.append(math.log(float(rule(seen_norms(own, 1.0), targets(0.5))[1])))
    assert torch.tensor(given[100:]).std() < 0.05


def test_gradnorm_weighs_by_norms_that_keep_beta_of_what_they_were() -> None:
    rule = balance("gradnorm_ema", 1, beta=0.9)
    rule(seen_norms(0.5, 0.2), targets(0.5))
    task, own = 0.9 * 0.2 + 0.1 * 0.21, 0.9 * 0.5 + 0.1 * 0.55
    assert float(rule(seen_norms(0.55, 0.21), targets(0.5))[1]) == pytest.approx(0.5 * task / own)


@pytest.mark.parametrize(("own", "weight"), [(1e-6, 10.0), (1e6, 0.01)])
def test_gradnorm_stays_between_its_smallest_and_largest_weight(own: float, weight: float) -> None:
    rule = balance("gradnorm_ema", 1, smallest=0.01, largest=10.0)
    assert float(rule(seen_norms(own, 1.0), targets(0.5))[1]) == pytest.approx(weight)


def test_a_term_that_never_had_a_gradient_has_no_weight_rather_than_the_largest() -> None:
    assert balance("gradnorm_ema", 1)(seen_norms(0.0, 1.0), targets(0.5)).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("mode", ["gradnorm_ema", "imtl_g_rep", "aligned"])
def test_a_term_whose_gradient_is_zero_at_a_step_keeps_its_coefficient(mode: str) -> None:
    rule = balance(mode, 2)
    gradients = random_gradients(3)
    before = rule(measured(gradients), targets(0.5, 0.5))
    for _ in range(30):
        quiet = rule(measured(gradients * torch.tensor([[1.0], [0.0], [1.0]])), targets(0.5, 0.5))
    assert float(quiet[1]) == pytest.approx(float(before[1]), rel=1e-5)
    assert torch.allclose(rule(measured(gradients), targets(0.5, 0.5)), before, rtol=1e-5)


@pytest.mark.parametrize("mode", sorted(BALANCERS))
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_that_is_no_number_teaches_a_balancer_nothing(mode: str, bad: float) -> None:
    rule = balance(mode, 2)
    gradients = random_gradients(3)
    for step in range(3):
        rule(Seen(torch.tensor([0.7, 0.5, 0.6]), step / 2, measured(gradients).gradients), targets(0.5, 0.5))
    before = {name: buffer.clone() for name, buffer in rule.named_buffers()}
    poisoned = gradients * torch.tensor([[1.0], [bad], [1.0]])
    rule(Seen(torch.tensor([0.7, bad, 0.6]), 2.0, measured(poisoned).gradients), targets(0.5, 0.5))
    assert all(torch.equal(buffer, before[name]) for name, buffer in rule.named_buffers())
    after = rule(Seen(torch.tensor([0.7, 0.5, 0.6]), 2.0, measured(poisoned).gradients), targets(0.5, 0.5))
    assert after.isfinite().all()


@pytest.mark.parametrize("mode", sorted(BALANCERS))
def test_a_factor_multiplies_the_coefficient_whatever_the_rule(mode: str) -> None:
    seen = Seen(torch.tensor([0.7, 0.5, 0.6]), 0.0, measured(random_gradients(3)).gradients)
    whole, part = (balance(mode, 2)(seen, targets(0.5, 0.5, factors=(own, 1.0))) for own in (1.0, 0.2))
    assert float(part[1]) == pytest.approx(0.2 * float(whole[1]), rel=1e-5)
    assert float(part[2]) == pytest.approx(float(whole[2]), rel=1e-5)
    assert whole[1] != 0


@pytest.mark.parametrize("mode", sorted(BALANCERS))
def test_the_fields_said_to_act_under_a_mode_act_and_no_others(mode: str) -> None:
    terms: dict[str, object] = RANK_ALONE if mode in BY_VALUE else {"hsic": {"on": True}, "grl": {"on": False}}
    name = "rank" if mode in BY_VALUE else "hsic"
    seen = Seen(torch.tensor([0.7, 0.5]), 3.0, measured(random_gradients(2)).gradients)

    def coefficient(**changes: float) -> float:
        own = {"on": True, "start": 2.0, "weight": 0.4, "ramp": 0.1, "cap": 0.45, "ratio": 0.3, **changes}
        term = getattr(validate(TermsSettings, {**terms, name: own}, "settings"), name)
        asked = Targets(
            torch.tensor([term.weight_at(3.0)]), torch.tensor([term.ratio_at(3.0)]), torch.tensor([term.growth_at(3.0)])
        )
        return float(balance(mode, 1)(seen, asked)[1])

    other = {"weight": 0.2, "ramp": 0.02, "cap": 0.42, "ratio": 0.6}
    acting = {field for field, value in other.items() if coefficient(**{field: value}) != coefficient()}
    assert acting == acting_fields(mode)


@pytest.mark.parametrize(
    ("mode", "own", "says"),
    [
        ("gradnorm_ema", {"weight": 0.1}, [("weight has no effect", "set objective.terms.grl.ratio")]),
        ("gradnorm_ema", {"weight": 0.1, "ratio": 0.1}, []),
        ("gradnorm_ema", {}, []),
        ("gradnorm_ema", {"on": False, "weight": 0.1}, []),
        ("fixed_ramp", {"ratio": 0.1}, [("ratio has no effect", "set objective.terms.grl.weight")]),
        ("imtl_g_rep", {"weight": 1, "cap": 1}, [("weight and objective.terms.grl.cap has no", "it weighs by itself")]),
    ],
)
def test_a_strength_that_the_mode_does_not_read_is_named_with_the_one_to_set(
    mode: str, own: dict[str, float], says: list[tuple[str, str]]
) -> None:
    found = validate(ObjectiveSettings, {"balance": {"mode": mode}, "terms": {"grl": own}}, "settings").unread()
    for sentence, (idle, advice) in zip(found, says, strict=True):
        assert sentence.startswith(f"objective.terms.grl.{idle}")
        assert sentence.endswith(f"; {advice}")


def test_T5_2_imtl_g_gives_every_gradient_the_same_projection_on_the_sum() -> None:
    gradients = random_gradients(4).double()
    units = gradients / gradients.norm(dim=1, keepdim=True)
    projections = units @ (equal_projections(gradients @ gradients.T) @ gradients)
    assert torch.allclose(projections, torch.ones(4, dtype=torch.float64))


def test_T5_2_imtl_g_is_the_solution_of_the_paper_up_to_its_length() -> None:
    gradients = random_gradients(3, seed=2).double()
    units = gradients / gradients.norm(dim=1, keepdim=True)
    differences, unit_differences = gradients[:1] - gradients[1:], units[:1] - units[1:]
    rest = gradients[0] @ unit_differences.T @ torch.linalg.inv(differences @ unit_differences.T)
    paper = torch.cat([1 - rest.sum().unsqueeze(0), rest])
    ours = balance("imtl_g_rep", 2)(measured(gradients.float()), targets(0.5, 0.5)).double()
    assert torch.allclose(ours, paper / paper[0], rtol=1e-4)


def test_T5_3_two_orthogonal_gradients_are_weighted_by_the_inverse_of_their_length_not_as_by_min_norm() -> None:
    gradients = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    difference = gradients[1] - gradients[0]
    min_norm = float((difference @ gradients[1]) / difference.square().sum())
    assert min_norm == pytest.approx(0.8)
    for mode in ("imtl_g_rep", "aligned"):
        assert balance(mode, 1)(measured(gradients), targets(1.0)).tolist() == pytest.approx([1.0, 0.5])


def test_T5_4_aligned_gradients_have_all_singular_values_at_the_smallest() -> None:
    gradients = random_gradients(4).double()
    aligned = alignment(gradients @ gradients.T) @ gradients
    smallest = torch.linalg.svdvals(gradients)[-1]
    assert torch.allclose(torch.linalg.svdvals(aligned), smallest.expand(4))


def test_T5_4_dependent_gradients_are_aligned_in_the_space_they_span() -> None:
    gradients = random_gradients(2).double()
    gradients = torch.cat([gradients, gradients[:1] + gradients[1:]])
    singular = torch.linalg.svdvals(alignment(gradients @ gradients.T) @ gradients)
    assert torch.allclose(singular[:2], torch.linalg.svdvals(gradients)[1].expand(2))
    assert singular[2] < 1e-6


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_T5_4_what_counts_as_dependent_does_not_depend_on_the_length_of_all_gradients(scale: float) -> None:
    gradients = random_gradients(2).double()
    gram = (gradients := torch.cat([gradients, gradients.sum(dim=0, keepdim=True)])) @ gradients.T
    assert torch.allclose(alignment(scale * gram), alignment(gram))


@pytest.mark.parametrize("mode", sorted(BALANCERS))
def test_T5_5_the_task_alone_has_coefficient_one(mode: str) -> None:
    rule = balance(mode, 0)
    for step in range(5):
        seen = measured(random_gradients(1, seed=step))
        coefficients = rule(Seen(torch.rand(1) + 0.1, step / 2, seen.gradients), targets())
        assert coefficients.tolist() == pytest.approx([1.0])


@pytest.mark.parametrize("mode", ["gradnorm_ema", "imtl_g_rep"])
def test_T5_6_scaling_a_term_by_1000_leaves_the_update_unchanged(mode: str) -> None:
    gradients, updates = random_gradients(3), []
    for scale in (1.0, 1000.0):
        scaled = gradients * torch.tensor([[1.0], [scale], [1.0]])
        coefficients = balance(mode, 2, smallest=0.0)(measured(scaled), targets(0.5, 0.5))
        updates.append(coefficients @ scaled)
    assert torch.allclose(updates[0], updates[1], rtol=1e-4)


def test_pcgrad_takes_out_what_opposes_the_task_and_nothing_else() -> None:
    gradients = torch.tensor([[2.0, 0.0, 0.0], [-1.0, 1.0, 0.0], [1.0, 0.0, 3.0]])
    coefficients = balance("pcgrad_protect", 2)(measured(gradients), targets(0.5, 0.7))
    expected = gradients[0] + 0.5 * torch.tensor([0.0, 1.0, 0.0]) + 0.7 * gradients[2]
    assert torch.allclose(coefficients @ gradients, expected)


def test_after_pcgrad_no_term_raises_the_task_loss_to_first_order() -> None:
    for seed in range(20):
        gradients = torch.randn(5, 6, generator=torch.Generator().manual_seed(seed))
        coefficients = balance("pcgrad_protect", 4)(measured(gradients), targets(1.0, 1.0, 1.0, 1.0))
        assert (coefficients @ gradients - gradients[0]) @ gradients[0] > -1e-4


def test_pcgrad_protects_a_task_of_almost_no_gradient_up_to_the_largest_weight() -> None:
    seen = measured(torch.tensor([[1e-3, 0.0], [-1.0, 0.0]]))
    assert balance("pcgrad_protect", 1, largest=10.0)(seen, targets(1.0)).tolist() == [11.0, 1.0]


def test_imtl_g_stays_within_the_largest_weight_on_both_sides() -> None:
    # A gradient against both others is weighted negatively, and one of a thousandth's length a thousandfold.
    tiny = torch.tensor([[1.0, 0.0], [0.0, 1e-3], [-1e-3, -1e-3]])
    rule = balance("imtl_g_rep", 2, largest=100.0)
    assert rule(measured(tiny), targets(1.0, 1.0)).tolist() == [1.0, 100.0, -100.0]


def test_uw_follows_its_formula() -> None:
    rule, losses, s = balance("uw", 1, uw_rate=0.1), (0.6, 3.0), [-0.5, -0.5]
    for _ in range(3):
        coefficients = rule(values(*losses), targets(1.0))
        assert coefficients.tolist() == pytest.approx([1.0, math.exp(s[0] - s[1])])
        s = [own - 0.1 * (0.5 - loss / (2 * math.exp(own))) for own, loss in zip(s, losses, strict=True)]


def test_uw_settles_where_a_weight_is_the_inverse_of_its_loss() -> None:
    rule = balance("uw", 2, uw_rate=0.5)
    for _ in range(200):
        coefficients = rule(values(0.6, 0.2, 3.0), targets(1.0, 1.0))
    assert coefficients.tolist() == pytest.approx([1.0, 3.0, 0.2], rel=1e-3)


def test_uw_starts_even() -> None:
    assert balance("uw", 2)(values(0.6, 0.2, 3.0), targets(1.0, 0.5)).tolist() == [1.0, 1.0, 0.5]


def test_dwa_follows_the_mean_losses_of_the_last_two_epochs() -> None:
    rule = balance("dwa", 1)
    losses = {0: [(1.0, 4.0), (3.0, 4.0)], 1: [(1.0, 4.0)], 2: [(9.0, 9.0)]}
    for epoch, steps in losses.items():
        for step, pair in enumerate(steps):
            coefficients = rule(values(*pair, epoch=epoch + step / 2), targets(1.0))
            if epoch < 2:
                assert coefficients.tolist() == [1.0, 1.0]
    expected = 2 * torch.softmax(torch.tensor([0.5, 1.0]) / 2.0, dim=0)
    assert torch.allclose(coefficients, expected)


def test_dwa_knows_no_epoch_before_the_one_it_begins_in() -> None:
    rule = balance("dwa", 1)
    for epoch in (3.0, 4.0):
        assert rule(values(1.0, 4.0 + epoch, epoch=epoch), targets(1.0)).tolist() == [1.0, 1.0]


def test_relobralo_follows_its_formula() -> None:
    rule = balance("relobralo", 1, relobralo_memory=0.9, relobralo_recent=1.0, relobralo_temperature=0.5)
    first = rule(values(2.0, 1.0), targets(1.0))
    second = rule(values(1.0, 1.0), targets(1.0))
    assert torch.allclose(first, torch.ones(2))
    expected = 0.9 * first + 0.1 * 2 * torch.softmax(torch.tensor([0.5, 1.0]) / 0.5, dim=0)
    assert torch.allclose(second, expected)


def test_relobralo_looks_back_to_the_start_as_often_as_it_is_told() -> None:
    rule = balance("relobralo", 1, relobralo_memory=1 - 1e-7, relobralo_recent=0.75)
    rule(values(2.0, 1.0), targets(1.0))
    looks = [float(rule(values(1.0, 1.0), targets(1.0))[0]) for _ in range(400)]
    changes = sum(abs(after - before) > 1e-4 for before, after in zip([1.0, *looks], looks, strict=False))
    lookback = 2 / (1 + math.exp((1.0 - 0.5) / 0.1))
    assert min(looks) == pytest.approx(lookback, rel=1e-3)
    assert changes == 1  # once looked back, the losses stay as they are


@pytest.mark.parametrize("mode", sorted(BALANCERS))
def test_a_term_not_asked_for_gets_no_coefficient(mode: str) -> None:
    rule = balance(mode, 2)
    for step in range(3):
        seen = Seen(torch.tensor([0.7, 0.5, 0.6]), float(step), measured(random_gradients(3, seed=step)).gradients)
        coefficients = rule(seen, targets(0.0, 0.5))
        assert coefficients[1] == 0.0
    assert coefficients[2] != 0.0


@pytest.mark.parametrize("mode", sorted(BALANCERS))
def test_a_term_switched_off_after_it_acted_gets_no_coefficient(mode: str) -> None:
    rule, seen = balance(mode, 2), Seen(torch.ones(3), 0.0, measured(random_gradients(3)).gradients)
    assert rule(seen, targets(0.5, 0.5))[1] != 0.0
    assert rule(seen, targets(0.0, 0.5))[1] == 0.0


@pytest.mark.parametrize("mode", sorted(BALANCERS))
def test_a_term_not_asked_for_leaves_the_others_as_they_are_without_it(mode: str) -> None:
    beside, alone = balance(mode, 2), balance(mode, 1)
    for step in range(4):
        gradients, losses = random_gradients(3, seed=step), torch.tensor([0.7, 0.1 * 2**step, 0.6 + 0.1 * step])
        seen, rest = (
            Seen(losses[kept], float(step), measured(gradients[kept]).gradients) for kept in ([0, 1, 2], [0, 2])
        )
        assert torch.allclose(beside(seen, targets(0.0, 0.5))[[0, 2]], alone(rest, targets(0.5)))


@pytest.mark.parametrize("mode", sorted(set(BALANCERS) - set(BY_VALUE)))
def test_coefficients_hold_between_measurements(mode: str) -> None:
    rule = balance(mode, 2)
    first = rule(measured(random_gradients(3)), targets(0.5, 0.5))
    assert torch.equal(rule(values(9.0, 9.0, 9.0), targets(0.5, 0.5)), first)


@pytest.mark.parametrize("mode", ["gradnorm_ema", "imtl_g_rep", "aligned"])
def test_a_batch_without_any_task_gradient_leaves_the_coefficients_as_they_were(mode: str) -> None:
    rule = balance(mode, 1)
    before = rule(measured(torch.tensor([[1.0, 0.0], [0.5, 1.0]])), targets(1.0))
    assert torch.equal(rule(measured(torch.zeros(2, 2)), targets(1.0)), before)


def test_gradients_that_point_the_same_way_give_no_exploding_coefficient() -> None:
    parallel = torch.tensor([[1.0, 1.0], [1.0, 1.0], [2.0, 2.0 + 1e-7]])
    for mode in ("imtl_g_rep", "aligned"):
        assert balance(mode, 2, largest=100.0)(measured(parallel), targets(1.0, 1.0)).abs().max() <= 100.0


def test_a_term_that_touches_no_shared_place_gets_its_fixed_weight() -> None:
    zero = torch.zeros(1)
    found = Gradients(torch.eye(2).double(), own=zero, task=zero, touches=(False,))
    both = Targets(weights=torch.tensor([0.3]), ratios=torch.tensor([0.9]), factors=torch.ones(1))
    assert balance("gradnorm_ema", 1)(Seen(torch.ones(2), 3.0, found), both)[1] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"corr": {"on": False}}, "'grl': its loss is an adversary's"),
        ({"grl": {"on": False}}, "'corr': its loss can reach 0"),
        (RANK_ALONE | {"rank": {"on": True, "mode": "soap"}}, "'rank': its loss can be negative"),
    ],
)
@pytest.mark.parametrize("mode", BY_VALUE)
def test_balancers_by_value_refuse_terms_whose_value_means_something_else(
    mode: str, terms: dict[str, object], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        validate(ObjectiveSettings, {"balance": {"mode": mode}, "terms": terms}, "settings")
    validate(ObjectiveSettings, {"balance": {"mode": mode}, "terms": RANK_ALONE}, "settings")
