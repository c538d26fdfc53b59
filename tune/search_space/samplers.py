"""Where the next trial goes: samplers that are functions of seed and trial number, so that a resumed search goes on.

Optuna's samplers carry a random stream in memory. Begun anew after a kill, it would repeat its first draws, the very
points already tried. Here a sampler is made per trial, from the seed and the trial's number; with one trial at a time
an interrupted search visits the points that an uninterrupted one would have.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial
from scipy.stats import qmc

from data_pipeline.errors import UserError
from tune.search_space.settings import SearchSettings


class SobolSampler(BaseSampler):
    """Trial n is point n of a scrambled Sobol sequence over the space (Owen scrambling, scipy.stats.qmc).

    n counts from the first trial whose point was not given.

    Optuna's own QMCSampler draws its first trial at random and loses a point with every trial that is taken up again.
    """

    def __init__(
        self,
        space: dict[str, BaseDistribution],
        seed: int,
        elsewhere: int = 0,
        shares: dict[str, list[int]] | None = None,
    ) -> None:
        """`space` has the axes of the sequence in order; the first `elsewhere` trials do not count.

        `shares`: how many points each choice of a key gets for one of the others'.
        """
        self._space, self._seed, self._elsewhere, self._shares = space, seed, elsewhere, shares or {}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space; nothing is drawn on its own."""
        return self._space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The point of this trial's number."""
        sequence = qmc.Sobol(len(search_space), scramble=True, rng=self._seed)
        number = trial.number - self._elsewhere
        point = sequence.fast_forward(number).random(1)[0] if number > 0 else sequence.random(1)[0]
        places = zip(search_space.items(), point, strict=True)
        return {key: _place(own, float(at), self._shares.get(key)) for (key, own), at in places}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Never right: a key outside the sequence would break its evenness."""
        raise UserError(f"'{param_name}' is not an axis of this search's space")


def make_sampler(
    search: SearchSettings, space: dict[str, BaseDistribution], number: int, elsewhere: int = 0
) -> BaseSampler:
    """The sampler of trial `number`, of which the first `elsewhere` had points that were given."""
    seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
    if search.sampler == "sobol":
        shares = {key: own.shares for key, own in search.parameters.items() if own.shares}
        return SobolSampler(space, search.seed, elsewhere, shares)
    if search.sampler == "random":
        return RandomSampler(seed)
    if search.sampler == "gp":
        return GPSampler(seed=seed, n_startup_trials=search.startup)
    if search.sampler == "cmaes":
        return CmaEsSampler(seed=seed, n_startup_trials=search.startup)
    if search.sampler == "nsga2":
        return NSGAIISampler(seed=seed, population_size=search.population)
    return TPESampler(seed=seed, n_startup_trials=search.startup)


def _place(distribution: BaseDistribution, at: float, shares: list[int] | None = None) -> Any:
    """The value at `at` in [0, 1) of a range, of which a choice takes up a stretch as long as its share."""
    if isinstance(distribution, CategoricalDistribution):
        ends = np.cumsum(shares or [1] * len(distribution.choices))
        return distribution.choices[int(np.searchsorted(ends, at * ends[-1], side="right"))]
    if not isinstance(distribution, IntDistribution | FloatDistribution):
        raise TypeError(f"no place in {distribution}")
    low, high = float(distribution.low), float(distribution.high)
    whole = isinstance(distribution, IntDistribution)
    if whole:
        # Each whole number is the middle of a stretch of its own, so that both ends are as likely as the others.
        low, high = low - 0.5, high + 0.5
    value = low * (high / low) ** at if distribution.log else low + (high - low) * at
    return int(np.clip(round(value), distribution.low, distribution.high)) if whole else value
