"""A smooth picture of the score over the box, with all that is not known about it: Gaussian processes.

Model, per validation line f and seed s at the point x (algorithms.md 11, made hierarchical):

    y_fs(x) = o_f + m(x) + g_f(x) + e_fs(x)

m is the response that an unseen line can expect, o_f the offset of a line, g_f what the line answers in its own way, e
the noise of a training. m and g have the Matern 5/2 kernel of `kernels.py`. That of g is fitted on the deviations of
the lines from their mean and shared by them; it enters the posterior of m divided by F, so few lines give wide
intervals where lines disagree, and offsets, however large, cancel. The noise is measured between seeds where there are
two or more. The hyper-parameters of m are not maximised but sampled (slice sampling of scikit-learn's marginal
likelihood under the priors below): with tens of points a single best length scale is far too sure, and intervals from
it miss the truth. The posterior is kept as functions drawn from it (Matheron's rule with random Fourier features:
Wilson et al. 2020, arXiv:2002.09309), so that regions, curves and Sobol indices are read off the same draws.
Cost: two seconds for 64 points in 5 axes on one core; grows with the cube of the points.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, spearmanr
from scipy.stats import t as student_t
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, WhiteKernel

from tune.region.design import Design
from tune.region.kernels import AdditiveMatern, Known
from tune.region.slices import slice_sample
from tune.region.variation import PointNoise, point_noise

Floats = NDArray[np.float64]
NOISES = (1e-6, 1.5)
"""Bounds of the noise variance, of scores with unit variance."""
KERNELS, PATHS, PER_AXIS, JOINT = 16, 12, 48, 192
"""Draws of hyper-parameters, functions drawn under each, random features of a curve and of a surface."""
EQUAL = 1e-9
"""Scores whose spread is below this are one score: a response that is exactly flat has no shape to fit."""


@dataclass(frozen=True)
class Drawn:
    """Posterior of m under one draw of the hyper-parameters, on the scale of unit variance."""

    kernel: Kernel
    """Kernel of m, without constant and noise."""
    mean_weights: Floats
    """(N,) of the posterior mean."""
    path_weights: Floats
    """(N, PATHS) of the drawn functions."""
    noise: float
    """Standard deviation of the noise of a point."""
    levels: Floats
    """(PATHS,) constants of the drawn functions."""
    left_out: Floats
    """(N,) leave-one-out predictions of the points."""
    frequencies: Floats
    """(D, R) of random Fourier features."""
    phases: Floats
    """(R,)."""
    amplitudes: Floats
    """(R, PATHS)."""

    def prior(self, at: Floats) -> Floats:
        """(M, PATHS) the drawn functions before anything was seen, at `at` (M, D)."""
        return np.asarray(np.cos(at @ self.frequencies + self.phases) @ self.amplitudes, dtype=np.float64)


@dataclass(frozen=True)
class Surrogate:
    """Posterior of the macro response m and of each line's own response."""

    points: Floats
    """(N, D) of the design."""
    centre: float
    """Mean macro score, added to all that is returned."""
    scale: float
    """Standard deviation of the macro score; 0 where the response is exactly flat."""
    drawn: list[Drawn]
    """KERNELS draws; empty where the response is exactly flat."""
    noise: float
    """Standard deviation of a point's macro score from the noise of training, in score."""
    line_spread: float
    """Standard deviation, in score, of what a line answers in its own way; 0 where there is one line."""
    line_offsets: Floats
    """(F,) mean of each line minus that of all."""
    line_model: GaussianProcessRegressor | None
    """Deviations of the F lines from their mean; None where they have no shape."""
    r2: float
    """Leave-one-out R2 of the macro score; NaN where the response is exactly flat."""
    ranks: float
    """Leave-one-out Spearman correlation; NaN likewise."""

    def mean(self, at: Floats) -> Floats:
        """(M,) posterior mean of m at positions `at` (M, D)."""
        if not self.drawn:
            return np.full(len(at), self.centre)
        parts = [own.kernel(at, self.points) @ own.mean_weights + own.mean_weights.sum() for own in self.drawn]
        return np.asarray(self.centre + self.scale * np.mean(parts, axis=0), dtype=np.float64)

    def draws(self, at: Floats) -> Floats:
        """(KERNELS * PATHS, M) functions drawn from the posterior, at `at` (M, D); the same functions at every call."""
        if not self.drawn:
            return np.full((KERNELS * PATHS, len(at)), self.centre)
        parts = [own.prior(at) + own.levels + own.kernel(at, self.points) @ own.path_weights for own in self.drawn]
        return np.asarray(self.centre + self.scale * np.concatenate(parts, axis=1).T, dtype=np.float64)

    def lines(self, at: Floats) -> Floats:
        """(M, F) expected score of each line of the design."""
        own = np.zeros((len(at), len(self.line_offsets))) if self.line_model is None else self.line_model.predict(at)
        own = own.reshape(len(at), -1)
        return np.asarray(self.mean(at)[:, None] + self.line_offsets + self.line_spread * own, dtype=np.float64)

    def without_each_line(self, at: Floats) -> Floats:
        """(F, M) posterior mean of m as the other lines alone would have it; (0, M) with one line."""
        lines = self.lines(at)
        count = lines.shape[1]
        own = (lines - lines.mean(axis=1, keepdims=True)) / max(count - 1, 1)
        return np.asarray(self.mean(at) - own.T if count > 1 else np.empty((0, len(at))), dtype=np.float64)


