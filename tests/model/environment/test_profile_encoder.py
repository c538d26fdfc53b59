"""The profile encoder: what it sees of a profile, what it must not, and that it learns what means cannot tell."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from model_episodes import episodes, settings
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from data_pipeline.episodes.batch import EpisodeBatch
from data_pipeline.errors import UserError
from model.environment.profile_encoder import MASKS, ProfileEncoder, ProfileSettings, passed
from model.episode_model import EpisodeModel
from model.layers import mlp
from model.objective import ObjectiveSettings, TrainingModule
from model.step import gather_step

TRACKS, AROUND, BETWEEN, WIDTH = 2, 3, 10, 5
LENGTH = 2 * AROUND + BETWEEN + 2
SMALL: dict[str, object] = {"on": True, "around": AROUND, "bins": BETWEEN, "channels": 8, "dropout": 0.0}


def profiles(count: int, seed: int = 0) -> Tensor:
    """(count, LENGTH, 2 TRACKS + MASKS) of exponential values, one bin to a column, 2 to BETWEEN bins between."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randint(3, BETWEEN + 2, (count, 1), generator=generator)
    column = torch.arange(LENGTH).expand(count, -1) - AROUND
    masks = [column <= steps + AROUND, column == 0, column == steps, (column > 0) & (column < steps)]
    values = torch.rand(count, LENGTH, TRACKS, generator=generator).log().neg() * masks[0].unsqueeze(-1)
    return torch.cat([values, values, torch.stack(masks, dim=-1).float()], dim=-1)


def encoder(**changes: object) -> ProfileEncoder:
    torch.manual_seed(0)
    made = ProfileEncoder(ProfileSettings.model_validate({**SMALL, **changes}), TRACKS, WIDTH).eval()
    made.fit(profiles(50, seed=1))
    return made


def test_running_maxima_are_of_what_lies_strictly_between() -> None:
    values = torch.tensor([5.0, 1, 7, 2, 3, 9, 4]).unsqueeze(-1)
    place = torch.tensor([0.0, 0, 0, 1, 0, 0, 0])
    found = passed(values, place, torch.tensor([-1.0])).squeeze(-1)
    assert found.tolist() == [7, 7, -1, -1, -1, 3, 9]


def test_e_of_a_profile_has_its_shape_and_is_zero_where_nothing_is_there() -> None:
    given = profiles(6).view(2, 3, LENGTH, -1).clone()
    given[1, 2] = 0
    code = encoder()(given)
    assert code.shape == (2, 3, WIDTH)
    assert not code[1, 2].any()
    assert code.flatten(0, 1)[:5].abs().sum(dim=1).min() > 0


def test_columns_where_nothing_is_there_do_not_matter() -> None:
    given = profiles(6).unsqueeze(0)
    longer = torch.cat([given, given.new_zeros(1, 6, 9, given.shape[-1])], dim=2)
    made = encoder()
    torch.testing.assert_close(made(longer), made(given))
    rubbish = given.clone()
    rubbish[..., : 2 * TRACKS] += 3.0 * (given[..., 2 * TRACKS : 2 * TRACKS + 1] == 0)
    torch.testing.assert_close(made(rubbish), made(given))


@pytest.mark.parametrize("how", ["missing", "gone", "withheld"])
def test_a_missing_track_cannot_be_seen_and_says_that_it_is_missing(how: str) -> None:
    one, other = profiles(8).view(2, 4, LENGTH, -1), profiles(8).view(2, 4, LENGTH, -1).clone()
    other[..., [0, TRACKS]] *= 5
    made, gone = encoder(), None
    whole = made(one)
    if how == "missing":
        for own in (one, other):
            own[..., [0, TRACKS]] = torch.nan
    elif how == "gone":
        gone = torch.tensor([[True, False]]).expand(2, -1)
    else:
        made.withhold(torch.tensor([True, False]))
    assert torch.equal(made(one, gone), made(other, gone))
    assert not torch.allclose(made(one, gone), whole)


def test_values_count_relative_to_their_tracks_mean() -> None:
    given, scale = profiles(6).unsqueeze(0), torch.ones(2 * TRACKS + MASKS)
    scale[[0, TRACKS]] = 1e-4
    one, other = encoder(), encoder()
    other.fit(profiles(50, seed=1) * scale)
    torch.testing.assert_close(other(given * scale), one(given), rtol=1e-4, atol=1e-5)


def batch(tracks: int = 1) -> EpisodeBatch:
    plain = episodes(lines=(0, 1), signals=tracks)
    return replace(plain, profile=profiles(2 * 6).view(2, 6, LENGTH, -1))


def shaped(**profile: object) -> dict[str, object]:
    return {"trunk": {"size": "none"}, "environment": {"profile": {**SMALL, **profile}}}


def model(**profile: object) -> EpisodeModel:
    torch.manual_seed(0)
    return EpisodeModel(settings(**shaped(**profile)), 1, 0, tracks=TRACKS).eval()


