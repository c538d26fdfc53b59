"""What a page and pictures show beside the pairs: frozen ranges, tracks, the environment found, how it was scored."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from data_pipeline.context import Landscape
from distributed.formats import Background, Outputs
from distributed.prediction.batch_scoring import Job, line_environments
from distributed.prediction.deployment import Deployment
from distributed.prediction.matched_store import MatchedStore

Signals = Callable[[str, str], dict[str, Landscape]]
"""(line, chromosome) -> tracks of one signal each, by assay."""


def no_signals(line: str, chrom: str) -> dict[str, Landscape]:
    """Of pairs without tracks."""
    return {}


def background_of(
    deployment: Deployment,
    store: MatchedStore,
    job: Job,
    threshold: float | None,
    shifted: bool,
    outputs: Outputs,
    signals: Signals,
) -> Background:
    """The background of the prediction `job` at `threshold`; `shifted`: whether probabilities follow the prevalence."""
    model = deployment.description
    environments = cache(partial(line_environments, job))
    size = model.support_in_use
    notes = [
        f"Each score is the mean over {job.scoring.support_draws} support sets of up to {size.most:,} unlabelled pairs "
        "of the line itself.",
    ]
    if model.smooth_enhancer or model.smooth_promoter:
        notes.append(
            f"Scores are averaged over pairs whose enhancers lie within {model.smooth_enhancer:,} bp of each other and "
            f"whose promoters within {model.smooth_promoter:,}."
        )
    if shifted:
        notes.append(
            "Probabilities were shifted to the prevalence that the scores suggest; what is called on this page, and "
            "the scores, were not."
        )
    return Background(
        ranges=deployment.ranges,
        train_lines=model.train_lines,
        missing_tracks=store.missing_tracks,
        logit_threshold=_logit_at(deployment, threshold),
        notes=notes,
        environment=lambda line: environments()[line],
        loci=outputs.loci,
        signals=signals,
    )


def _logit_at(deployment: Deployment, threshold: float | None) -> float:
    frozen = deployment.description.calibration
    if frozen is None or threshold is None:
        return 0.0
    odds: NDArray[np.float64] = np.clip(np.array([threshold]), 1e-9, 1 - 1e-9)
    return float(frozen.temperature * (np.log(odds / (1 - odds))[0] - frozen.bias))