def fit_surrogate(design: Design, seed: int = 0) -> Surrogate:
    """The posterior given the finished points; needs three points and one numeric axis at least."""
    points, lines = design.points, design.scores.mean(axis=2)
    deviations = lines - lines.mean(axis=1, keepdims=True)
    offsets = deviations.mean(axis=0)
    line_model, spread = _line_model(points, deviations - offsets, seed)
    noise = point_noise(design.scores)
    if not noise.freedom and line_model is not None:
        # Without repeats the noise is what the lines' own smooth answers leave over.
        left = spread * float(np.sqrt(line_model.kernel_.k2.noise_level / len(offsets)))
        noise = PointNoise(left, len(points))
    macro = lines.mean(axis=1)
    scale = float(macro.std())
    if scale < EQUAL:
        return Surrogate(points, float(macro.mean()), 0.0, [], 0.0, spread, offsets, line_model, *2 * (float("nan"),))
    scores = (macro - macro.mean()) / scale
    shared = None if line_model is None else _of_few_lines(line_model, (spread / scale) ** 2 / len(offsets))
    kernels = _hyperparameters(points, scores, shared, PointNoise(noise.sd / scale, noise.freedom), seed)
    rng = np.random.default_rng(seed)
    drawn = [_draw(kernel, points, scores, rng) for kernel in kernels]
    left_out = np.mean([own.left_out for own in drawn], axis=0)
    return Surrogate(
        points=points,
        centre=float(macro.mean()),
        scale=scale,
        drawn=drawn,
        noise=float(np.median([own.noise for own in drawn])) * scale,
        line_spread=spread,
        line_offsets=offsets,
        line_model=line_model,
        r2=1.0 - float(((scores - left_out) ** 2).mean()),
        ranks=float(spearmanr(scores, left_out).statistic) if np.ptp(left_out) > 0 else 0.0,
    )


def _line_model(points: Floats, deviations: Floats, seed: int) -> tuple[GaussianProcessRegressor | None, float]:
    """Deviations (N, F) of the lines as smooth functions with one kernel, in units of the returned spread."""
    spread = float(deviations.std())
    if deviations.shape[1] < 2 or spread < EQUAL:
        return None, 0.0
    kernel = AdditiveMatern(1.0, 0.001, np.full(points.shape[1], 4.0)) + WhiteKernel(0.5, NOISES)
    with warnings.catch_warnings():
        # A length scale at its bound says that an axis does not matter, which is an answer.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = GaussianProcessRegressor(kernel, alpha=1e-10, random_state=seed)
        return model.fit(points, deviations / spread), spread


