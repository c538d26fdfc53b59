from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from model_episodes import episodes, training_module
from model_steps import scores_of, step_of
from torch import Tensor

from data_pipeline.errors import UserError
from model.lines.line_relations import LineDistances, feature_distances, related, tree_distances
from model.lines.line_ring import LineMemory
from model.terms.contrast import ContrastSettings, HierarchicalContrast, contrast
from model.terms.prototypes import PrototypeLoss, PrototypeSettings
from model.terms.term import TermValue

PERFECT = math.log(1 + 24 / 7 * math.exp(-10))
"""Four lines of eight codes each, all codes of a line equal, lines orthogonal, tau = 0.1."""


def only(name: str, **own: Any) -> dict[str, Any]:
    """Objective settings with this term alone, active from the first step."""
    terms: dict[str, Any] = {"grl": {"on": False}, "corr": {"on": False}}
    return {"terms": terms | {name: {"on": True, "start": 0.0, **own}}, "balance": {"every": 1}}


def contrast_term(lines: int = 4, width: int = 4, **settings: Any) -> HierarchicalContrast:
    return HierarchicalContrast(ContrastSettings.model_validate(settings), width, {}, lines)


def value_of(term: HierarchicalContrast | PrototypeLoss, codes: Tensor, **of_step: Any) -> TermValue:
    """The term on codes (G, m, d), one line per episode unless `line` is given."""
    labels = torch.ones(len(codes), 1)
    return term(step_of(labels, support=codes.shape[1], **of_step), scores_of(labels, codes=codes), 5.0)


def test_T8_3_perfect_clusters_have_the_closed_value() -> None:
    codes = torch.eye(4, dtype=torch.double).unsqueeze(1).expand(4, 8, 4)
    loss = float(value_of(contrast_term(), codes).loss)
    assert loss == pytest.approx(PERFECT, rel=1e-6)
    assert loss == pytest.approx(1.5564e-4, abs=5e-9)


def test_T8_3_the_length_of_a_code_means_nothing() -> None:
    codes = torch.randn(3, 5, 4)
    lengths = torch.rand(3, 5, 1) + 0.5
    first, second = (float(value_of(contrast_term(), x).loss) for x in (codes, codes * lengths))
    assert first == pytest.approx(second, rel=1e-4)


def test_T8_3_it_is_the_log_of_the_record_s_ratio() -> None:
    codes, line = torch.randn(3, 4, 5, dtype=torch.double), torch.arange(3).repeat_interleave(4)
    e = torch.nn.functional.normalize(codes.flatten(0, 1), dim=-1)
    weights = torch.exp(e @ e.T / 0.1) * ~torch.eye(12, dtype=torch.bool)
    same = line.unsqueeze(1) == line
    expected = -((weights * same).sum(dim=1) / weights.sum(dim=1)).log().mean()
    assert float(value_of(contrast_term(width=5), codes).loss) == pytest.approx(float(expected), rel=1e-9)


def test_T8_3_two_lines_are_needed() -> None:
    one, two = value_of(contrast_term(), torch.randn(1, 4, 4)), value_of(contrast_term(), torch.randn(2, 4, 4))
    assert float(one.report["degenerate"]) == 1.0
    assert float(two.report["degenerate"]) == 0.0


def test_T8_5_a_step_of_one_line_is_exactly_zero_with_no_gradient_and_reported() -> None:
    module = training_module(only("hcont"), environment={"trunk_gradient": True})
    total, report = module(episodes(lines=(1, 1)), step=1, epoch=3.0)
    assert float(report["loss/hcont"]) == 0.0
    assert float(report["degenerate/hcont"]) == 1.0
    codes = torch.randn(2, 4, 4, requires_grad=True)
    value_of(contrast_term(), codes, line=(1, 1)).loss.backward()
    assert codes.grad is not None
    assert not codes.grad.any()
    total.backward()
    assert float(module(episodes(), step=2, epoch=3.0)[1]["degenerate/hcont"]) == 0.0


def test_at_the_level_of_lines_the_contrast_is_one_of_z_e_and_needs_two_episodes_of_a_line() -> None:
    codes = torch.randn(4, 6, 4)
    term = contrast_term(level="line")
    assert float(value_of(term, codes).report["degenerate"]) == 1.0
    pooled = codes.mean(dim=1, keepdim=True)
    found, expected = (value_of(own, x, line=(0, 0, 1, 1)) for own, x in ((term, codes), (contrast_term(), pooled)))
    assert float(found.report["degenerate"]) == 0.0
    assert float(found.loss) == pytest.approx(float(expected.loss), rel=1e-5)


