# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false
"""Closed-form distances between two Gaussian laws."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import InputError

__all__ = ["GaussianLaw", "kl_divergence", "total_variation_bound", "total_variation_of_kl", "wasserstein2"]


class GaussianLaw(NamedTuple):
    """A Gaussian law on R^n: mean (n,) and symmetric positive definite covariance (n, n), float64."""

    mean: Float[Tensor, " n"]
    covariance: Float[Tensor, "n n"]


def _check(p: GaussianLaw, q: GaussianLaw) -> None:
    for name, law in (("p", p), ("q", q)):
        n = len(law.mean)
        if law.mean.shape != p.mean.shape or law.covariance.shape != (n, n):
            raise InputError(
                f"{name}: mean {tuple(law.mean.shape)} and covariance {tuple(law.covariance.shape)} do not fit;"
                f" accepted: ({len(p.mean)},) and ({len(p.mean)}, {len(p.mean)})"
            )


def _cholesky(name: str, covariance: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    factor, info = torch.linalg.cholesky_ex(covariance.double())
    if int(info):
        raise InputError(f"{name}: its covariance is not positive definite; accepted: a positive definite one")
    return factor


def kl_divergence(p: GaussianLaw, q: GaussianLaw) -> float:
    """KL(p || q) = 1/2 [tr(Q^-1 P) - n - log det(Q^-1 P) + (m_q - m_p)' Q^-1 (m_q - m_p)], float64.

    Computed from the singular values w of L_Q^-1 L_P as sum w^2 - 1 - log w^2, whose terms are each >= 0, so that
    nothing cancels between them. Published: any text on information theory.

    Raises:
        InputError: shapes that differ, or a covariance that is not positive definite.
    """
    _check(p, q)
    p_root, q_root = _cholesky("p", p.covariance), _cholesky("q", q.covariance)
    ratio = torch.linalg.svdvals(torch.linalg.solve_triangular(q_root, p_root, upper=False))
    excess = ratio**2 - 1
    shift = torch.linalg.solve_triangular(q_root, (q.mean - p.mean).double()[:, None], upper=False)
    return float((excess - torch.log1p(excess)).sum() + shift.square().sum()) / 2


def wasserstein2(p: GaussianLaw, q: GaussianLaw) -> float:
    """W2(p, q), W2^2 = |m_p - m_q|^2 + tr(P + Q - 2 (P^{1/2} Q P^{1/2})^{1/2}), float64.

    The trace is min over orthogonal O of |P^{1/2} - Q^{1/2} O|_F^2, attained where O is the orthogonal polar factor of
    Q^{1/2} P^{1/2}; evaluated in that form W2 keeps an absolute error of eps |P|^{1/2} n rather than its square root
    (published: Bhatia, Jain and Lim, Expo. Math. 37, 2019, eq. 3).

    Raises:
        InputError: shapes that differ, or a covariance that is not positive definite.
    """
    _check(p, q)
    p_root, q_root = _cholesky("p", p.covariance), _cholesky("q", q.covariance)
    left, _, right = torch.linalg.svd(q_root.T @ p_root)
    distance = (p_root - q_root @ (left @ right)).square().sum() + (p.mean - q.mean).double().square().sum()
    return math.sqrt(float(distance))


def total_variation_bound(p: GaussianLaw, q: GaussianLaw) -> float:
    """An upper bound of TV(p, q) in [0, 1]: the smaller of Pinsker's and Bretagnolle-Huber's, over both directions.

    sqrt(KL/2) (published: Pinsker) and sqrt(1 - exp(-KL)) (published: Bretagnolle and Huber 1979), with KL(p || q) or
    KL(q || p), since TV is symmetric.
    """
    return total_variation_of_kl(min(kl_divergence(p, q), kl_divergence(q, p)))


def total_variation_of_kl(kl: float) -> float:
    """The smaller of Pinsker's and Bretagnolle-Huber's bound on TV for a KL, or a bound on one."""
    return min(math.sqrt(kl / 2), math.sqrt(-math.expm1(-kl)))
