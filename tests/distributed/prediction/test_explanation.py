"""Which signals belong together in an explanation, and what their part in a logit is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tiny_models import tiny_run
from tiny_training import tiny_store

from data_pipeline.episodes.supports import SupportSize
from distributed.prediction.deployment import open_run
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
