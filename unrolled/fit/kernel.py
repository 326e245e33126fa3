# pyright: reportMissingTypeStubs=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The kernel of maximum likelihood: parameters of a temporal family, and Sigma in closed form.

For a given kernel the likelihood of Gamma (x) Sigma is largest at Sigma_ab = (1/N) sum_ij (Gamma^{-1})_ij S_iajb, with
S the sample covariance. What is left,

    d log det Gamma + N log det Sigma,

is minimised over the logarithms of the kernel's parameters by the simplex method of Nelder and Mead, from the best
point of a grid. Since gamma(0) = 1, Sigma carries the scale.
"""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import fields

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import InputError
from unrolled.fit.moments import Moments, visible_directions
from unrolled.kernels import TemporalKernel
from unrolled.process import GaussianProcess

__all__ = ["fit_kernel"]

SHAPES = (0.5, 1.0, 2.0)
"""Powers, or smoothnesses, of the grid; its lengthscales are 1, 2, 4, .. up to N."""
SMALLEST, LARGEST = 1e-2, (1e3, 1e2, 2.0)
"""Parameters lie between the smallest and the first of the largest that the family accepts, a lengthscale up to N times
beyond."""
EDGE, PRECISION = 0.3, 1e-8
"""Edge of the first simplex and of the last, in the logarithm. The likelihood itself ends no search: where Gamma is
nearly singular, its rounding is larger than any gain that could."""


def fit_kernel(
    sample: Moments, family: type[TemporalKernel], progress: Callable[[], object] = lambda: None
) -> tuple[GaussianProcess, TemporalKernel]:
    """(the process of maximum likelihood whose kernel is of `family`, that kernel), in float64.

    The likelihood is that of the sequences projected on `visible_directions`.

    Args:
        sample: mean and covariance of the sequences.
        family: class of kernels; its parameters are the fields of the class.
        progress: called after each evaluation of the likelihood.

    Raises:
        InputError: no kernel of the grid has a likelihood, or the search does not end; Sigma is singular.
    """
    length = len(sample.mean)
    basis = visible_directions(sample)
    s = torch.einsum("ir,iajb,js->rasb", basis, sample.covariance, basis)

    def objective(logarithms: Iterable[float]) -> float:
        progress()
        try:
            return _profile(family(*map(math.exp, logarithms)), basis, s)[0]
        except InputError:  # parameters that the family does not accept
            return math.inf

    scales = [2.0**k for k in range(int(math.log2(length)) + 1)]
    grid = itertools.product(scales, *[SHAPES] * (len(fields(family)) - 1))
    start = min(([math.log(value) for value in point] for point in grid), key=objective)
    if objective(start) == math.inf:
        raise InputError(f"temporal: no kernel {family.name} has a likelihood here; accepted: another family")
    simplex = np.vstack([start, start - EDGE * np.eye(len(start))])  # downwards: a power of 2 is the end of a family
    options = {"initial_simplex": simplex, "xatol": PRECISION, "fatol": math.inf, "maxiter": 2000}
    bounds = _bounds(family, length)
    found = scipy.optimize.minimize(objective, start, method="Nelder-Mead", bounds=bounds, options=options)
    if not found.success:
        raise InputError(f"temporal: the likelihood of a kernel {family.name} has no maximum; accepted: another family")
    kernel = family(*map(math.exp, found.x))
    return GaussianProcess(length, kernel, _profile(kernel, basis, s)[1], sample.mean), kernel


def _bounds(family: type[TemporalKernel], length: int) -> list[tuple[float, float]]:
    """(lower, upper) of the logarithm of every parameter."""

    def accepts(shape: float) -> bool:
        try:
            family(1.0, *[shape] * shapes)
        except InputError:
            return False
        return True

    shapes = len(fields(family)) - 1
    largest = next(shape for shape in LARGEST if accepts(shape))
    low = math.log(SMALLEST)
    return [(low, math.log(LARGEST[0] * length)), *[(low, math.log(largest))] * shapes]


def _profile(
    kernel: TemporalKernel, basis: Float[Tensor, "N r"], s: Float[Tensor, "r d r d"]
) -> tuple[float, Float[Tensor, "d d"]]:
    """(d log det Gamma + r log det Sigma, Sigma) of the best Sigma, infinite where Gamma is singular to rounding."""
    dim, rank = s.shape[1], s.shape[0]
    factor, info = torch.linalg.cholesky_ex(basis.T @ kernel.matrix(len(basis)) @ basis)
    if int(info):
        return math.inf, torch.eye(dim, dtype=s.dtype)
    sigma = torch.einsum("ij,iajb->ab", torch.cholesky_inverse(factor), s) / rank
    sigma = (sigma + sigma.T) / 2
    sign, logarithm = torch.linalg.slogdet(sigma)
    if float(sign) <= 0:
        return math.inf, sigma
    return float(2 * dim * factor.diagonal().log().sum() + rank * logarithm), sigma
