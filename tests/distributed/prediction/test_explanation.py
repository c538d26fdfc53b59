"""Which signals belong together in an explanation, and what their part in a logit is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_landscapes import landscape_store
from tiny_models import tiny_run
from tiny_training import tiny_store

from data_pipeline.episodes.supports import SupportSize
from distributed.prediction.batch_scoring import Job, plan_supports, score_pairs
from distributed.prediction.deployment import open_export, open_run, write_export
from distributed.prediction.executors import in_process
from distributed.prediction.explanation import context_groups, explained
from distributed.prediction.matched_store import MatchedStore
from evaluation.scoring import Scorer
from evaluation.settings import ScoringSettings


def test_signals_are_grouped_by_owner_or_by_the_kind_of_context(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "store", "signals=both")
    names = [
        "pair:CTCF (window)",
        "context:barriers/max [CTCF]",
        "enhancer:CTCF",
        "context:barriers/at_promoter [CTCF]",
    ]
    model = open_run(tiny_run(tmp_path / "runs", store)).description.model_copy(update={"signal_names": names})
    assert {group: places.tolist() for group, places in context_groups(model).items()} == {
        "pair": [0],
        "barriers": [1, 3],
        "enhancer": [2],
    }


class WithoutPairSignals(MatchedStore):
    """A store that lacks the first signal of some pairs."""

    of_pairs = np.empty(0, dtype=np.int64)

    def signals(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        given = super().signals(rows)
        given[np.isin(rows, self.of_pairs), 0] = np.nan
        return given


def test_a_group_s_part_is_the_logit_less_that_of_the_pair_without_it_under_the_same_support(tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "store", "signals=both")
    deployment = open_run(tiny_run(tmp_path / "runs", store, trunk={"size": "none"}))
    model, groups = deployment.description, context_groups(deployment.description)
    assert groups["pair"].tolist() == [0]
    support, query = np.arange(8), np.arange(100, 120)
    nothing = np.empty((8, 0), np.float32), np.empty((20, 0), np.float32)
    lacking = WithoutPairSignals.of(store.path, model)
    lacking.of_pairs = query
    found, less = (
        Scorer(deployment.build(), own, SupportSize.exactly(8), ScoringSettings(), groups=groups).heads(
            *nothing, support, query
        )
        for own in (MatchedStore.of(store.path, model), lacking)
    )
    assert found.parts.shape[1] == len(explained(model))
    place = explained(model).index("context_pair")
    np.testing.assert_allclose(found.parts[:, place], found.logits - less.logits, atol=1e-6)
    assert np.abs(found.parts[:, place]).max() > 1e-5
    np.testing.assert_array_equal(found.environment, less.environment)


def test_the_profile_s_part_is_the_logit_less_that_without_any_of_its_tracks(tmp_path: Path) -> None:
    store = landscape_store(tmp_path / "store")
    profile = {"on": True, "around": 4, "bins": 12}
    fold = {"block": 100_000}
    run = tiny_run(
        tmp_path / "runs", store, fold=fold, trunk={"size": "none"}, environment={"local": False, "profile": profile}
    )
    write_export(open_run(run), tmp_path / "model")
    deployment = open_export(tmp_path / "model")
    model, groups = deployment.description, context_groups(deployment.description)
    assert {group: places.tolist() for group, places in groups.items()} == {"landscape": [1, 2]}
    support, query = np.arange(1200, 1208), np.arange(1300, 1320)
    nothing = np.empty((8, 0), np.float32), np.empty((20, 0), np.float32)
    matched = MatchedStore.of(store.path, model)
    network = deployment.build()
    found = Scorer(network, matched, SupportSize.exactly(8), ScoringSettings(), groups=groups).heads(
        *nothing, support, query
    )
    part = found.parts[:, explained(model).index("context_landscape")]
    assert network.profile is not None
    network.profile.withhold(torch.ones(2, dtype=torch.bool))
    less = Scorer(network, matched, SupportSize.exactly(8), ScoringSettings()).heads(*nothing, support, query)
    np.testing.assert_allclose(part, found.logits - less.logits, atol=1e-6)
    assert np.abs(part).max() > 1e-5


def test_prediction_scores_profiles_as_evaluation_does(tmp_path: Path) -> None:
    store, profile = landscape_store(tmp_path / "store"), {"on": True, "around": 4, "bins": 12}
    run = tiny_run(
        tmp_path / "runs", store, fold={"block": 100_000}, trunk={"size": "none"}, environment={"profile": profile}
    )
    deployment, rows = open_run(run), np.flatnonzero(store.pairs.line == 3)
    matched = MatchedStore.of(store.path, deployment.description)
    supports = plan_supports(matched, rows, SupportSize.exactly(8), 2, seed=5)
    (tmp_path / "work").mkdir()
    job = Job(tmp_path / "work", store.path, ScoringSettings(), pairs_per_part=70)
    found = np.concatenate([part.logits for part in score_pairs(deployment, matched, supports, job, in_process)])
    scorer = Scorer(deployment.build(), matched, SupportSize.exactly(8), ScoringSettings())
    np.testing.assert_allclose(found, scorer.score_line(rows, rows, 2, seed=5).logits, atol=1e-5)