def test_off_the_model_begins_and_scores_as_if_there_were_no_profile() -> None:
    torch.manual_seed(0)
    without = EpisodeModel(settings(trunk={"size": "none"}), 1, 0).eval()
    off = model(on=False)
    assert {name: value.tolist() for name, value in off.state_dict().items()} == {
        name: value.tolist() for name, value in without.state_dict().items()
    }
    given = batch()
    assert torch.equal(off(given).logits, without(replace(given, profile=None)).logits)


def test_on_the_other_parts_begin_as_they_do_without() -> None:
    on, off = model().state_dict(), model(on=False).state_dict()
    assert all(torch.equal(on[name], value) for name, value in off.items() if name.startswith(("support", "invariant")))
    assert set(on) - set(off) == {name for name in on if name.startswith("profile.")}
    # These alone take in e(c, x) of the profile as well.
    wider = {name for name in off if on[name].shape != off[name].shape}
    assert wider == {"energy.resistance.local.weight", "energy.shift.local.weight"}


def test_two_episodes_are_scored_each_with_its_own_profiles_and_the_gradient_reaches_the_encoder() -> None:
    made, given = model(), batch()
    assert given.profile is not None
    logits = made(given).logits
    other = given.profile.clone()
    other[1, 2, :, : 2 * TRACKS] *= 3
    changed = made(replace(given, profile=other)).logits != logits
    assert changed.nonzero().tolist() == [[1, 2]]
    logits.sum().backward()
    assert made.profile is not None
    assert all(own.grad is not None and own.grad.abs().sum() > 0 for own in made.profile.parameters())


def test_a_step_hands_profiles_on_in_the_order_of_its_episodes() -> None:
    given = batch()
    world = gather_step(given, given.distance.new_zeros(2, 10, 0), lambda own: own)
    order = [given.rows.tolist().index(rows) for rows in world.rows.tolist()]
    assert given.profile is not None
    assert world.profile is not None
    assert torch.equal(world.profile, given.profile[order])


def test_a_training_step_with_profiles_and_without_the_assay_runs() -> None:
    own = settings(**shaped(), signals={"dropout": 0.9})
    module = TrainingModule(own, ObjectiveSettings(), 1, 0, lines=2, tracks=TRACKS).train()
    # A signal and two tracks: CTCF (signal, first track), and a track of the annotation that needs none.
    module.model.set_assays(torch.tensor([[True, True, False], [False, False, False]]))
    total, _ = module(batch(), 0, 5.0)
    assert torch.isfinite(total)


def test_without_landscapes_or_profiles_the_model_says_so() -> None:
    with pytest.raises(UserError, match="needs a store with landscapes"):
        EpisodeModel(settings(**shaped()), 1, 0)
    with pytest.raises(ValueError, match="reads profiles"):
        model()(replace(batch(), profile=None))


def learnt(network: nn.Module, inputs: Tensor, labels: Tensor, steps: int) -> float:
    """AUROC of `network` on the second half of the pairs after it was trained on the first."""
    half, optimiser = len(labels) // 2, torch.optim.Adam(network.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(half, (64,), generator=generator)
        loss = nn.functional.binary_cross_entropy_with_logits(network(inputs[rows])[..., 0], labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        return float(roc_auc_score(labels[half:].numpy(), network(inputs[half:])[..., 0].numpy()))


def test_interacts_unless_something_between_is_stronger_is_learnt_from_the_profile_and_not_from_means() -> None:
    given = profiles(2000)
    strength, (enhancer, promoter, between) = given[..., 0].square(), given[..., -3:].unbind(dim=-1)
    # The mean of what is between is the same everywhere, and the promoter's strength says nothing by itself.
    typical = (strength * between).sum(dim=1, keepdim=True) / between.sum(dim=1, keepdim=True)
    strength = torch.where(between > 0, strength / typical, strength)
    strongest = (strength * between).amax(dim=1, keepdim=True)
    share = 0.7 + 0.6 * torch.rand(len(given), 1, generator=torch.Generator().manual_seed(2))
    strength = torch.where(promoter > 0, strongest * share, strength)
    given[..., 0] = given[..., TRACKS] = strength
    labels = (share > 1).float().squeeze(1)
    means = torch.stack(
        [(strength * own).sum(dim=1) / own.sum(dim=1) for own in (enhancer, promoter, between)]
        + [between.sum(dim=1)], dim=1
    )  # fmt: skip
    torch.manual_seed(0)
    from_means = learnt(mlp([4, 32, 32, 1]), means, labels, steps=150)
    made = ProfileEncoder(ProfileSettings.model_validate(SMALL), TRACKS, 1)
    made.fit(given[:1000])

    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = made

        def forward(self, rows: Tensor) -> Tensor:
            code: Tensor = self.encoder(rows.unsqueeze(1))[:, 0]
            return code

    from_profile = learnt(Alone(), given, labels, steps=150)
    assert from_profile > 0.94
    assert from_means < 0.8
