"""Scores outside training: the logits of training, whatever the batch sizes and however the work is shared."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_training import tiny_fold, tiny_settings, tiny_store

from data_pipeline.episodes.batch import EpisodeBatch
from data_pipeline.episodes.reader import collate, gather
from data_pipeline.episodes.supports import SupportSize, draw_supports
from data_pipeline.errors import UserError
from data_pipeline.store.store import Store
from distributed.assembly import build_module
from evaluation.scoring import Scorer
from evaluation.settings import ScoringSettings
from model.episode_model import EpisodeModel
from model.objective import TrainingModule
from model.scores import Scores

SUPPORT, SEED, LATE = 8, 5, 1000.0
EXACTLY = SupportSize.exactly(SUPPORT)
NO_DROPOUT = [
    "model.trunk.dropout=0",
    "model.energy.dropout=0",
    "model.environment.dropout=0",
    "model.environment.local_dropout=0",
    "model.environment.context_dropout=0",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("scoring") / "store", "signals=element")


@pytest.fixture
def module(store: Store) -> TrainingModule:
    torch.manual_seed(0)
    return build_module(store, tiny_fold(store), tiny_settings(*NO_DROPOUT))


@pytest.fixture
def rows(store: Store) -> NDArray[np.int64]:
    return tiny_fold(store).rows(store, "sim1")[::3]


def episodes(store: Store, rows: NDArray[np.int64]) -> Iterator[tuple[EpisodeBatch, NDArray[np.int64]]]:
    """The episodes in which a draw scores `rows`, and which of the rows each one asks about."""
    pool = tiny_fold(store).rows(store, "sim1")
    for part in draw_supports(store, rows, pool, EXACTLY, 1, SEED):
        support, positions = part.supports[0], part.positions
        columns = {
            "step": np.zeros(1, dtype=np.int64),
            "line": np.zeros(1, dtype=np.int64),
            "rows": np.concatenate([support, rows[positions]])[None],
        }
        yield collate(gather(store, columns, SUPPORT), SUPPORT), positions


def scored(
    model: EpisodeModel, store: Store, rows: NDArray[np.int64], draws: int = 2, **changes: int
) -> NDArray[np.float32]:
    scorer = Scorer(model, store, EXACTLY, ScoringSettings.model_validate(changes))
    return scorer.score_line(rows, tiny_fold(store).rows(store, "sim1"), draws=draws, seed=SEED).logits


def logits_of_step(module: TrainingModule, batch: EpisodeBatch) -> NDArray[np.float32]:
    """(n,) logits inside a training step with one episode."""
    seen: list[Scores] = []
    module.model.energy.register_forward_hook(lambda energy, inputs, output: seen.append(output))
    module(batch, 0, LATE)
    return seen[0].logits[0].detach().numpy()


def test_T6_4_logits_of_a_training_step_are_those_of_inference_for_the_same_support_and_query(
    module: TrainingModule, store: Store, rows: NDArray[np.int64]
) -> None:
    for batch, _ in episodes(store, rows):
        module.train()(batch, 0, LATE)  # running means leave their start
    trained, forward = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
    for batch, positions in episodes(store, rows):
        # A copy: a training step moves the running means for the next one.
        trained[positions] = logits_of_step(copy.deepcopy(module).train(), batch)
        with torch.no_grad():
            forward[positions] = module.eval().model.logits(batch)[0].numpy()
    inferred = scored(module.model, store, rows, draws=1)[:, 0]
    assert trained.std() > 1e-4
    np.testing.assert_allclose(forward, trained, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(inferred, trained, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("changes", [{"pairs_per_batch": 1}, {"pairs_per_batch": 7, "elements_per_batch": 3}])
def test_scores_do_not_depend_on_batch_sizes(
    module: TrainingModule, store: Store, rows: NDArray[np.int64], changes: dict[str, int]
) -> None:
    np.testing.assert_allclose(
        scored(module.model, store, rows, **changes), scored(module.model, store, rows), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("world", [2, 3])
def test_scores_do_not_depend_on_how_workers_share_the_trunks_work(
    module: TrainingModule, store: Store, rows: NDArray[np.int64], world: int
) -> None:
    pool = tiny_fold(store).rows(store, "sim1")
    scorer = Scorer(module.model, store, EXACTLY, ScoringSettings())
    served = draw_supports(store, rows, pool, EXACTLY, 1, SEED)
    needed = np.unique(np.concatenate([rows, *(part.supports[0] for part in served)]))
    parts = [scorer.pair_features(needed[rank::world]) for rank in range(world)]

    def everyone(own: NDArray[np.float32], total: int) -> NDArray[np.float32]:
        whole = np.empty((total, own.shape[1]), dtype=np.float32)
        for rank, part in enumerate(parts):
            whole[rank::world] = part
        return whole

    alone = scorer.score_line(rows, pool, draws=1, seed=SEED).logits
    for rank in range(world):
        shared = scorer.score_line(rows, pool, draws=1, seed=SEED, share=(rank, world, everyone)).logits
        np.testing.assert_allclose(shared, alone, rtol=1e-5, atol=1e-6)


def test_draws_differ_and_are_a_function_of_the_seed(
    module: TrainingModule, store: Store, rows: NDArray[np.int64]
) -> None:
    # The gates start closed; opened, the support matters.
    with torch.no_grad():
        for parameter in module.model.energy.parameters():
            parameter.add_(0.3)
    first, again = scored(module.model, store, rows), scored(module.model, store, rows)
    assert (first == again).all()
    assert not np.allclose(first[:, 0], first[:, 1])


@pytest.mark.parametrize(
    ("words", "least", "most"),
    [
        (["episodes.support=32"], 32, 1024),
        (["episodes.support=[16, 64]", "scoring.support=200"], 16, 200),
        (["episodes.support=32", "scoring.support=8"], 8, 8),
        # Every label counts in the labelled protocol, and nobody looks at a support here.
        (["episodes.support=[16, 64]", "model.environment.labelled_support=true"], 64, 64),
        (["episodes.support=[16, 64]", "model.environment.encoder=none"], 16, 16),
    ],
)
def test_the_size_of_a_support_in_use_is_a_setting_of_its_own(words: list[str], least: int, most: int) -> None:
    assert tiny_settings(*words).support_in_use == SupportSize(least, most)


@pytest.mark.parametrize("encoder", ["mean", "attention", "isab", "prototypes"])
def test_a_large_support_is_read_in_parts_of_the_query_and_gives_the_same_logits(
    store: Store, rows: NDArray[np.int64], encoder: str
) -> None:
    words = [*NO_DROPOUT, f"model.environment.encoder={encoder}", "model.environment.query_attention=true"]
    torch.manual_seed(0)
    model = build_module(store, tiny_fold(store), tiny_settings(*words)).model
    pool = tiny_fold(store).rows(store, "sim1")
    asked = (ScoringSettings(pairs_per_batch=size) for size in (512, 1))
    whole, parts = (Scorer(model, store, SupportSize(8, 1024), own).score_line(rows, pool, 2, SEED) for own in asked)
    np.testing.assert_allclose(parts.logits, whole.logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(parts.neutral, whole.neutral, rtol=1e-5, atol=1e-6)


def test_a_score_that_is_not_finite_is_a_sentence_that_names_line_and_row(
    store: Store, module: TrainingModule, rows: NDArray[np.int64]
) -> None:
    with torch.no_grad():
        for parameter in module.model.invariant.parameters():
            parameter.mul_(1e30)
    scorer = Scorer(module.model, store, EXACTLY, ScoringSettings())
    sentence = (
        rf"scores of \d+ pairs of line 'sim1' are not finite, the first of them row \d+ of {store.path}: its weig"
    )
    with pytest.raises(UserError, match=sentence):
        scorer.score_line(rows, tiny_fold(store).rows(store, "sim1"), 1, SEED)
