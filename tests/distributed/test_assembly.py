"""What a run is assembled from: which signals it sees, and when it is judged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_training import tiny_fold, tiny_plan, tiny_settings, tiny_store

from data_pipeline.errors import UserError
from data_pipeline.store.store import Store
from distributed.assembly import build_module, judged_next, judgements, left_out, needed_assays, unfitted_module

TRACKS = [
    "pair:CTCF (enhancer)",
    "pair:CTCF (window)",
    "enhancer:H3K27AC",
    "context:order/between",
    "context:barriers/at_promoter [CTCF]",
    "context:activity/abc [DNase+H3K27ac]",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("assembly") / "store", "signals=element")


@pytest.mark.parametrize(
    ("names", "gone"),
    [
        ([], []),
        (["CTCF"], [0, 1, 4]),
        (["H3K27ac"], [2, 5]),
        (["h3k27ac", "DNase"], [2, 5]),
        (["context"], [3, 4, 5]),
        (["barriers", "pair"], [0, 1, 4]),
        (["enhancer"], [2]),
        (["pair:CTCF (window)", "order"], [1, 3]),
    ],
)
def test_assays_groups_owners_and_tracks_can_be_left_out(names: list[str], gone: list[int]) -> None:
    assert np.flatnonzero(left_out(TRACKS, names)).tolist() == gone


@pytest.mark.parametrize("name", ["H3K9me3", "flanks", "CTCF (window)", "promoter", "x"])
def test_a_name_that_nothing_answers_to_is_one_sentence_with_those_that_do(name: str) -> None:
    with pytest.raises(UserError) as caught:
        left_out(TRACKS, ["CTCF", name])
    assert str(caught.value) == (
        f"model.signals.leave_out names '{name}', and the store's signals know no such assay, group or track; they "
        "have CTCF, DNase, H3K27AC, H3K27ac, activity, barriers, context, enhancer, order, pair"
    )


def test_an_assay_is_one_whatever_its_case_and_some_signals_need_several_or_none() -> None:
    # CTCF, DNase, H3K27ac
    assert needed_assays(TRACKS).astype(int).tolist() == [
        [1, 1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
        [0, 0, 1, 0, 0, 1],
    ]
    assert needed_assays([]).shape == (0, 0)
    assert needed_assays(["context:order/between"]).shape == (0, 1)


def test_a_module_is_told_what_the_store_measured_and_what_it_must_not_see(store: Store) -> None:
    name = store.signal_names[1].partition(":")[2]
    settings = tiny_settings(f"model.signals.leave_out=['{name}']", "model.signals.dropout=0.3")
    model = build_module(store, tiny_fold(store), settings).model
    assert model.withheld is not None
    assert model.withheld.tolist() == [own.endswith(f":{name}") for own in store.signal_names]
    assert model.withheld.sum() == 2, "of enhancers and of promoters"
    np.testing.assert_array_equal(model.measured.needs.numpy() > 0, needed_assays(store.signal_names))
    with pytest.raises(UserError, match=r"model\.signals\.leave_out names 'H3K4me3', and the store's signals know no"):
        build_module(store, tiny_fold(store), tiny_settings("model.signals.leave_out=[H3K4me3]"))


@pytest.mark.parametrize("encoding", ["standard", "piecewise", "thermometer"])
def test_a_module_that_saw_no_pair_is_the_other_once_it_has_its_state(store: Store, encoding: str) -> None:
    name = store.signal_names[0].partition(":")[2]
    settings = tiny_settings(f"model.signals.encoding={encoding}", f"model.signals.leave_out=['{name}']")
    whole, bare = (make(store, tiny_fold(store), settings) for make in (build_module, unfitted_module))
    assert any(not torch.equal(own, bare.state_dict()[key]) for key, own in whole.state_dict().items())
    bare.load_state_dict(whole.state_dict())
    buffers = dict(bare.named_buffers())
    for key, own in whole.named_buffers():
        torch.testing.assert_close(buffers[key], own, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("overrides", "judged"),
    [
        ([], [5, 10, 15]),
        (["train.validate_every=2"], [2, 4, 5, 6, 8, 10, 12, 14, 15]),
        (["train.validate_every=5"], [5, 10, 15]),
        (["train.validate_every=7"], [5, 7, 10, 14, 15]),
        (["train.validate_every=4", "train.max_steps=9"], [4, 5, 8, 9]),
        (["train.max_steps=7"], [5, 7]),
    ],
)
def test_a_run_is_judged_at_the_end_of_epochs_and_every_so_many_steps(
    store: Store, overrides: list[str], judged: list[int]
) -> None:
    settings, plan = tiny_settings("train.epochs=3", *overrides), tiny_plan(store, steps_per_epoch=5)
    assert [judged_next(plan, settings, step) for step in range(judged[-1])] == [
        next(own for own in judged if own > step) for step in range(judged[-1])
    ]
    assert judgements(plan, settings) == len(judged)