def _of_few_lines(model: GaussianProcessRegressor, factor: float) -> Kernel:
    """Kernel of the mean of the lines' own answers, with nothing left to fit.

    F deviations from a mean vary by (F - 1) / F of what F independent answers would. That their variance was estimated
    from few lines widens intervals as Student's t does.
    """
    lines = model.y_train_.shape[1]
    own = model.kernel_.k1
    factor *= (student_t.ppf(0.975, lines - 1) / norm.ppf(0.975)) ** 2 * lines / (lines - 1)
    return Known(own.curves * factor, own.surface * factor, own.length_scale)


def _hyperparameters(
    points: Floats, scores: Floats, shared: Kernel | None, noise: PointNoise, seed: int
) -> list[Kernel]:
    """KERNELS draws of the kernel of all that is in the macro score: constant, curves and surface, noise, lines.

    Priors: log-uniform variances, log-normal length scales that grow with the root of D (Hvarfner et al. 2024,
    arXiv:2402.02229), and the noise within what was measured between seeds.
    """
    axes, known = points.shape[1], noise.freedom > 0
    level = float(np.clip(noise.sd**2 if known else 0.1, *NOISES))
    centre = np.sqrt(2) + np.log(axes) / 2
    kernel = AdditiveMatern(1.0, 0.1, np.full(axes, np.exp(centre) / 3)) + WhiteKernel(level, NOISES)
    kernel += ConstantKernel(1.0, "fixed") if shared is None else ConstantKernel(1.0, "fixed") + shared
    model = GaussianProcessRegressor(kernel, alpha=1e-10, optimizer=None).fit(points, scores)
    width = np.sqrt(2.0 / noise.freedom) if known else np.inf

    def log_density(theta: Floats) -> float:
        prior = -0.5 * float(
            (((theta[1 : axes + 1] - centre) / np.sqrt(3)) ** 2).sum() + ((theta[-1] - np.log(level)) / width) ** 2
        )
        return float(model.log_marginal_likelihood(theta, clone_kernel=False)) + prior

    rng = np.random.default_rng(seed)
    start, bounds = model.kernel_.theta.copy(), model.kernel_.bounds.copy()
    return [kernel.clone_with_theta(theta) for theta in slice_sample(log_density, start, bounds, KERNELS, rng)]


def _draw(kernel: Kernel, points: Floats, scores: Floats, rng: np.random.Generator) -> Drawn:
    """Functions from the posterior under one kernel: draws from the prior, moved to what was seen (Matheron)."""
    smooth, noise, rest = kernel.k1.k1, kernel.k1.k2, kernel.k2
    frequencies, sizes = smooth.features(PER_AXIS, JOINT, rng)
    own = Drawn(
        kernel=smooth,
        frequencies=frequencies,
        phases=rng.uniform(0.0, 2 * np.pi, len(sizes)),
        amplitudes=rng.standard_normal((len(sizes), PATHS)) * sizes[:, None],
        noise=float(np.sqrt(noise.noise_level)),
        mean_weights=np.empty(0),
        path_weights=np.empty((0, PATHS)),
        levels=np.empty(0),
        left_out=np.empty(0),
    )
    # What is not of m: noise, and the own answers of few lines, which leave m unknown by as much.
    blurred = noise(points) + (rest(points) - 1.0)
    inverse = np.linalg.inv(smooth(points) + 1.0 + blurred)
    errors = np.linalg.cholesky(blurred) @ rng.standard_normal((len(points), PATHS))
    levels = rng.standard_normal(PATHS)
    mean_weights = inverse @ scores
    path_weights = inverse @ (scores[:, None] - own.prior(points) - levels - errors)
    return replace(
        own,
        mean_weights=mean_weights,
        path_weights=path_weights,
        levels=levels + path_weights.sum(axis=0),
        left_out=scores - mean_weights / np.diag(inverse),
    )
