from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from model_episodes import episodes, settings
from torch import Tensor, nn

from data_pipeline.episodes.batch import EpisodeBatch
from data_pipeline.errors import UserError
from data_pipeline.settings import validate
from evaluation.geometry import hull_test
from model.curriculum import CurriculumSettings
from model.environment.settings import EnvironmentSettings
from model.environment.support import ENCODERS, label_channels
from model.episode_model import EpisodeModel, ModelSettings
from model.objective import ObjectiveSettings, TrainingModule
from model.scores import Scores

TRACKS, FEATURES = 3, 2
POOLED = ["mean", "attention", "isab", "prototypes"]
ENVIRONMENTS: dict[str, dict[str, object]] = {
    "none": {"encoder": "none"},
    "features": {"encoder": "features"},
    **{encoder: {"encoder": encoder} for encoder in POOLED},
    **{f"{encoder} fused": {"encoder": encoder, "fusion": "gp"} for encoder in POOLED},
    "query attention": {"query_attention": True},
    "query attention fused": {"query_attention": True, "fusion": "gp", "encoder": "isab"},
    "labelled": {"labelled_support": True},
    "line features": {"line_features": True},
}
INFORMED = [name for name in ENVIRONMENTS if name not in ("none", "features")]


def model(name: str, **changes: object) -> EpisodeModel:
    torch.manual_seed(0)
    own = {"dropout": 0.0, **ENVIRONMENTS[name], **changes}
    return EpisodeModel(settings(environment=own), TRACKS, FEATURES, lines=3)


def taught(name: str, steps: int = 3, **changes: object) -> EpisodeModel:
    """In evaluation mode, after its running states have seen a few steps."""
    m = model(name, **changes).train()
    with torch.no_grad():
        for seed in range(steps):
            m(batch_of(seed))
    return m.eval()


def batch_of(seed: int = 9, support: int = 4) -> EpisodeBatch:
    batch = episodes(signals=TRACKS, features=FEATURES, seed=seed, support=support)
    # A line has one feature vector, whatever the step.
    lines = torch.tensor([[0.0, 0.0], [1.0, 0.5], [-1.0, 2.0]])
    labels = (torch.rand(3, support, generator=torch.Generator().manual_seed(seed)) < 0.5).float()
    return replace(batch, line_features=lines, support_labels=labels)


def scored(m: EpisodeModel, order: Tensor | None = None, times: int = 1) -> Scores:
    """Scores of one batch whose support set is reordered or given several times."""
    batch = batch_of()
    with torch.no_grad():
        h = m.represent(batch)
    order = torch.arange(4) if order is None else order
    index = torch.cat([order.repeat(times), torch.arange(4, h.shape[1])])
    labels = batch.support_labels[:, order.repeat(times)]
    return m.score_episodes(
        h[:, index], batch.distance[:, index], batch.signals[:, index], batch.line_features, 4 * times,
        support_labels=labels,
    )  # fmt: skip


def test_every_encoder_there_is_can_be_configured_and_is_tested() -> None:
    choices = get_args(EnvironmentSettings.model_fields["encoder"].annotation)
    assert set(choices) == set(ENCODERS) | {"none"}
    assert {own.get("encoder", "mean") for own in ENVIRONMENTS.values()} == set(choices)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_T6_1_the_order_of_the_support_set_changes_no_score(name: str) -> None:
    m = taught(name)
    with torch.no_grad():
        straight, shuffled = scored(m), scored(m, torch.tensor([2, 0, 3, 1]))
    assert torch.allclose(straight.environment, shuffled.environment, atol=1e-6)
    assert torch.allclose(straight.logits, shuffled.logits, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in ENVIRONMENTS if "fused" not in name])
def test_T6_2_a_support_set_given_twice_changes_no_score(name: str) -> None:
    m = taught(name)
    with torch.no_grad():
        once, twice = scored(m), scored(m, times=2)
    assert torch.allclose(once.environment, twice.environment, atol=1e-6)
    assert torch.allclose(once.logits, twice.logits, atol=1e-5)