def test_episodes_of_no_training_line_take_no_part() -> None:
    codes = torch.randn(4, 3, 4)
    known = value_of(contrast_term(), codes[:2], line=(0, 1)).loss
    more = value_of(contrast_term(), codes, line=(0, 1, -1, -1)).loss
    assert float(more) == pytest.approx(float(known), rel=1e-6)


def test_related_lines_are_milder_negatives() -> None:
    positive = torch.tensor([[True, False, False]])
    similarity = torch.tensor([[1.0, 0.5, 0.2]])
    plain, _ = contrast(similarity, positive, torch.tensor([[0.0, 1.0, 1.0]]))
    milder, _ = contrast(similarity, positive, torch.tensor([[0.0, 0.25, 1.0]]))
    expected = math.log(1 + (0.25 * math.exp(0.5) + math.exp(0.2)) / math.exp(1.0))
    assert float(milder) == pytest.approx(expected, rel=1e-6)
    assert float(milder) < float(plain)


def test_the_hierarchy_weighs_a_negative_by_the_distance_of_its_line() -> None:
    term = HierarchicalContrast(ContrastSettings(hierarchy="tree", reach=2.0), 4, {"a": "x", "b": "x", "c": "y/z"}, 3)
    assert term.distances is not None
    term.distances.set_lines(["a", "b", "c"], torch.zeros(3, 0))
    h = term._mildness(torch.tensor([0, 2]), torch.tensor([0, 1, 2]))
    assert h[0].tolist() == pytest.approx([0.0, 1 - math.exp(-2 / 2), 1 - math.exp(-5 / 2)])
    assert h[1, 0] == h[0, 2]


def test_tree_distances_count_edges_between_leaves() -> None:
    distance = tree_distances(["blood/lymphoid", "blood/lymphoid", "blood/myeloid", "epithelial"])
    assert distance[0].tolist() == [0.0, 2.0, 4.0, 5.0]
    assert torch.equal(distance, distance.T)


def test_feature_distances_have_median_one_whatever_the_unit_of_a_feature() -> None:
    features = torch.randn(6, 3)
    features[2, 1] = float("nan")
    distance = feature_distances(features)
    upper = torch.triu_indices(6, 6, offset=1)
    assert float(distance[upper[0], upper[1]].median()) == pytest.approx(1.0, abs=1e-6)
    assert torch.allclose(distance, feature_distances(features * torch.tensor([1.0, 100.0, 0.01]) + 3), atol=1e-5)
    assert not feature_distances(torch.ones(4, 2)).any()


def test_a_line_without_a_place_or_features_is_named() -> None:
    with pytest.raises(UserError, match=r"IMR90.*model\.tissues"):
        LineDistances("tree", {"HeLa": "epithelial"}, 2).set_lines(["HeLa", "IMR90"], torch.zeros(2, 0))
    with pytest.raises(UserError, match="feature vectors"):
        LineDistances("features", {}, 2).set_lines(["HeLa", "IMR90"], torch.zeros(2, 0))


def test_T8_4_collapsed_prototypes_cost_ln_c_and_raise_the_alarm() -> None:
    term = PrototypeLoss(PrototypeSettings(), 4, lines=6)
    same = torch.randn(4).expand(6, 3, 4)
    assert float(value_of(term, same).report["degenerate"]) == 1.0
    value = value_of(term, torch.randn(6, 3, 4))
    assert float(value.loss) == pytest.approx(math.log(6), abs=1e-5)
    assert float(value.loss) == pytest.approx(1.7918, abs=1e-4)
    assert float(value.report["collapsed"]) == 1.0


def test_T8_4_distinct_prototypes_raise_no_alarm() -> None:
    term = PrototypeLoss(PrototypeSettings(), 6, lines=6)
    codes = torch.eye(6).unsqueeze(1).expand(6, 3, 6) + 0.1 * torch.randn(6, 3, 6)
    for _ in range(2):
        value = value_of(term, codes)
    assert float(value.loss) < 0.5
    assert float(value.report["collapsed"]) == float(value.report["degenerate"]) == 0.0


