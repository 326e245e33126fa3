"""The curves that a profile of attention by lag is held against, and the lags on which it is fitted."""

import numpy as np

from probes.capture.lags import lag_means
from unrolled.checkpoint import Checkpoint
from unrolled.handset.gaussian_heads import dyadic_widths
from unrolled.process import GaussianProcess

__all__ = ["FIT_LAG_SHARE", "fit_lag_count", "gaussian_by_lag", "inverse_by_lag", "truth_by_lag", "truth_name"]

FIT_LAG_SHARE = 0.5
"""Fits use lags up to this share of the sequence."""


def fit_lag_count(length: int) -> int:
    """How many lags, 0 among them, fits of a sequence of N frames use."""
    return max(int(FIT_LAG_SHARE * length) + 1, min(length, 8))


def truth_name(checkpoint: Checkpoint) -> str:
    """What the covariance of the data is called: true, or empirical for real data."""
    return "true covariance" if checkpoint.exact else "empirical covariance"


def truth_by_lag(process: GaussianProcess) -> np.ndarray:
    """(N,) mean of Gamma along each diagonal: gamma(lag) itself for a stationary kernel."""
    return lag_means(process.temporal_covariance)[process.length - 1 :].numpy()


def inverse_by_lag(process: GaussianProcess, t: float) -> np.ndarray:
    """(N,) mean along each diagonal of the spatial trace of C_t^{-1}, divided by its value at lag 0.

    The solution operator rather than the covariance: what a one-layer map from x to the score would hold.
    """
    u = process.temporal_eigen[1]
    inverse = (1 / process.eigenvalues(t)).sum(dim=1)
    profile = lag_means((u * inverse) @ u.T)[process.length - 1 :].numpy()
    return profile / profile[0]


def gaussian_by_lag(process: GaussianProcess, truth: np.ndarray) -> np.ndarray:
    """(N,) exp(-b lag^2) of the dictionary width b nearest to `truth`: what a single head of a hand-set DiT shows.

    The dictionary is the same for every covariance, so a head like this is no evidence of one.
    """
    lag = np.arange(process.length)
    heads = np.exp(-dyadic_widths(process.length, 1).numpy()[:, None] * lag**2)
    return heads[np.argmin(((heads - truth) ** 2).sum(axis=1))]
