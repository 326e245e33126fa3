# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false
"""The covariance Gamma (x) Sigma of maximum likelihood, by the flip-flop iteration.

With S the sample covariance, written S_iajb over frames i, j and values a, b, the likelihood of Gamma (x) Sigma is
stationary where (published: Dutilleul, J. Stat. Comput. Simul. 64, 1999)

    Sigma_ab = (1/N) sum_ij (Gamma^{-1})_ij S_iajb,   Gamma_ij = (1/d) sum_ab (Sigma^{-1})_ab S_iajb.

Each equation maximises the likelihood over one factor, and the iteration applies them in turn. A factor c of Sigma can
go to Gamma; it is fixed by tr Sigma = d, as in the processes of this project.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import InputError
from unrolled.fit.moments import Moments, visible_directions
from unrolled.process import GaussianProcess

__all__ = ["flip_flop", "least_samples"]

TOLERANCE = 1e-12
"""Relative change of both factors in a sweep at which the iteration has converged."""
STALLED, ROUNDING = 10, 1e-6
"""Sweeps without a smaller change after which rounding, and no longer the iteration, makes a change below `ROUNDING`:
factors of condition 1e9, the largest that `visible_directions` lets pass, are inverted to about 1e-7."""
MOST_SWEEPS = 10_000


def least_samples(length: int, dim: int) -> int:
    """The fewest sequences for which a unique maximum exists with probability one, the mean being estimated too.

    With m = n - 1, g = gcd(N, d) and r = (N^2 + d^2 - m N d) / g^2 it does if r < 0, or if g = 1 and r <= 1
    (published: Derksen and Makam, arXiv 2007.10206, for independent draws of a law with a density). For d = 1 this is
    n > N, where the sample covariance becomes invertible.
    """
    g = math.gcd(length, dim)
    n = 2
    while not (r := (length**2 + dim**2 - (n - 1) * length * dim) // g**2) < 0 and not (g == 1 and r <= 1):
        n += 1
    return n


def flip_flop(sample: Moments, progress: Callable[[], object] = lambda: None) -> tuple[GaussianProcess, int]:
    """(the process of maximum likelihood, sweeps), in float64.

    It starts at Gamma = I and ends when neither factor changes by more than `TOLERANCE` in a sweep, in the relative
    Frobenius norm, or when a change below `ROUNDING` has not become smaller for `STALLED` sweeps, as happens with
    ill-conditioned factors. The likelihood is geodesically convex, so that the limit does not depend on the start
    (published: Wiesel, IEEE Trans. Signal Process. 60, 2012). Directions of `visible_directions` alone are fitted; in
    the others Gamma is 0.

    Args:
        sample: of at least `least_samples` sequences.
        progress: called after each sweep.

    Raises:
        InputError: a factor becomes singular, or `MOST_SWEEPS` sweeps are not enough: no maximum exists.
    """
    dim = sample.mean.shape[1]
    basis = visible_directions(sample)
    rank = basis.shape[1]
    s = torch.einsum("ir,iajb,js->rasb", basis, sample.covariance, basis)
    gamma, sigma = torch.eye(rank, dtype=s.dtype), torch.eye(dim, dtype=s.dtype)
    smallest, since = math.inf, 0
    for sweep in range(1, MOST_SWEEPS + 1):
        new_sigma = torch.einsum("ij,iajb->ab", _inverse(gamma), s) / rank
        new_sigma = new_sigma * (dim / new_sigma.trace())
        new_gamma = torch.einsum("ab,iajb->ij", _inverse(new_sigma), s) / dim
        change = max(float((new - old).norm() / new.norm()) for new, old in ((new_sigma, sigma), (new_gamma, gamma)))
        gamma, sigma = new_gamma, new_sigma
        progress()
        smallest, since = (change, 0) if change < smallest else (smallest, since + 1)
        if change <= TOLERANCE or (since >= STALLED and change <= ROUNDING):
            return _process(basis, gamma, sigma, sample.mean), sweep
    raise InputError(
        f"samples: no maximum of the likelihood is reached in {MOST_SWEEPS} sweeps; accepted: more sequences"
    )


def _inverse(matrix: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    factor, info = torch.linalg.cholesky_ex(matrix)
    if int(info):
        raise InputError("samples: the likelihood has no maximum, a factor is singular; accepted: more sequences")
    return torch.cholesky_inverse(factor)


def _process(
    basis: Float[Tensor, "N r"], gamma: Float[Tensor, "r r"], sigma: Float[Tensor, "d d"], mean: Float[Tensor, "N d"]
) -> GaussianProcess:
    temporal = basis @ gamma @ basis.T
    return GaussianProcess(len(basis), (temporal + temporal.T) / 2, (sigma + sigma.T) / 2, mean)
