"""Weighted least squares of floor + amplitude * gamma(lag) for hundreds of profiles at once.

With W a metric on the lags, R'R = W, and u = R1/|R1|, the best floor is found by projecting u out: let M = (I - uu')R.
For given (lengthscale, shape) put g = M gamma and y = M profile; then amplitude = g.y/g.g and the residual is y -
amplitude g (variable projection, published: Golub and Pereyra, SIAM J. Numer. Anal. 10, 1973). What is left is a
problem in theta = (log lengthscale, log shape), solved for all profiles together: the best point of a grid of curves,
then Levenberg-Marquardt steps with the simplified Jacobian -amplitude (I - gg'/g.g) M dgamma/dtheta (published:
Kaufman, BIT 15, 1975; its J'r is the exact half gradient). Where no curve fits, J'J is far from the Hessian and such
steps creep, until they cannot be told from steps that have arrived; a symmetric rank-one secant update of the
difference, from the exact gradients, mends that (published: the structured secant of Dennis, Gay and Welsch, ACM Trans.
Math. Softw. 7, 1981, here in its simplest form). Parameters stay in a box; one at its edge with the gradient pointing
out is held.
"""

import math
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from probes.decay.curves import SHAPE_RANGES, curves

__all__ = ["BatchFit", "Projection", "lengthscale_range", "root_of"]

GRID = (40, 20)
"""Points in log lengthscale and log shape that are tried first."""
STEPS = 60
"""Most Levenberg-Marquardt steps; nearly all profiles need fewer than ten."""
STARTS = 5
"""Ranges of the shape from which a close fit starts, which keeps a local minimum from being taken for the answer."""
EDGE = 1e-5
"""Distance in log parameters at which a parameter counts as being at the edge of what is searched."""


def lengthscale_range(lag: np.ndarray) -> tuple[float, float]:
    """Accepted lengthscales: a fifth of the shortest positive lag to four times the longest."""
    return 0.2 * float(lag[lag > 0].min()), 4 * float(lag.max())


def root_of(weights: np.ndarray) -> np.ndarray:
    """R with R'R = W, for weights (n,) of the squared residuals or a metric W (n, n)."""
    return np.diag(np.sqrt(weights)) if weights.ndim == 1 else np.linalg.cholesky(weights).T


@lru_cache(maxsize=64)
def _grid(family: str, lag: bytes, shape: float | None) -> tuple[np.ndarray, np.ndarray]:
    """(parameters (points, 2), gamma at the lags) of the grid; equal lags are met again and again in a study."""
    distance = np.frombuffer(lag)
    lengths, shapes = lengthscale_range(distance), SHAPE_RANGES[family] if shape is None else (shape, shape)
    ends = zip(np.log([lengths, shapes]), GRID, strict=True)
    axes = [np.linspace(low, high, size if high > low else 1) for (low, high), size in ends]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    return points, curves(family, distance, *points.T)[0]


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("bn,bn->b", a, b)


@dataclass(frozen=True)
class BatchFit:
    """Fits of one family to many profiles; every array is (batch,).

    Attributes:
        log_lengthscale: natural logarithm, in the unit of the lags.
        log_shape: natural logarithm.
        amplitude: height of the decaying part at lag 0.
        floor: constant part.
        rss: residual sum of squares in the metric.
        edge: (batch, 2) -1 or 1 where (lengthscale, shape) is at the lower or upper end of what is searched, else 0.
    """

    log_lengthscale: np.ndarray
    log_shape: np.ndarray
    amplitude: np.ndarray
    floor: np.ndarray
    rss: np.ndarray
    edge: np.ndarray


