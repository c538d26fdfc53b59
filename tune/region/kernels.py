"""The kernel of a response that is mostly a sum over settings: per axis its own curve, and one surface of all together.

    k(x, x') = a sum_k matern(|x_k - x'_k| / l_k) + i matern(||(x - x') / l||)        (Matern 5/2, shared length scales)

With tens of points in five axes a surface of all axes alone sees a dome where there is a plateau. A curve per axis has
all points to itself (Duvenaud et al. 2011, arXiv:1112.4394): on the plateau of bench/region_recovery.py the left-out R2
rose from .90 to .96 and the root mean square error fell from .0058 to .0049, of which .0035 are the lines'.
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
    """`a`, `i` and the length scales of D axes."""

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
        return Hyperparameter("length_scale", "numeric", LENGTHS, np.size(self.length_scale))

    def __call__(self, X: Floats, Y: Floats | None = None, eval_gradient: bool = False) -> Any:  # noqa: N803
        """(N, M) covariance of positions X (N, D) and Y (M, D), and its gradient (N, N, 2 + D) by logarithms."""
        scaled = X / self.length_scale
        other = scaled if Y is None else Y / self.length_scale
        # Axis by axis: all differences at once would not fit into a cache.
        total, squares = np.zeros((len(scaled), len(other))), np.zeros((len(scaled), len(other)))
        apart = [np.abs(one[:, None] - two) for one, two in zip(scaled.T, other.T, strict=True)]
        for own in apart:
            total += _matern(own)
            squares += own**2
        distance = np.sqrt(squares)
        joint = _matern(distance)
        covariance = self.curves * total + self.surface * joint
        if not eval_gradient:
            return covariance
        slope = self.surface * _slope(distance)
        lengths = [own**2 * (self.curves * _slope(own) + slope) for own in apart]
        # In the order of the names, as scikit-learn has the hyper-parameters.
        return covariance, np.stack([self.curves * total, *lengths, self.surface * joint], axis=-1)

    def diag(self, X: Floats) -> Floats:  # noqa: N803
        """(N,) variance at each position."""
        return np.full(len(X), self.curves * np.size(self.length_scale) + self.surface)

    def features(self, per_axis: int, joint: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Frequencies (D, R) and amplitudes (R,) of random Fourier features, R = D * per_axis + joint.

        The spectral density of the Matern 5/2 kernel is a multivariate t distribution with five degrees of freedom.
        """
        axes = np.size(self.length_scale)
        single = np.kron(np.eye(axes), np.ones(per_axis)) * rng.standard_t(5.0, axes * per_axis)
        shared = rng.standard_normal((axes, joint)) * np.sqrt(5.0 / rng.chisquare(5.0, joint))
        sizes = np.repeat([self.curves / per_axis, self.surface / joint], [axes * per_axis, joint])
        return np.hstack([single, shared]) / np.reshape(self.length_scale, (-1, 1)), np.sqrt(2.0 * sizes)


def _matern(apart: Floats) -> Floats:
    scaled = np.sqrt(5.0) * apart
    return np.asarray((1.0 + scaled + scaled**2 / 3.0) * np.exp(-scaled), dtype=np.float64)


def _slope(apart: Floats) -> Floats:
    """Change of the kernel with the logarithm of an axis' length scale, over the squared difference on that axis."""
    scaled = np.sqrt(5.0) * apart
    return np.asarray(5.0 / 3.0 * (1.0 + scaled) * np.exp(-scaled), dtype=np.float64)


class Known(AdditiveMatern):
    """The same with nothing left to fit."""

    @property
    def hyperparameters(self) -> list[Hyperparameter]:
        """None."""
        return []
