"""Studies and tables of small searches whose scores are made up, for the tests that need no training."""

from __future__ import annotations

from pathlib import Path

from data_pipeline.settings import load, validate
from distributed.settings import RunSettings
from tune.space import SearchSettings, distributions
from tune.study import FoldScore, Proposal, SearchStudy

LINES = ["A", "B", "C", "D"]
OVERRIDES = ["fold.test_line=sim4", "fold.block=1000000", "episodes.support=8", "episodes.query=16",
             "objective.terms.grl.start=0", "objective.terms.corr.start=0", "model.trunk.size=tiny"]  # fmt: skip


def run_settings(*overrides: str) -> RunSettings:
    """Settings of runs on the store of `tiny_training`, test line sim4."""
    return load(RunSettings, overrides=[*OVERRIDES, *overrides])


def search_settings(**changes: object) -> SearchSettings:
    content = {"parameters": {"optimiser.lr": {"low": 1e-4, "high": 1e-2, "log": True}}, **changes}
    return validate(SearchSettings, content, "test")


def open_study(folder: Path, folds: int = 4, **changes: object) -> SearchStudy:
    """The study in `folder`, as a new process would open it."""
    search = search_settings(**changes)
    return SearchStudy(folder, search, distributions(search, run_settings()), folds)


def folds(*scores: float) -> list[FoldScore]:
    return [FoldScore(line, score, 1.5) for line, score in zip(LINES, scores, strict=False)]


def finish(study: SearchStudy, score: float) -> Proposal:
    """Run the next trial to its end, with `score` in every fold."""
    proposal = study.propose()
    for count in range(1, study.folds + 1):
        if study.report(proposal.number, folds(*[score] * count)):
            break
    return proposal
