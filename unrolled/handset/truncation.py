"""The covariance cut off at a lag: C_{t,J} = alpha_t^2 Gamma_J (x) Sigma + sigma_t^2 I, Gamma_J = Gamma on lags below
J.

|Gamma - Gamma_J| <= delta_J = 2 sum_{l=J}^{N-1} gamma(l), the largest absolute row sum (derived). Truncation can
break positive definiteness: OU of lengthscale 8 at J = 16 has an eigenvalue of -0.047 at t = 0.01, where every
iteration diverges. Since C_t = alpha_t^2 (Gamma (x) Sigma + tau I) with tau = exp(t) - 1, which increases in t, what
holds at the smallest t holds at all.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import InputError
from unrolled.diffusion import alpha
from unrolled.kernels import TemporalKernel
from unrolled.process import GaussianProcess

__all__ = ["TruncatedCovariance", "truncate"]

SHARE = 10.0
"""The default J leaves alpha_t^2 delta_J |Sigma| below m_t over this."""


@dataclass(frozen=True)
class TruncatedCovariance:
    """C_{t,J} of a process.

    Attributes:
        process: with a temporal kernel.
        lags: J, 1..N; N is no truncation.
    """

    process: GaussianProcess
    lags: int

    @property
    def kernel(self) -> TemporalKernel:
        """gamma; `truncate` has refused processes without one."""
        return cast(TemporalKernel, self.process.temporal)

    @cached_property
    def temporal(self) -> Float[Tensor, "N N"]:
        """Gamma_J, float64."""
        position = torch.arange(self.process.length)
        near = (position[:, None] - position).abs() < self.lags
        return self.process.temporal_covariance * near

    @cached_property
    def eigenvalues(self) -> Float[Tensor, " Nd"]:
        """Eigenvalues of Gamma_J (x) Sigma, ascending, float64; some are < 0 where truncation broke definiteness."""
        temporal = torch.linalg.eigvalsh(self.temporal)
        return (temporal[:, None] * self.process.spatial_eigen[0]).flatten().sort().values

    def extreme_eigenvalues(self, t: float) -> tuple[float, float]:
        """(m, L) of C_{t,J}."""
        smallest, largest = (alpha(t) ** 2 * (float(self.eigenvalues[k]) + math.expm1(t)) for k in (0, -1))
        return smallest, largest

    def operator(self, v: Float[Tensor, "batch N d"], t: float) -> Float[Tensor, "batch N d"]:
        """C_{t,J} v, in float64."""
        return alpha(t) ** 2 * (self.temporal @ v @ self.process.spatial_covariance + math.expm1(t) * v)

    def relative_error(self, t: float) -> float:
        """Bound on |s_J - s|/|s| for the solutions with C_{t,J} and C_t: a/m_J, a = alpha_t^2 delta_J |Sigma|.

        s_J - s = C_J^{-1} (C - C_J) s (derived).
        """
        tail = _delta(self.process, self.lags) * float(self.process.spatial_eigen[0][-1])
        return alpha(t) ** 2 * tail / self.extreme_eigenvalues(t)[0]


def _delta(process: GaussianProcess, lags: int) -> float:
    """delta_J."""
    return 2 * float(process.temporal_covariance[0, lags:].sum())


def truncate(process: GaussianProcess, lags: int | None, smallest_t: float) -> TruncatedCovariance:
    """The truncation at `lags`, or at the smallest J with alpha_t^2 delta_J |Sigma| <= m_t/10 from `smallest_t` on.

    Raises:
        InputError: process without a kernel; `lags` not in 1..N, or one that leaves C_{t,J} indefinite, with the
            smallest larger J that does not.
    """
    if not isinstance(process.temporal, TemporalKernel):
        raise InputError(
            "process: its temporal covariance is a matrix, which lag heads cannot hold; accepted: a kernel"
        )
    if lags is None:
        spatial = process.spatial_eigen[0]
        smallest = float(process.temporal_eigen[0][0] * spatial[0]) + math.expm1(smallest_t)
        tails = 2 * process.temporal_covariance[0].flip(0).cumsum(0).flip(0) * spatial[-1]  # delta_J at index J
        allowed = (tails <= smallest / SHARE).nonzero().flatten()
        lags = max(1, int(allowed[0])) if len(allowed) else process.length
        # delta_J is a bound: a J that satisfies it is admissible, since m_J >= m - a >= 9 m/10.
    if not isinstance(lags, int) or not 1 <= lags <= process.length:
        raise InputError(f"truncation: {lags!r} is not accepted; accepted: an integer in [1, {process.length}]")
    found = TruncatedCovariance(process, lags)
    if found.extreme_eigenvalues(smallest_t)[0] <= 0:
        admissible = next(
            j for j in range(lags + 1, process.length + 1)
            if TruncatedCovariance(process, j).extreme_eigenvalues(smallest_t)[0] > 0
        )  # fmt: skip
        raise InputError(
            f"truncation: {lags} leaves the covariance indefinite at t = {smallest_t:g} (smallest eigenvalue"
            f" {found.extreme_eigenvalues(smallest_t)[0]:.2g}); the smallest admissible one above it is {admissible}"
        )
    return found