class Projection:
    """The fit of one family at given lags in a given metric.

    Args:
        family: a name in `unrolled.kernels.KERNELS`.
        lag: (n,) lags >= 0, at least one of them positive.
        weights: (n,) weights of the squared residuals, or a positive definite metric (n, n).
        shape: holds the shape at this value.
    """

    def __init__(self, family: str, lag: np.ndarray, weights: np.ndarray, shape: float | None = None):
        self.family, self.lag = family, np.asarray(lag, dtype=float)
        root = root_of(np.asarray(weights, dtype=float))
        self._ones = root.sum(axis=1)
        self._size = float(self._ones @ self._ones)
        self._root = root
        self.metric = root - np.outer(self._ones, self._ones @ root) / self._size  # M
        self._grid, gamma = _grid(family, self.lag.tobytes(), shape)
        self.low, self.high = self._grid[0], self._grid[-1]
        candidates = gamma @ self.metric.T
        norms = np.sqrt(np.sum(candidates**2, axis=1, keepdims=True))
        self._candidates = np.where(norms > 1e-9 * math.sqrt(self._size), candidates / np.maximum(norms, 1e-300), 0.0)

    def fit(self, profiles: np.ndarray, near: tuple[float, float]) -> BatchFit:
        """Least squares of each row of `profiles` (batch, n), from (log lengthscale, log shape) or from the best grid
        point.

        For resamples: `near` is the fit of what was resampled, which keeps them in its valley where there are several.
        """
        y = profiles @ self.metric.T
        scores = (y @ self._candidates.T) ** 2
        best = np.argmax(scores, axis=1)
        start = np.clip(np.repeat([near], len(y), axis=0), self.low, self.high)
        gain = _dot(y, y) - scores[np.arange(len(y)), best] < self._evaluate(start, y)[0]
        return self._descend(profiles, y, np.where(gain[:, None], self._grid[best], start), 1e-6)

    def fit_closely(self, profiles: np.ndarray) -> BatchFit:
        """The fit of each row to rounding, the best of several: one from the best grid point of each range of the
        shape, and one with the largest shape."""
        y = profiles @ self.metric.T
        shapes = len(np.unique(self._grid[:, 1]))
        scores = ((y @ self._candidates.T) ** 2).reshape(len(y), len(self._grid) // shapes, shapes)
        starts = []
        for band in np.array_split(np.arange(shapes), min(STARTS, shapes)):
            inside = scores[:, :, band].reshape(len(y), scores.shape[1] * len(band))
            length, shape = np.unravel_index(np.argmax(inside, axis=1), (scores.shape[1], len(band)))
            starts.append(self._grid[length * shapes + band[shape]])
        if (
            shapes > 1
        ):  # a valley can be too flat to follow to the edge, where the answer often is: a Gaussian's power is 2
            top = np.argmax(scores[:, :, -1], axis=1) * shapes + shapes - 1
            starts.append(self._grid[top])
        profiles, targets = (np.tile(rows, (len(starts), 1)) for rows in (profiles, y))
        keep_shape = np.arange(len(targets)) >= min(STARTS, shapes) * len(y)
        fits = self._descend(profiles, targets, np.concatenate(starts), 1e-9, keep_shape)
        best = np.argmin(fits.rss.reshape(len(starts), -1), axis=0) * len(y) + np.arange(len(y))
        return BatchFit(**{field.name: getattr(fits, field.name)[best] for field in fields(fits)})

    def _descend(
        self,
        profiles: np.ndarray,
        y: np.ndarray,
        theta: np.ndarray,
        precision: float,
        keep_shape: np.ndarray | None = None,
    ) -> BatchFit:
        """Levenberg-Marquardt from theta (batch, 2), until a step moves it by less than `precision`, or should lower
        the residual sum by less than 1e-13 of it.

        Where no family fits, that sum is far above what it varies by between resamples, so its first digits settle
        nothing. `keep_shape` (batch,) says where the shape is not moved.
        """
        fixed = np.zeros((len(y), 2), dtype=bool)
        if keep_shape is not None:
            fixed[:, 1] = keep_shape
        state = self._evaluate(theta, y)
        damping = np.full(len(y), 1e-3)
        bend = np.zeros((len(y), 2, 2))
        active = np.arange(len(y))
        for _ in range(STEPS):
            if not len(active):
                break
            gradient = state[2][active]
            step, free = self._step(
                theta[active], gradient, state[3][active], bend[active], damping[active], fixed[active]
            )
            trial = np.clip(theta[active] + step, self.low, self.high)
            tried = self._evaluate(trial, y[active])
            old, new = state[0][active], tried[0]
            better = new < old
            moved = np.abs(trial - theta[active]).max(axis=1)
            accepted = active[better]
            change = (trial - theta[active])[better]
            missed = (tried[2] - gradient)[better] - np.einsum("bkl,bl->bk", (tried[3] + bend[active])[better], change)
            along = _dot(missed, change)
            clear = np.abs(along) > 1e-8 * np.sqrt(_dot(missed, missed) * _dot(change, change)) + 1e-300
            update = missed[:, :, None] * missed[:, None] / np.where(clear, along, 1.0)[:, None, None]
            bend[accepted] += np.where(clear[:, None, None], update, 0.0)
            theta[accepted] = trial[better]
            for kept, new_value in zip(state, tried, strict=True):
                kept[accepted] = new_value[better]
            expected = -np.sum(gradient * step, axis=1) * (1 + damping[active])  # of a step without damping, about
            damping[active] = np.where(better, np.maximum(damping[active] / 10, 1e-9), damping[active] * 10)
            settled = (moved < precision) | (expected <= 1e-13 * old) | ~free
            active = active[~settled & (damping[active] < 1e12)]
        rss, amplitude = state[0], state[1]
        gamma = curves(self.family, self.lag, *theta.T)[0]
        floor = ((profiles - amplitude[:, None] * gamma) @ self._root.T @ self._ones) / self._size
        edge = np.where(theta - self.low < EDGE, -1, np.where(self.high - theta < EDGE, 1, 0)) * (self.high > self.low)
        return BatchFit(theta[:, 0], theta[:, 1], amplitude, floor, rss, edge)

    def _evaluate(self, theta: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(rss, amplitude, half gradient (batch, 2), J'J (batch, 2, 2)) at theta."""
        gamma, d_length, d_shape = curves(self.family, self.lag, *theta.T)
        g, length_slope, shape_slope = (curve @ self.metric.T for curve in (gamma, d_length, d_shape))
        energy, product = _dot(g, g), _dot(g, y)
        safe = np.maximum(energy, 1e-28 * self._size)  # a curve that is constant to rounding leaves only the floor
        amplitude = np.where(energy > 1e-28 * self._size, product / safe, 0.0)
        residual = y - amplitude[:, None] * g
        # Both slopes are projected on what is orthogonal to g through their products alone.
        p, q = _dot(length_slope, g), _dot(shape_slope, g)
        jacobian = np.array([
            [_dot(length_slope, length_slope) - p * p / safe, _dot(length_slope, shape_slope) - p * q / safe],
            [_dot(length_slope, shape_slope) - p * q / safe, _dot(shape_slope, shape_slope) - q * q / safe],
        ])  # fmt: skip
        gradient = -amplitude * np.array([_dot(length_slope, residual), _dot(shape_slope, residual)])
        return _dot(residual, residual), amplitude, gradient.T, (amplitude**2 * jacobian).transpose(2, 0, 1)

    def _step(
        self,
        theta: np.ndarray,
        gradient: np.ndarray,
        normal: np.ndarray,
        bend: np.ndarray,
        damping: np.ndarray,
        fixed: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The damped step of each profile, and whether any of its parameters is free to move."""
        whole = normal + bend
        # The diagonal counts alone where the other parameter is held, so it must be positive by itself.
        sound = (whole[:, 0, 0] > 1e-3 * normal[:, 0, 0]) & (whole[:, 1, 1] > 1e-3 * normal[:, 1, 1])
        sound &= whole[:, 0, 0] * whole[:, 1, 1] - whole[:, 0, 1] ** 2 > 1e-6 * whole[:, 0, 0] * whole[:, 1, 1]
        normal = np.where(sound[:, None, None], whole, normal)
        stuck = fixed | ((theta <= self.low) & (gradient >= 0)) | ((theta >= self.high) & (gradient <= 0))
        a, b, d = normal[:, 0, 0], normal[:, 0, 1], normal[:, 1, 1]
        tiny = 1e-300 + 1e-15 * np.maximum(a, d)
        a, d = (1 + damping) * a + tiny, (1 + damping) * d + tiny
        b = np.where(stuck.any(axis=1), 0.0, b)
        gradient = np.where(stuck, 0.0, gradient)
        determinant = a * d - b**2
        step = -np.stack([d * gradient[:, 0] - b * gradient[:, 1], a * gradient[:, 1] - b * gradient[:, 0]], axis=1)
        return np.clip(step / determinant[:, None], -2.0, 2.0), ~stuck.all(axis=1)
