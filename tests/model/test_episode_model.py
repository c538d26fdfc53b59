from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from model_episodes import episodes, settings, training_module
from torch import Tensor, nn

from data_pipeline.errors import UserError
from data_pipeline.settings import validate
from model.episode_model import EpisodeModel, ModelSettings
from model.objective import monitors

CONFIGURATIONS = [
    {"trunk": {"size": "none"}},
    {"trunk": {"size": "tiny"}},
    {"energy": {"form": "linear"}},
    {"energy": {"form": "interaction", "head": "linear", "sign": "nonneg"}},
    {"energy": {"form": "lin_inter_fallback", "channels": 1}},
    {"energy": {"shift": "none", "temperature": "softplus", "resistance": "mlp"}},
    {"environment": {"encoder": "none", "local": False}},
    {"signals": {"transform": "log1p"}},
]


def model(tracks: int = 0, **changes: object) -> EpisodeModel:
    torch.manual_seed(0)
    return EpisodeModel(settings(**changes), tracks, 0).eval()


def pieces(m: EpisodeModel, signals: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch = episodes(signals=signals)
    with torch.no_grad():
        h = m.represent(batch)
    return h, batch.distance, batch.signals, batch.line_features


def test_T6_1_the_order_of_the_support_set_does_not_matter() -> None:
    m = model(tracks=3)
    h, _, signals, features = pieces(m)
    order = torch.randperm(h.shape[1])
    z, _ = m.infer_environment(h, signals, features)
    assert torch.allclose(m.infer_environment(h[:, order], signals[:, order], features)[0], z, atol=1e-6)


def test_T6_2_a_support_set_given_twice_is_the_same_support_set() -> None:
    m = model(tracks=3)
    h, _, signals, features = pieces(m)
    doubled, _ = m.infer_environment(torch.cat([h, h], dim=1), torch.cat([signals, signals], dim=1), features)
    assert torch.allclose(doubled, m.infer_environment(h, signals, features)[0], atol=1e-6)


def test_T6_3_support_of_one_episode_never_reaches_another() -> None:
    m = model(tracks=3, environment={"trunk_gradient": True})
    h, distance, signals, features = pieces(m)
    h.requires_grad_()
    signals.requires_grad_()
    logits = m.score_episodes(h, distance, signals, features, support=4).logits
    gradients = torch.autograd.grad(logits[0].sum(), [h, signals])
    for gradient in gradients:
        assert not gradient[1:].any()
        assert gradient[0, :4].any()


def test_T6_4_training_logits_equal_inference_logits() -> None:
    module = training_module(tracks=3)
    for step in range(3):
        module(episodes(signals=3, seed=step), step=step, epoch=3.0)
    twin = training_module(tracks=3, seed=5)
    twin.load_state_dict(module.state_dict())
    twin.eval()
    captured: list[Tensor] = []
    module.model.energy.register_forward_hook(lambda _, __, scores: captured.append(scores.logits))
    batch = episodes(signals=3, seed=9)
    module(batch, step=3, epoch=3.0)
    # The global step sorts its episodes by their rows; the batch has them as they came.
    order = batch.rows.sum(dim=1).argsort(stable=True)
    assert torch.allclose(captured[0], twin.model.logits(batch)[order], atol=1e-6)


def test_T6_4_cached_pieces_give_the_logits_of_the_whole_forward() -> None:
    m, batch = model(tracks=3), episodes(signals=3)
    assert m.trunk is not None
    with torch.no_grad():
        enhancers = m.trunk.encode("enhancer", batch.enhancer_packed)
        promoters = m.trunk.encode("promoter", batch.promoter_packed)
        h = m.trunk.pair_features(enhancers, promoters, batch.enhancer.flatten(), batch.promoter.flatten())
        h = h.view(*batch.enhancer.shape, -1)
        z, _ = m.infer_environment(h[:, :4], batch.signals[:, :4], batch.line_features)
        scores = m.score(h[:, 4:], batch.distance[:, 4:], batch.signals[:, 4:], z)
        assert torch.allclose(scores.logits, m.logits(batch), atol=1e-6)


@pytest.mark.parametrize("changes", CONFIGURATIONS)
def test_T6_6_no_configuration_normalises_across_samples(changes: dict[str, object]) -> None:
    assert not [m for m in model(tracks=3, **changes).modules() if "BatchNorm" in type(m).__name__]


@pytest.mark.parametrize("changes", CONFIGURATIONS)
def test_every_configuration_gives_every_parameter_a_gradient(changes: dict[str, object]) -> None:
    module = training_module(tracks=3, **changes)
    total, report = module(episodes(signals=3), step=0, epoch=20.0)
    total.backward()
    assert not [name for name, p in module.named_parameters() if p.grad is None]
    assert all(torch.isfinite(value) for value in report.values())
    assert not any(value for name, value in report.items() if name.startswith("bound_violated"))


def test_without_trunk_gradient_the_support_set_teaches_the_trunk_nothing() -> None:
    norms = []
    for allowed in (False, True):
        m = model(environment={"trunk_gradient": allowed}).train()
        scores = m(episodes())
        scores.environment.square().sum().backward()
        assert m.trunk is not None
        norms.append(sum(float(p.grad.abs().sum()) for p in m.trunk.parameters() if p.grad is not None))
    assert norms[0] == 0.0
    assert norms[1] > 0.0


def test_the_support_set_changes_the_queries_of_its_own_episode() -> None:
    m = model()
    h, distance, signals, features = pieces(m, signals=0)
    other = h.clone()
    other[0, :4] += 1.0
    first, second = (m.score_episodes(x, distance, signals, features, support=4).logits for x in (h, other))
    assert not torch.equal(first[0], second[0])
    assert torch.equal(first[1:], second[1:])


def test_T0_6_a_store_without_signals_gives_the_model_without_local_environment() -> None:
    batch = episodes()
    assert torch.equal(
        model(environment={"local": True}).logits(batch), model(environment={"local": False}).logits(batch)
    )


def test_local_signals_change_the_ranking_inside_a_line_even_with_one_channel() -> None:
    m, batch = model(tracks=3, energy={"channels": 1}), episodes(signals=3, query=30)
    scores, shuffled = (
        m(batch),
        m(replace(batch, signals=torch.cat([batch.signals[:, :4], batch.signals[:, 4:].flip(1)], 1))),
    )
    assert torch.equal(scores.neutral, shuffled.neutral)
    assert not torch.equal(scores.logits.argsort(dim=1), shuffled.logits.argsort(dim=1))


def test_without_support_the_prior_mean_stands_in() -> None:
    m = model().train()
    for seed in range(3):
        m(episodes(seed=seed))
    m.eval()
    batch = episodes()
    z, _ = m.infer_environment(m.represent(batch)[:, :0], batch.signals[:, :0], batch.line_features)
    assert torch.equal(z, m.support.prior.mean.expand(3, -1))
    assert z.any()


def test_context_dropout_replaces_the_environment_by_the_prior_and_keeps_it_for_the_losses() -> None:
    m = model()
    h, distance, signals, features = pieces(m, signals=0)
    withheld = torch.tensor([True, False, True])
    kept = m.score_episodes(h, distance, signals, features, support=4)
    dropped = m.score_episodes(h, distance, signals, features, support=4, without_context=withheld)
    assert torch.equal(dropped.environment, kept.environment)
    assert torch.equal(dropped.logits[1], kept.logits[1])
    prior = m.score(h[:, 4:], distance[:, 4:], signals[:, 4:], m.support.prior().expand(3, -1)).logits
    assert torch.equal(dropped.logits[withheld], prior[withheld])


def test_missing_signals_and_distances_stay_finite() -> None:
    m, batch = model(tracks=3), episodes(signals=3)
    batch.signals[:, ::2] = float("nan")
    batch.distance[0] = float("nan")
    scores = m(batch)
    assert all(torch.isfinite(value) for value in monitors(scores, "gated").values())


def test_bf16_trunk_stays_close_and_heads_stay_fp32() -> None:
    exact, fast = model(), model(precision="bf16")
    fast.load_state_dict(exact.state_dict())
    logits = fast.logits(episodes())
    assert logits.dtype == torch.float32
    assert torch.allclose(logits, exact.logits(episodes()), atol=0.05)


def test_the_model_owns_no_parameter_outside_the_modules_that_use_it() -> None:
    m = training_module(tracks=3)
    owners: list[nn.Module] = [m, m.model, m.model.trunk] if m.model.trunk is not None else []
    assert owners
    assert not any(list(owner.parameters(recurse=False)) for owner in owners)


def test_an_environment_without_any_input_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.environment\.encoder=none"):
        model(trunk={"size": "none"})
    with pytest.raises(UserError, match="use_distance"):
        validate(ModelSettings, {"trunk": {"size": "none"}, "energy": {"use_distance": False}}, where="test")
