"""The lengthscale of a kernel whose family and shape are known, from the covariance of sequences by lag.

The curve a gamma(lag; l) is fitted to a covariance profile by least squares, lags weighed by their number of pairs. The
best amplitude a is known for each l, so that the squared error left is a function of l alone; l is the best one of a
grid in steps of `STEP`. Beside `probes.decay.fit` there is no floor and no shape to find, so that a few hundred
sequences are enough, and noise that is independent from frame to frame can be left out with lag 0.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probes.capture.lags import fold_lags, lag_means, pairs_per_lag
from unrolled.kernels import TemporalKernel

__all__ = ["known_lengthscale", "lag_products"]

STEP = 0.004
"""Relative step of the grid of lengthscales."""
SMALLEST, LARGEST = 0.1, 4.0
"""Ends of the grid, in frames and in lengths of the sequence."""


def lag_products(sequences: Float[Tensor, "n N d"]) -> Float[np.ndarray, "n N"]:
    """Covariance of every sequence by lag 0 to N - 1, the mean over pairs and values, about the mean of all sequences.

    The mean over sequences of what is returned is the covariance; it falls short of it by 1/n.
    """
    centred = sequences.double() - sequences.double().mean(dim=0)
    products = torch.einsum("nia,nja->nij", centred, centred) / centred.shape[-1]
    return fold_lags(lag_means(products).numpy())[1]


def known_lengthscale(
    profiles: Float[np.ndarray, "count lags"], kernel: TemporalKernel, length: int, first: int = 0
) -> Float[np.ndarray, " count"]:
    """The lengthscale of each of many covariance profiles; an end of the grid where there is no dependence to fit.

    Args:
        profiles: covariance at lags first, first + 1, ...
        kernel: of the family and shape that are known; its own lengthscale does not matter.
        length: N, frames of the sequences.
        first: lag of the first column.
    """
    lags = first + np.arange(profiles.shape[1])
    weights = pairs_per_lag(length)[length - 1 + lags]
    grid = np.exp(np.arange(np.log(SMALLEST), np.log(LARGEST * length), STEP))
    curves = kernel(kernel.lengthscale * lags / grid[:, None]).numpy()  # every family is one of lag over lengthscale
    # |p - a c|^2 is least for a = p.c / c.c, where it is |p|^2 - (p.c)^2 / c.c; an amplitude is positive.
    along = np.maximum((profiles * weights) @ curves.T, 0.0)
    return grid[np.argmax(along**2 / (weights * curves**2).sum(axis=1), axis=1)]
