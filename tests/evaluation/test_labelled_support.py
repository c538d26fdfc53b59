from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_training import tiny_plan, tiny_store

from data_pipeline.episodes.batch import EpisodeBatch
from data_pipeline.episodes.reader import collate, gather, plan_steps
from data_pipeline.episodes.supports import SupportSize, support_labels
from data_pipeline.settings import load
from data_pipeline.store.store import Store
from distributed.fold_evaluation import protocol
from distributed.settings import RunSettings
from evaluation.scoring import Scorer
from evaluation.settings import ScoringSettings
from model.environment.settings import EnvironmentSettings
from model.episode_model import EpisodeModel, ModelSettings
from model.sequence.trunk import TrunkSettings

SUPPORT = 8
OVERRIDES = ("signals=element",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labelled") / "store"
    tiny_store(path, *OVERRIDES)
    return path


def batch(store: Store, labelled: bool) -> EpisodeBatch:
    plan = tiny_plan(store)
    return collate(gather(store, plan_steps(plan, 0, 1, 0, 1), SUPPORT, labelled), SUPPORT)


def flip(store: Store, rows: NDArray[np.int64]) -> None:
    """Turn the labels of `rows` round in this opened store, not on disk."""
    labels = np.array(store.pairs.label)
    labels[rows] = 1 - labels[rows]
    store.pairs.label = labels


def scorer(store: Store, labelled: bool) -> Scorer:
    torch.manual_seed(0)
    own = ModelSettings(
        trunk=TrunkSettings(size="none"), environment=EnvironmentSettings(labelled_support=labelled, hidden=8)
    )
    return Scorer(EpisodeModel(own, len(store.signal_names), 0), store, SupportSize.exactly(SUPPORT), ScoringSettings())


def logits(store: Store, labelled: bool, rows: NDArray[np.int64], flipped: bool) -> NDArray[np.float32]:
    support, query = rows[:SUPPORT], rows[SUPPORT:]
    if flipped:
        flip(store, support)
    h = np.empty((len(rows), 0), np.float32)
    return scorer(store, labelled).heads(h[:SUPPORT], h[SUPPORT:], support, query)[0]


def test_the_default_protocol_has_no_support_labels_and_no_tensor_that_depends_on_them(folder: Path) -> None:
    store, flipped = Store.open(folder), Store.open(folder)
    expected = batch(store, labelled=False)
    flip(flipped, expected.rows[:, :SUPPORT].flatten().numpy())
    found = batch(flipped, labelled=False)
    assert expected.support_labels is None
    assert found.support_labels is None
    for name, value in vars(expected).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(torch.nan_to_num(value), torch.nan_to_num(getattr(found, name))), name


def test_the_labelled_protocol_brings_the_labels_of_the_support_and_only_those(folder: Path) -> None:
    store = Store.open(folder)
    found = batch(store, labelled=True)
    assert found.support_labels is not None
    assert np.array_equal(found.support_labels.numpy(), store.pairs.label[found.rows[:, :SUPPORT].numpy()])


def test_an_unknown_label_of_a_support_pair_is_not_a_number(folder: Path) -> None:
    store = Store.open(folder)
    labels = np.array(store.pairs.label)
    labels[:2] = (-1, 1)
    store.pairs.label = labels
    found = support_labels(store, np.array([0, 1]))
    assert np.isnan(found[0])
    assert found[1] == 1.0


@pytest.mark.parametrize("labelled", [False, True])
def test_scoring_reads_support_labels_in_the_labelled_protocol_only(folder: Path, labelled: bool) -> None:
    rows = np.arange(40)
    straight = logits(Store.open(folder), labelled, rows, flipped=False)
    turned = logits(Store.open(folder), labelled, rows, flipped=True)
    assert np.array_equal(straight, turned) != labelled


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "unlabelled; of a line the model reads up to 1024 pairs at a time without their labels"),
        (
            ["model.environment.labelled_support=true"],
            "FEW-LABEL; of every line, the test line too, the model reads 16",
        ),
        (["model.environment.encoder=none"], "no support; of a line"),
    ],
)
def test_a_report_says_which_protocol_its_results_belong_to(words: list[str], says: str) -> None:
    fold = ["fold.test_line=a", "fold.valid_line=b", "episodes.support=16"]
    assert protocol(load(RunSettings, [], fold + words)).startswith(says)