def test_T6_2_a_fused_support_set_counts_its_pairs() -> None:
    m = taught("mean fused")
    with torch.no_grad():
        batch = batch_of()
        h = m.represent(batch)[:, :4]
        alone, _ = m.infer_environment(h[:, :0], batch.signals[:, :0], batch.line_features)
        pieces = [m.infer_environment(h.repeat(1, k, 1), batch.signals[:, :4].repeat(1, k, 1), batch.line_features)
                  for k in (1, 2, 1000)]  # fmt: skip
    pooled = pieces[0][1].mean(dim=1)
    gaps = [(z - pooled).norm().item() for z, _ in pieces]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.2 * (alone - pooled).norm().item()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_T6_3_support_of_one_episode_never_reaches_another(name: str, training: bool) -> None:
    m = taught(name, trunk_gradient=True).train(training)
    batch = batch_of()
    with torch.no_grad():
        h = m.represent(batch)
    inputs = [h.requires_grad_(), batch.signals.requires_grad_()]
    logits = m.score_episodes(
        h, batch.distance, batch.signals, batch.line_features, 4, torch.tensor([False, True, False]),
        support_labels=batch.support_labels, line=batch.line,
    ).logits  # fmt: skip
    for gradient in torch.autograd.grad(logits[0].sum(), inputs):
        assert not gradient[1:].any()
        assert gradient[0, :4].any() == (name in INFORMED)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_T6_4_a_support_set_means_the_same_in_training_and_in_inference(name: str) -> None:
    m, batch = taught(name), batch_of()
    with torch.no_grad():
        expected = m.logits(batch)
        assert torch.allclose(m.train()(batch).logits, expected, atol=1e-6)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_T6_6_no_environment_normalises_across_samples(name: str) -> None:
    assert not [module for module in model(name).modules() if "BatchNorm" in type(module).__name__]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_gives_every_parameter_a_gradient(name: str) -> None:
    module = training(name)
    total, report = module(batch_of(), step=0, epoch=20.0)
    total.backward()
    assert not [key for key, p in module.named_parameters() if p.grad is None]
    assert all(torch.isfinite(value) for key, value in report.items() if not key.startswith("gradient_"))


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_owns_parameters_speaks_in_tensors_and_owns_no_scalar(name: str) -> None:
    module = training(name, id_teacher={"on": name != "none"})
    owners = [own for own in module.modules() if list(own.parameters(recurse=False))]
    said: list[object] = []
    for own in owners:
        own.register_forward_hook(lambda _, __, out: said.extend(out if isinstance(out, tuple) else (out,)))
    module(batch_of(), step=0, epoch=3.0)
    assert said
    assert all(isinstance(value, Tensor) for value in said)
    assert all(p.dim() > 0 for p in module.parameters())


@pytest.mark.parametrize("name", INFORMED)
def test_without_support_a_line_gets_the_prior(name: str) -> None:
    m, batch = taught(name), batch_of()
    with torch.no_grad():
        h = m.represent(batch)
        scores = m.score_episodes(h, batch.distance, batch.signals, batch.line_features, 0)
        prior = m.support.uninformed(m.standardise_line(batch.line_features))
        expected = m.score(h, batch.distance, batch.signals, prior)
    assert prior.any()
    assert torch.equal(scores.logits, expected.logits)


@pytest.mark.parametrize("name", INFORMED)
def test_a_withheld_support_set_leaves_no_trace_in_the_scores(name: str) -> None:
    m, batch = taught(name), batch_of()
    with torch.no_grad():
        h = m.represent(batch)
        other = torch.cat([h[:, :4] + 1.0, h[:, 4:]], dim=1)
        first, second = (
            m.score_episodes(x, batch.distance, batch.signals, batch.line_features, 4, torch.ones(3).bool())
            for x in (h, other)
        )
    assert torch.equal(first.logits, second.logits)


def test_attention_with_nothing_to_choose_by_is_the_mean() -> None:
    m = model("attention").eval()
    with torch.no_grad():
        m.support.pool.seed.zero_()
    codes = torch.randn(2, 5, 16)
    assert torch.allclose(m.support.pool(codes), codes.mean(dim=1), atol=1e-6)


