from __future__ import annotations

import numpy as np
import pytest
import torch
from model_episodes import dna, episodes, settings
from packed_dna import PAD, pack_many, reverse_complement
from torch import Tensor

from data_pipeline.errors import UserError
from data_pipeline.settings import validate
from model.episode_model import EpisodeModel
from model.sequence.trunk import SIZES, Trunk, TrunkSettings


def packed(letters: list[str], length: int) -> Tensor:
    return torch.from_numpy(pack_many(letters, length))


def trunk(**changes: object) -> Trunk:
    torch.manual_seed(0)
    shape = TrunkSettings.model_validate({"size": "tiny", "blocks": 3, "layers": 2, **changes}).shape
    assert shape is not None
    built = Trunk(shape).eval()
    for name, parameter in built.named_parameters():
        if name.endswith(("bias", "kind")):
            torch.nn.init.normal_(parameter, std=0.3)
    return built


def features(model: Trunk, enhancers: Tensor, promoters: Tensor) -> Tensor:
    rows = torch.arange(len(enhancers))
    with torch.no_grad():
        return model.pair_features(model.encode("enhancer", enhancers), model.encode("promoter", promoters), rows, rows)


def flipped(x: Tensor) -> Tensor:
    return torch.from_numpy(reverse_complement(x.numpy()))


def elements(length: int, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    letters = dna(rng, 5, length)
    letters[1] = letters[1][:20] + "N" * 9 + letters[1][29:]
    letters[2] = letters[2][: length // 2 + 1]
    letters[3] = letters[3][:30] + "RYKM" + letters[3][34:]
    return packed(letters, length)


@pytest.mark.parametrize("length", [96, 90, 50])
def test_T12_1_reverse_complementing_both_elements_changes_nothing(length: int) -> None:
    model, enhancers, promoters = trunk(), elements(length), elements(112, seed=1)
    expected = features(model, enhancers, promoters)
    assert torch.allclose(features(model, flipped(enhancers), flipped(promoters)), expected, atol=1e-5)
    assert expected.std() > 1e-2


def test_T12_1_tokens_of_the_reverse_complement_are_the_flipped_tokens() -> None:
    model, enhancers = trunk(), elements(90)
    tokens, mask = model.encode("enhancer", enhancers)
    turned, turned_mask = model.encode("enhancer", flipped(enhancers))
    assert torch.allclose(turned, tokens.flip(1), atol=1e-5)
    assert torch.equal(turned_mask, mask.flip(1))


@pytest.mark.parametrize("sides", [(16, 0), (0, 16), (16, 32), (64, 64)])
def test_T12_1_padding_by_n_is_inert(sides: tuple[int, int]) -> None:
    model, enhancers, promoters = trunk(), elements(96), elements(112, seed=1)
    pads = [torch.full((5, bases // 2), PAD, dtype=torch.uint8) for bases in sides]
    padded = torch.cat([pads[0], enhancers, pads[1]], dim=1)
    expected = features(model, enhancers, promoters)
    assert torch.allclose(features(model, padded, promoters), expected, atol=1e-5)
    assert torch.allclose(features(model, enhancers, torch.cat([promoters, pads[0]], dim=1)), expected, atol=1e-5)


def test_T12_1_logits_are_the_same_on_either_strand() -> None:
    torch.manual_seed(0)
    model, batch = EpisodeModel(settings(), 0, 0).eval(), episodes()
    turned = type(batch)(
        **{
            **vars(batch),
            "enhancer_packed": flipped(batch.enhancer_packed),
            "promoter_packed": flipped(batch.promoter_packed),
        }
    )
    assert torch.allclose(model.logits(turned), model.logits(batch), atol=1e-5)


def test_an_element_without_any_known_base_gives_finite_features_and_gradients() -> None:
    model = trunk()
    unknown = torch.full((5, 48), PAD, dtype=torch.uint8)
    encoded = model.encode("enhancer", unknown)
    assert not encoded[0].any()
    out = model.pair_features(encoded, model.encode("promoter", elements(96)), torch.arange(5), torch.arange(5))
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_an_element_encoded_once_serves_every_pair_it_is_in() -> None:
    model, enhancers, promoters = trunk(), elements(96), elements(112, seed=1)
    encoded = model.encode("enhancer", enhancers), model.encode("promoter", promoters)
    rows = torch.tensor([0, 0, 3]), torch.tensor([1, 2, 1])
    together = model.pair_features(*encoded, *rows)
    apart = features(model, enhancers[rows[0]], promoters[rows[1]])
    assert torch.allclose(together, apart, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "least", "most"),
    [("tiny", 15_000, 60_000), ("base", 0.5e6, 0.65e6), ("large", 1.15e6, 1.4e6), ("xl", 50e6, 70e6)],
)
def test_each_size_has_the_parameters_it_promises(size: str, least: float, most: float) -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in Trunk(SIZES[size]).parameters())
    assert least <= count <= most


def test_explicit_numbers_replace_the_preset_and_contradictions_are_refused() -> None:
    shape = TrunkSettings(size="tiny", width=48, dropout=0.0).shape
    assert shape is not None
    assert (shape.width, shape.dropout, shape.blocks) == (48, 0.0, SIZES["tiny"].blocks)
    with pytest.raises(UserError, match="not a multiple of its 2 heads"):
        validate(TrunkSettings, {"size": "tiny", "width": 33}, where="test")
    with pytest.raises(UserError, match="must be odd"):
        validate(TrunkSettings, {"kernel": 4}, where="test")


def test_a_store_without_sequences_is_refused_by_a_trunk() -> None:
    with pytest.raises(UserError, match="no sequences"):
        EpisodeModel(settings(), 0, 0)(episodes(length=0))
