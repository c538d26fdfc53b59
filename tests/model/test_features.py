"""Signals as inputs: bins of quantiles, assays that are taken as missing, tracks that are never seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_episodes import episodes, settings
from torch import Tensor

from data_pipeline.settings import validate
from model.episode_model import EpisodeModel
from model.features import AssayDropout, BinEncoder, SignalSettings, Standardiser, signal_encoder

NAN = float("nan")
UNIFORM = torch.arange(101.0).unsqueeze(1)
"""One signal whose quartiles are 0, 25, 50, 75 and 100."""


def encoder(encoding: str, values: Tensor, bins: int = 4, **changes: object) -> BinEncoder:
    made = BinEncoder(values.shape[1], validate(SignalSettings, {"encoding": encoding, "bins": bins} | changes, "test"))
    made.fit(values)
    return made


@pytest.mark.parametrize(
    ("value", "bins"),
    [
        (-7.0, [0, 0, 0, 0]),
        (0.0, [0, 0, 0, 0]),
        (10.0, [0.4, 0, 0, 0]),
        (25.0, [1, 0, 0, 0]),
        (60.0, [1, 1, 0.4, 0]),
        (100.0, [1, 1, 1, 1]),
        (1e6, [1, 1, 1, 1]),
    ],
)
def test_a_bin_is_filled_as_far_as_the_value_has_passed_it(value: float, bins: list[float]) -> None:
    assert encoder("piecewise", UNIFORM)(torch.tensor([value])).tolist() == pytest.approx([*bins, 0])


@pytest.mark.parametrize(
    ("value", "bins"), [(-7.0, [0, 0, 0, 0]), (24.9, [0, 0, 0, 0]), (25.0, [1, 0, 0, 0]), (1e6, [1, 1, 1, 1])]
)
def test_a_thermometer_says_which_bins_are_passed(value: float, bins: list[float]) -> None:
    assert encoder("thermometer", UNIFORM)(torch.tensor([value])).tolist() == [*bins, 0]


@pytest.mark.parametrize("encoding", ["piecewise", "thermometer"])
@pytest.mark.parametrize("missing", [NAN, float("inf"), -float("inf")])
def test_a_missing_value_is_nothing_but_its_flag(encoding: str, missing: float) -> None:
    own = encoder(encoding, torch.cat([UNIFORM, UNIFORM], dim=1))
    assert own(torch.tensor([missing, 30.0]))[:6].tolist() == [0, 0, 0, 0, 1, 1]
    assert own.outputs == 10


def test_missing_values_have_no_say_in_the_edges_and_a_track_without_any_has_none() -> None:
    values = torch.cat([UNIFORM, torch.full_like(UNIFORM, NAN)], dim=1)
    more = torch.cat([values, torch.tensor([[NAN, NAN], [float("inf"), NAN]])])
    own = encoder("piecewise", more)
    assert own.edges.tolist() == [[0, 25, 50, 75, 100], [0, 0, 0, 0, 0]]
    assert own(torch.tensor([[3.0, 5.0]])).isfinite().all()


@pytest.mark.parametrize("encoding", ["piecewise", "thermometer"])
def test_a_value_that_many_pairs_share_is_told_from_what_is_above_it(encoding: str) -> None:
    values = torch.cat([torch.zeros(70, 1), torch.linspace(1, 30, 30).unsqueeze(1)])
    own = encoder(encoding, values)
    nothing, little, much = (own(torch.tensor([value])) for value in (0.0, 0.001, 40.0))
    assert much[:4].tolist() == [1, 1, 1, 1]
    if encoding == "piecewise":
        assert nothing.tolist() == [0, 0, 0, 0, 0]
        assert little[:2].tolist() == [1, 1]
    else:
        assert nothing[2:].tolist() == [0, 0, 0]


def test_the_transform_decides_how_a_bin_is_filled_and_not_where_it_ends() -> None:
    linear, log = encoder("piecewise", UNIFORM), encoder("piecewise", UNIFORM, transform="log1p")
    edges = torch.tensor([[25.0], [50.0], [75.0]])
    torch.testing.assert_close(linear(edges), log(edges), rtol=0, atol=1e-5)
    expected = (np.log1p(10) - np.log1p(0)) / np.log1p(25)
    assert float(log(torch.tensor([10.0]))[0]) == pytest.approx(expected)


def test_the_encoding_decides_the_encoder_and_the_width_of_what_reads_it() -> None:
    assert isinstance(signal_encoder(3, SignalSettings()), Standardiser)
    model = EpisodeModel(settings(signals={"encoding": "piecewise", "bins": 5}), 3, 0)
    assert model.standardise_signals.outputs == 18
    model.fit_signals(torch.randn(50, 3))
    assert model(episodes(signals=3)).logits.isfinite().all()


NEEDS = torch.tensor([[1, 0, 0, 1, 0], [0, 1, 0, 1, 0], [0, 0, 1, 0, 0]], dtype=torch.bool)
"""Three assays over five signals: one each, one that needs two, one that needs none."""


def dropped(signals: Tensor, probability: float = 0.5, training: bool = True) -> Tensor:
    own = AssayDropout(5, probability).train(training)
    own.set_assays(NEEDS)
    return own(signals)


def test_an_assay_goes_in_the_whole_episode_and_with_all_that_needs_it() -> None:
    torch.manual_seed(0)
    gone = dropped(torch.randn(400, 3, 5)).isnan()
    assert (gone == gone[:, :1]).all()
    first, second, third, both, none = gone[:, 0].T
    assert (both == (first | second)).all()
    assert not none.any()
    for own in (first, second, third):
        # An assay goes with probability 1/2, but for the third of episodes in which it is the one that is spared.
        assert float(own.float().mean()) == pytest.approx(1 / 3, abs=0.08)
    assert len({tuple(row.tolist()) for row in gone[:, 0]}) == 7


@pytest.mark.parametrize("probability", [0.5, 0.9])
def test_of_the_assays_that_a_line_has_one_stays(probability: float) -> None:
    torch.manual_seed(0)
    signals = torch.randn(300, 3, 5)
    signals[:100, :, [0, 3]] = NAN  # a line without the first
    signals[100:200, :, [0, 1, 3]] = NAN  # a line with the third alone
    signals[150, 0, 2] = NAN  # of which a pair lacks it
    found = dropped(signals, probability)
    assert found[..., :3].isfinite().any(dim=(1, 2)).all()
    torch.testing.assert_close(found[100:200], signals[100:200], equal_nan=True)


def test_nothing_is_dropped_outside_training_or_at_probability_0() -> None:
    signals = torch.randn(20, 3, 5)
    assert dropped(signals, training=False) is signals
    assert dropped(signals, probability=0.0) is signals
    assert AssayDropout(5, 0.9)(signals) is signals, "nobody said which assays there are"


def scored(model: EpisodeModel, signals: Tensor) -> Tensor:
    batch = episodes(signals=5)
    with torch.no_grad():
        h = model.represent(batch)
        return model.score_episodes(h, batch.distance, signals, batch.line_features, batch.support).logits


def model_of(**signals: object) -> EpisodeModel:
    torch.manual_seed(0)
    model = EpisodeModel(settings(signals=signals, environment={"query_attention": True}), 5, 0)
    model.set_assays(NEEDS)
    return model


def test_a_model_is_trained_with_assays_missing_and_judged_with_all_it_is_given() -> None:
    model = model_of(dropout=0.9)
    signals = episodes(signals=5).signals
    everything = scored(model.eval(), signals)
    torch.testing.assert_close(scored(model, signals), everything)
    model.train()
    assert not torch.allclose(scored(model, signals), everything)
    assert "measured.needs" not in model.state_dict(), "the store says it, not the checkpoint"


def test_what_is_left_out_has_no_say_anywhere_and_the_rest_has() -> None:
    model = model_of(leave_out=["x"]).eval()
    model.withhold(torch.tensor([True, False, True, False, False]))
    signals = episodes(signals=5).signals
    other, missing, seen = signals.clone(), signals.clone(), signals.clone()
    other[..., [0, 2]] += 3.0
    missing[..., [0, 2]] = NAN
    seen[..., 1] += 3.0
    expected = scored(model, signals)
    torch.testing.assert_close(scored(model, other), expected, rtol=0, atol=0)
    torch.testing.assert_close(scored(model, missing), expected, rtol=0, atol=0)
    assert not torch.allclose(scored(model, seen), expected)


def test_what_is_left_out_is_not_the_assay_that_is_spared() -> None:
    torch.manual_seed(0)
    model = model_of(leave_out=["x"], dropout=0.9).train()
    model.withhold(torch.tensor([True, True, False, True, True]))
    seen: list[Tensor] = []
    model.standardise_signals.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for _ in range(10):
        scored(model, episodes(signals=5).signals)
    assert all(given[..., 2].isfinite().all() for given in seen)


def test_what_is_left_out_travels_with_the_weights() -> None:
    model, copy = model_of(leave_out=["x"]), model_of(leave_out=["x"])
    model.withhold(torch.tensor([True, False, True, False, False]))
    copy.load_state_dict(model.state_dict())
    signals = episodes(signals=5).signals
    other = signals.clone()
    other[..., 0] = 9.0
    torch.testing.assert_close(scored(copy.eval(), other), scored(model.eval(), signals))
