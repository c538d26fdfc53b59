from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_training import tiny_fold, tiny_plan, tiny_store

from data_pipeline.episodes.reader import collate, gather, plan_steps
from data_pipeline.episodes.supports import SupportSize, draw_supports
from data_pipeline.store.store import Store
from evaluation.scoring import Scorer
from evaluation.settings import ScoringSettings
from model.environment.settings import EnvironmentSettings
from model.episode_model import EpisodeModel, ModelSettings
from model.sequence.trunk import TrunkSettings

SUPPORT = 8
ENVIRONMENTS: dict[str, dict[str, object]] = {
    "none": {"encoder": "none"},
    "features": {"encoder": "features"},
    "mean": {"encoder": "mean"},
    "attention": {"encoder": "attention"},
    "isab": {"encoder": "isab"},
    "prototypes": {"encoder": "prototypes"},
    "fused": {"encoder": "mean", "fusion": "gp"},
    "query attention": {"query_attention": True},
    "labelled": {"labelled_support": True},
    "line features": {"line_features": True},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("environments") / "store", "signals=element", "line_features=2")


def taught(store: Store, environment: dict[str, object]) -> EpisodeModel:
    """A model whose running states have seen a few steps of the plan."""
    torch.manual_seed(0)
    own = ModelSettings(
        trunk=TrunkSettings(size="none"), environment=EnvironmentSettings.model_validate(environment | {"dropout": 0.0})
    )
    lines = len(tiny_fold(store).train_lines)
    m = EpisodeModel(own, len(store.signal_names), store.line_features.shape[1], lines).train()
    plan, labelled = tiny_plan(store), own.environment.labelled_support
    with torch.no_grad():
        for step in range(3):
            m(collate(gather(store, plan_steps(plan, step, step + 1, 0, 1), SUPPORT, labelled), SUPPORT))
    return m.eval()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_evaluation_gives_the_logits_of_the_forward_with_the_same_support(name: str, store: Store) -> None:
    m = taught(store, ENVIRONMENTS[name])
    fold = tiny_fold(store)
    pool = fold.rows(store, fold.test_line)
    rows = pool[::5]
    found = Scorer(m, store, SupportSize.exactly(SUPPORT), ScoringSettings()).score_line(rows, pool, draws=1, seed=0)
    labelled = m.settings.environment.labelled_support
    for part in draw_supports(store, rows, pool, SupportSize.exactly(SUPPORT), 1, 0):
        support, positions = part.supports[0], part.positions
        pairs = np.concatenate([support, rows[positions]])[None].astype(np.int64)
        columns = gather(store, {"step": np.zeros(1), "line": np.full(1, -1), "rows": pairs}, SUPPORT, labelled)
        with torch.no_grad():
            expected = m.logits(collate(columns, SUPPORT))[0].numpy()
        np.testing.assert_allclose(found.logits[positions, 0], expected, atol=1e-5)
    assert np.isfinite(found.logits).all()