def test_T10_2_a_mixture_of_prototypes_stays_in_their_hull() -> None:
    pool = model("prototypes", width=4).support.pool
    with torch.no_grad():
        mixed = pool(100 * torch.randn(20, 6, 4)).double().numpy()
    assert hull_test(pool.prototypes.detach().double().numpy(), mixed, components=4).inside.all()


def test_query_attention_gives_every_pair_an_environment_of_its_own() -> None:
    torch.manual_seed(0)
    own = {"query_attention": True, "local": False}
    m = EpisodeModel(settings(environment=own, energy={"channels": 1}), 0, 0).eval()
    batch = episodes(query=30)
    # Features of a fresh trunk are nearly equal for all random sequences; these are as different as trained ones.
    h = torch.randn(3, 34, m.represent(batch).shape[-1])
    with torch.no_grad():
        m.energy.resistance.local.weight *= 10
        scores = m.score_episodes(h, batch.distance, batch.signals, batch.line_features, 4)
    assert scores.gates.shape == (3, 30, 1)
    assert not torch.equal(scores.logits.argsort(dim=1), scores.neutral.argsort(dim=1))


def test_the_labelled_protocol_reads_labels_and_the_default_never_does() -> None:
    batch = batch_of()
    flipped = replace(batch, support_labels=1 - batch.support_labels)
    absent = replace(batch, support_labels=None)
    labelled, default = taught("labelled"), taught("mean")
    with torch.no_grad():
        assert not torch.equal(labelled.logits(batch), labelled.logits(flipped))
        for other in (flipped, absent):
            assert torch.equal(default.logits(batch), default.logits(other))


def test_an_unknown_label_is_neither_class() -> None:
    assert label_channels(torch.tensor([1.0, 0.0, float("nan")])).tolist() == [[1, 0], [0, 1], [0, 0]]
    labelled, batch = taught("labelled"), batch_of()
    unknown = replace(batch, support_labels=torch.full_like(batch.support_labels, float("nan")))
    with torch.no_grad():
        assert torch.equal(labelled.logits(unknown), labelled.logits(replace(batch, support_labels=None)))


def test_support_labels_travel_with_their_episode_through_the_global_step() -> None:
    module, batch = training("labelled"), batch_of()
    captured: list[Tensor] = []
    module.model.energy.register_forward_hook(lambda _, __, scores: captured.append(scores.logits))
    module.eval()
    module(batch, step=0, epoch=20.0)
    order = batch.rows.sum(dim=1).argsort(stable=True)
    assert torch.allclose(captured[0], module.model.logits(batch)[order], atol=1e-6)


def training(name: str, **changes: object) -> TrainingModule:
    torch.manual_seed(0)
    own = {"dropout": 0.0, **ENVIRONMENTS[name], **changes}
    objective = ObjectiveSettings(curriculum=CurriculumSettings(warm_epochs=0, ramp_epochs=0))
    return TrainingModule(settings(environment=own), objective, TRACKS, FEATURES, lines=3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"encoder": "isab", "width": 6}, "not a multiple of its 4 heads"),
        ({"encoder": "none", "query_attention": True}, "query_attention=true needs codes"),
        ({"encoder": "features", "fusion": "gp"}, "fusion=gp needs codes"),
        ({"encoder": "none", "id_teacher": {"on": True}}, "needs an environment to teach"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_the_reason(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        validate(ModelSettings, {"environment": changes}, where="test")


@pytest.mark.parametrize("changes", [{"encoder": "features"}, {"fusion": "gp"}])
def test_a_store_without_line_features_is_refused_where_they_are_needed(changes: dict[str, object]) -> None:
    with pytest.raises(UserError, match="line features"):
        EpisodeModel(settings(environment=changes), TRACKS, 0, lines=3)


def test_no_environment_owns_a_parameter_outside_the_module_that_uses_it() -> None:
    for name in ENVIRONMENTS:
        m = model(name)
        owners: list[nn.Module] = [m, m.support, m.energy]
        assert not any(list(owner.parameters(recurse=False)) for owner in owners)
