"""The kernel of a response that is mostly a sum over settings: per axis its own curve, and one surface of all together.

    k(x, x') = a sum_k matern(|x_k - x'_k| / l_k) + i matern(||(x - x') / l||)        (Matern 5/2, shared length scales)

With tens of points in five axes a surface of all axes alone sees a dome where there is a plateau: its top comes out
two tolerances too high and the region a tenth of its size (bench/region_recovery.py, `surface`). A curve per axis
has all points to itself (Duvenaud et al. 2011, arXiv:1112.4394).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel, StationaryKernelMixin

Floats = NDArray[np.float64]
VARIANCES, LENGTHS = (1e-5, 1e3), (0.05, 100.0)
"""Bounds of the variances a and i and of length scales (in widths of the box), of scores with unit variance."""


class AdditiveMatern(StationaryKernelMixin, Kernel):
    """`a`, `i` and the length scales of D axes; sampled, never maximised, so it has no gradient."""

    def __init__(self, curves: float, surface: float, length_scale: Floats) -> None:
        """`curves` is a, `surface` i, `length_scale` (D,)."""
        self.curves, self.surface, self.length_scale = curves, surface, length_scale

    @property
    def hyperparameter_curves(self) -> Hyperparameter:
        """Variance of each axis' curve."""
        return Hyperparameter("curves", "numeric", VARIANCES)

    @property
    def hyperparameter_surface(self) -> Hyperparameter:
        """Variance of the surface."""
        return Hyperparameter("surface", "numeric", VARIANCES)

    @property
    def hyperparameter_length_scale(self) -> Hyperparameter:
        """Length scale per axis."""
        return Hyperparameter("length_scale", "numeric", LENGTHS, len(self.length_scale))

    def __call__(self, X: Floats, Y: Floats | None = None, eval_gradient: bool = False) -> Any:  # noqa: N803
        """(N, M) covariance of positions X (N, D) and Y (M, D)."""
        if eval_gradient:
            raise NotImplementedError("the hyper-parameters are sampled")
        scaled = X / self.length_scale
        other = scaled if Y is None else Y / self.length_scale
        # Axis by axis: all differences at once would not fit into a cache.
        total, squares = np.zeros((len(scaled), len(other))), np.zeros((len(scaled), len(other)))
        for one, two in zip(scaled.T, other.T, strict=True):
            apart = np.abs(one[:, None] - two)
            total += _matern(apart)
            squares += apart**2
        return self.curves * total + self.surface * _matern(np.sqrt(squares))

    def diag(self, X: Floats) -> Floats:  # noqa: N803
        """(N,) variance at each position."""
        return np.full(len(X), self.curves * len(self.length_scale) + self.surface)

    def features(self, per_axis: int, joint: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Frequencies (D, R) and amplitudes (R,) of random Fourier features, R = D * per_axis + joint.

        The spectral density of the Matern 5/2 kernel is a multivariate t distribution with five degrees of freedom.
        """
        axes = len(self.length_scale)
        single = np.kron(np.eye(axes), np.ones(per_axis)) * rng.standard_t(5.0, axes * per_axis)
        shared = rng.standard_normal((axes, joint)) * np.sqrt(5.0 / rng.chisquare(5.0, joint))
        sizes = np.repeat([self.curves / per_axis, self.surface / joint], [axes * per_axis, joint])
        return np.hstack([single, shared]) / np.reshape(self.length_scale, (-1, 1)), np.sqrt(2.0 * sizes)


def _matern(apart: Floats) -> Floats:
    scaled = np.sqrt(5.0) * apart
    return np.asarray((1.0 + scaled + scaled**2 / 3.0) * np.exp(-scaled), dtype=np.float64)
