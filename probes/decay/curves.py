"""The kernel families as curves for fitting: many parameters at once, with their derivatives.

A family is gamma(lag; lengthscale, shape); its shape is the power, or the smoothness of a Matern kernel. Fits search
log lengthscale and log shape. `unrolled.kernels` states the families one kernel at a time; here they are evaluated for
a whole batch, in float64. With r = lag/lengthscale and dots for derivatives (derived):

    exponential       q = r^p           gamma = exp(-q)      d/d log l = p q gamma                d/dp = -q log(r) gamma
    polynomial        u = log(1+r^2)    gamma = exp(-p u/2)  d/d log l = p r^2/(1+r^2) gamma      d/dp = -u/2 gamma
    rough polynomial  u = log(1+r)      gamma = exp(-p u)    d/d log l = p r/(1+r) gamma          d/dp = -u gamma
    logarithmic       w = 1+log(1+r^2)  gamma = w^-p         d/d log l = 2 p r^2/(1+r^2) gamma/w  d/dp = -log(w) gamma

A Matern kernel costs a Bessel function and has no closed derivative in its smoothness. It is read from a table of gamma
over (log r, log nu) by a cubic B-spline, whose error is below `TABLE_ERROR` (measured against `Matern`).
"""

import math
from functools import cache

import numpy as np
from scipy import ndimage

from unrolled.kernels import KERNELS, Matern, TemporalKernel

__all__ = ["SHAPE_RANGES", "TABLE_ERROR", "curves", "kernel_of"]

SHAPE_RANGES = {family: (0.1, 2.0 if family == "exponential" else 8.0) for family in KERNELS}
"""Accepted shapes; the exponential family stops at 2, where positive definiteness does."""
TABLE_ERROR = {"matern": 2e-7}
"""Error of gamma in families that are read from a table; others are exact to rounding."""
RATIO_STEP, SHAPE_STEP = 0.04, 0.08
LOG_RATIO = (-13.0, 9.0)
"""Range of log(lag/lengthscale) in the Matern table; what lies outside is read at its edge."""
PAD = 8
"""Cells beyond the range that is read, since the spline is inexact at the ends of its table."""


def kernel_of(family: str, lengthscale: float, shape: float) -> TemporalKernel:
    """The kernel of a family with these parameters."""
    return KERNELS[family](lengthscale, shape)  # pyright: ignore[reportCallIssue]


@cache
def _matern_table() -> tuple[np.ndarray, float, float]:
    """(B-spline coefficients of gamma over log r and log nu, first log r, first log nu)."""
    low, high = (math.log(end) for end in SHAPE_RANGES["matern"])
    log_nu = low + SHAPE_STEP * np.arange(-PAD, math.ceil((high - low) / SHAPE_STEP) + PAD + 1)
    start = LOG_RATIO[0] - PAD * RATIO_STEP
    ratio = np.exp(np.arange(start, LOG_RATIO[1] + PAD * RATIO_STEP, RATIO_STEP))
    values = np.stack([Matern(1.0, math.exp(row))(ratio).numpy() for row in log_nu], axis=1)
    return np.asarray(ndimage.spline_filter(values, order=3, mode="mirror")), start, float(log_nu[0])


def _spline_weights(offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (..., 4) of a uniform cubic B-spline at `offset` in [0, 1) of a cell, and their derivatives."""
    u, v = offset, 1 - offset
    weights = np.stack([v**3, 3 * u**3 - 6 * u**2 + 4, 3 * v**3 - 6 * v**2 + 4, u**3], axis=-1) / 6
    slopes = np.stack([-(v**2), 3 * u**2 - 4 * u, -(3 * v**2 - 4 * v), u**2], axis=-1) / 2
    return weights, slopes


def _matern(log_ratio: np.ndarray, log_shape: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """gamma and its derivatives in log r and log nu; log_ratio (batch, n), log_shape (batch, 1)."""
    table, first_ratio, first_shape = _matern_table()
    inside = np.clip(log_ratio, *LOG_RATIO)
    place, row = (inside - first_ratio) / RATIO_STEP, (log_shape - first_shape) / SHAPE_STEP
    cell, row_cell = place.astype(int), row.astype(int)
    a, da = _spline_weights(place - cell)  # (batch, n, 4)
    b, db = _spline_weights(row - row_cell)  # (batch, 1, 4)
    near = np.arange(-1, 3)
    index = (cell[..., None] + near)[..., None] * table.shape[1] + (row_cell[..., None] + near)[..., None, :]
    values = table.ravel()[index]  # (batch, n, 4, 4)
    mixed = values @ b[..., None]  # (batch, n, 4, 1)
    gamma, d_ratio = ((weights[..., None, :] @ mixed)[..., 0, 0] for weights in (a, da))
    d_shape = (a[..., None, :] @ (values @ db[..., None]))[..., 0, 0]
    return gamma, d_ratio * (inside == log_ratio) / RATIO_STEP, d_shape / SHAPE_STEP


def curves(
    family: str, lag: np.ndarray, log_lengthscale: np.ndarray, log_shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """gamma and its derivatives in log lengthscale and in log shape, each (batch, n), float64.

    Args:
        family: a name in `unrolled.kernels.KERNELS`.
        lag: (n,) lags >= 0.
        log_lengthscale: (batch,) natural logarithms.
        log_shape: (batch,) natural logarithms, within `SHAPE_RANGES`.
    """
    ratio = lag / np.exp(log_lengthscale)[:, None]  # (batch, n)
    shape = np.exp(log_shape)[:, None]
    log_ratio = np.log(np.where(lag > 0, ratio, 1.0))
    if family == "exponential":
        q = np.where(lag > 0, np.exp(np.minimum(shape * log_ratio, 700.0)), 0.0)
        gamma = np.exp(-np.minimum(q, 700.0))
        fall = shape * np.where(q < 700, q, 0.0) * gamma
        return gamma, fall, -fall * log_ratio
    if family == "matern":
        gamma, d_ratio, d_shape = _matern(log_ratio, log_shape[:, None])
        zero = lag == 0
        return np.where(zero, 1.0, gamma), np.where(zero, 0.0, -d_ratio), np.where(zero, 0.0, d_shape)
    if family == "rough_polynomial":
        u = np.log1p(ratio)
        gamma = np.exp(-shape * u)
        return gamma, shape * ratio / (1 + ratio) * gamma, -shape * u * gamma
    square = ratio**2
    u, share = np.log1p(square), square / (1 + square)
    if family == "polynomial":
        gamma = np.exp(-shape / 2 * u)
        return gamma, shape * share * gamma, -shape / 2 * u * gamma
    log_w = np.log1p(u)
    gamma = np.exp(-shape * log_w)
    return gamma, 2 * shape * share * gamma / (1 + u), -shape * log_w * gamma