def test_T8_4_prototypes_are_running_means_without_gradient() -> None:
    term = PrototypeLoss(PrototypeSettings(memory=0.9), 2, lines=3)
    first, second = torch.randn(2, 5, 2), torch.randn(2, 5, 2, requires_grad=True)
    value_of(term, first, line=(0, 2))
    means, seen = term.prototypes()
    assert torch.allclose(means[[0, 2]], first.mean(dim=1), atol=1e-6)
    assert seen.tolist() == [True, False, True]
    value_of(term, second, line=(0, 2)).loss.backward()
    assert not term.prototypes.mean.requires_grad
    assert second.grad is not None
    assert second.grad.any()
    term.eval()
    before = term.prototypes.mean.clone()
    value_of(term, first)
    assert torch.equal(term.prototypes.mean, before)


def test_left_to_itself_the_relation_is_the_first_that_the_lines_have() -> None:
    names, places = ["a", "b", "c"], {"a": "x", "b": "x", "c": "y"}
    some, none = torch.randn(3, 2), torch.zeros(3, 0)
    assert [
        related("auto", *rest)[0] for rest in ((places, names, some), (places, names, none), ({}, names, none))
    ] == [
        "features",
        "tree",
        "even",
    ]
    assert related("even", places, names, some)[1].tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]


@pytest.mark.parametrize("form", ["l2_floor", "l2_truncated"])
def test_T8_4_squared_distances_do_not_reward_collapse(form: str) -> None:
    settings = PrototypeSettings.model_validate({"form": form})
    spread, collapsed = (PrototypeLoss(settings, 4, lines=2) for _ in range(2))
    codes = 3 * torch.randn(2, 64, 4) + torch.tensor([20.0, -20.0]).view(2, 1, 1)
    losses = []
    for term, scale in ((spread, 1.0), (collapsed, 0.0)):
        for _ in range(2):
            value = value_of(term, scale * codes)
        losses.append(float(value.loss))
    if form == "l2_floor":
        assert losses[1] == pytest.approx(4 * (1 - 0.01), abs=1e-3)
    else:
        assert losses[1] == 0.0
        inside = codes.mean(dim=1, keepdim=True) + 0.1 * torch.randn(2, 64, 4)
        assert float(value_of(spread, inside).loss) < 0.1


def test_T8_6_the_ring_keeps_the_latest_codes_in_order() -> None:
    memory = LineMemory(lines=2, size=3, width=1, oldest=100)
    for start in (0, 2, 4):
        values = torch.tensor([float(start), float(start + 1)])
        memory.observe(torch.zeros(2, dtype=torch.int64), values.unsqueeze(1), values.long())
    assert memory.rows[0].tolist() == [3, 4, 5]
    assert memory.codes[0, :, 0].tolist() == [3.0, 4.0, 5.0]
    assert memory.head.tolist() == [0, 0]
    kept = memory.recall()
    assert kept.age[kept.valid].tolist() == [2, 1, 1]


def test_T8_6_more_codes_than_the_ring_holds_leave_the_last_ones() -> None:
    memory = LineMemory(lines=1, size=4, width=1, oldest=100)
    rows = torch.arange(11)
    memory.observe(torch.zeros(11, dtype=torch.int64), rows.unsqueeze(1).float(), rows)
    assert sorted(memory.rows[0].tolist()) == [7, 8, 9, 10]
    memory.observe(torch.zeros(1, dtype=torch.int64), torch.zeros(1, 1), torch.tensor([99]))
    assert sorted(memory.rows[0].tolist()) == [8, 9, 10, 99]


def test_T8_6_lines_hold_equal_counts_however_often_they_come() -> None:
    memory = LineMemory(lines=3, size=8, width=2, oldest=100)
    for step in range(12):
        line = torch.tensor([0, 0, 1, 2, -1] if step % 2 else [0, 0, 0, 2, 1])
        memory.observe(line, torch.randn(5, 2), torch.arange(5) + 5 * step)
    kept = memory.recall()
    assert torch.bincount(kept.line[kept.valid]).tolist() == [8, 8, 8]


def test_T8_6_old_codes_no_longer_count() -> None:
    memory = LineMemory(lines=1, size=10, width=1, oldest=2)
    for step in range(5):
        memory.observe(torch.zeros(1, dtype=torch.int64), torch.zeros(1, 1), torch.tensor([step]))
    kept = memory.recall()
    assert kept.rows[kept.valid].tolist() == [3, 4]


def test_T8_6_a_pair_is_no_positive_of_itself_as_remembered() -> None:
    term = contrast_term(lines=2, memory={"size": 8, "start": 0.0})
    old, new = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    value_of(term, old)
    repeated = float(value_of(term, new).loss)
    line, rows = torch.tensor([0, 0, 0, 1, 1, 1]), step_of(torch.ones(2, 1), support=3).rows[:, :3].flatten()
    e, f = (torch.nn.functional.normalize(x.flatten(0, 1), dim=-1) for x in (new, old))
    keys, key_line, key_rows = torch.cat([e, f]), line.repeat(2), rows.repeat(2)
    same = line.unsqueeze(1) == key_line
    positive = same & (rows.unsqueeze(1) != key_rows)
    expected = contrast(e @ keys.T / 0.1, positive, (~same).float())[0].mean()
    assert repeated == pytest.approx(float(expected), rel=1e-5)
    assert not (positive[:, :6].diagonal().any() | positive[:, 6:].diagonal().any())


def test_T8_6_no_gradient_reaches_the_memory() -> None:
    term = contrast_term(lines=2, memory={"size": 8, "start": 0.0})
    first, second = (torch.randn(2, 3, 4, requires_grad=True) for _ in range(2))
    value_of(term, first)
    value_of(term, second).loss.backward()
    assert first.grad is None
    assert second.grad is not None
    assert term.memory is not None
    assert not term.memory.codes.requires_grad


def test_T8_6_the_memory_counts_after_warm_up_only_and_lets_a_single_line_contrast() -> None:
    term = contrast_term(lines=2, memory={"size": 8, "start": 9.0})
    value_of(term, torch.randn(2, 3, 4))
    alone = torch.randn(1, 3, 4)
    assert float(value_of(term, alone).report["degenerate"]) == 1.0
    term.settings = ContrastSettings.model_validate({"memory": {"size": 8, "start": 5.0}})
    later = value_of(term, alone)
    assert float(later.report["degenerate"]) == 0.0
    assert float(later.loss) > 0.0
    assert float(later.report["memory_filled"]) > 0.0


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("hcont", {}),
        ("hcont", {"memory": {"size": 16, "start": 0.0}}),
        ("hcont", {"hierarchy": "tree"}),
        ("hcont", {"level": "line", "memory": {"size": 16, "start": 0.0}}),
        ("proto", {"level": "line"}),
        ("proto", {}),
        ("proto", {"form": "l2_floor"}),
        ("proto", {"form": "l2_truncated", "slack": 0.01}),
    ],
)
def test_it_trains_with_finite_values_a_gradient_of_its_own(name: str, own: dict[str, Any]) -> None:
    module = training_module(only(name, **own), tracks=3)
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3)
    for step in range(6):
        total, report = module(episodes(signals=3, seed=step), step=step, epoch=30.0)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        assert all(torch.isfinite(value) for value in report.values())
        assert not any(value for key, value in report.items() if key.startswith("bound_violated"))
    assert float(report[f"gradient_ratio/{name}"]) > 0.0


@pytest.mark.parametrize("name", ["hcont", "proto"])
def test_without_trunk_gradient_the_trunk_and_u_feel_nothing_of_it(name: str) -> None:
    module = training_module(only(name), tracks=3)
    values: list[TermValue] = []
    module.terms[name].register_forward_hook(lambda _, __, value: values.append(value))
    for step in range(2):
        module(episodes(signals=3, seed=step), step=step, epoch=30.0)
    assert module.model.trunk is not None
    firewalled = [module.model.trunk, module.model.invariant, module.model.energy.channels]
    protected = [parameter for part in firewalled for parameter in part.parameters()]
    assert not any(
        gradient is not None and gradient.any()
        for gradient in torch.autograd.grad(values[-1].loss, protected, allow_unused=True, retain_graph=True)
    )
    own = list(module.model.support.parameters())
    assert any(gradient.any() for gradient in torch.autograd.grad(values[-1].loss, own))


@pytest.mark.parametrize("name", ["hcont", "proto"])
def test_labels_are_never_looked_at(name: str) -> None:
    batch, reports = episodes(), []
    for labels in (batch.labels, torch.full_like(batch.labels, math.nan)):
        module = training_module(only(name))
        for step in range(2):
            _, report = module(replace(batch, labels=labels), step=step, epoch=3.0)
        reports.append(float(report[f"loss/{name}"]))
    assert reports[0] == reports[1]
