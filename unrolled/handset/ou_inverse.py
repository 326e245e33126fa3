"""The inverse of an Ornstein-Uhlenbeck covariance plus noise: exponentials of distances to mirrored frames.

Gamma_ij = rho^|i-j|, rho = e^(-1/lengthscale), i, j = 0..L, L = N - 1, and tau = sigma_t^2/(alpha_t^2 s) for an
eigenvalue s of Sigma. Then (Gamma + tau I)^{-1} = (I - B)/tau with B = (I + tau Gamma^{-1})^{-1}, and with

    T = (1-rho)/(1+rho),  P = 1 + tau T,  Q = 1 + tau/T,  w = (P Q)^(1/2),  R = (P/Q)^(1/2),
    r = (1-R)/(1+R),  c = r (R-T)/(R+T),  A = 1/(w (1 - c^2 r^(2L))),

    B_ij = A [ r^|i-j| + c r^(i+j) + c r^(2L-i-j) + c^2 r^(2L-|i-j|) ]   for every N >= 1.

The last three terms are *images*: the sequence mirrored at its first frame, at its last, and at both.

Proof. With a = tau (1+rho^2)/(1-rho^2) and q = tau rho/(1-rho^2), row i of I + tau Gamma^{-1} is (-q, 1+a, -q) inside;
at either end it is the same row applied to a sequence that goes on by x_{-1} = rho x_0 (at the last frame x_{L+1} =
rho x_L), since its diagonal entry is 1 + a - q rho. P + Q = 2 (1+a) and Q - P = 4q, so r = (Q^(1/2) - P^(1/2))/
(Q^(1/2) + P^(1/2)) solves q (r + 1/r) = 1 + a and w = q (1/r - r). The solutions of the inner rows are r^i and r^(-i).
f_i = r^(-i) + c r^i keeps x_{-1} = rho x_0 where r + c/r = rho (1 + c), which is c = r (rho-r)/(1 - rho r) =
r (R-T)/(R+T); g_j = f_{L-j} r^L keeps the other end. So the inverse is f_i g_j over its Wronskian for i <= j:
q (f_{i+1} g_i - f_i g_{i+1}) = w (1 - c^2 r^(2L)), and f_i g_j is the bracket. (derived)

Nothing small is divided by: R^2 - T^2 = (1-T^2)/Q and 1 - R^2 = tau (1-T^2)/(T Q), so that r, c and w - 1 are written
below without differences, and 0 < c < r rho, w > 1. For small tau B is near I; 1 - 1/w is then kept as (w-1)/w.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import InputError
from unrolled.kernels import Exponential, Matern, TemporalKernel
from unrolled.process import GaussianProcess

__all__ = ["OuInverse", "is_ou", "ou_inverse", "ou_lengthscale"]


FAR = 700.0
"""Largest rate: a lengthscale below 1/700 is white noise."""


@dataclass(frozen=True)
class OuInverse:
    """The numbers that make B, at each t and for each eigenvalue of Sigma, float64.

    Attributes:
        rate: -log r.
        excess: 1 - 1/w.
        direct: 1/w = A (1 - c^2 r^(2L)), of r^|i-j|.
        mirrored: A c, of r^(i+j) and of r^(2L-i-j).
        shifted: A c^2, of r^(2L-l) + r^(2L+l), l = i-j; the rest of c^2 r^(2L-|l|) stands in `direct`, as
            r^(2L-|l|) = r^(2L-l) + r^(2L+l) - r^(2L) r^|l|.
    """

    rate: Float[Tensor, "n d"]
    excess: Float[Tensor, "n d"]
    direct: Float[Tensor, "n d"]
    mirrored: Float[Tensor, "n d"]
    shifted: Float[Tensor, "n d"]


def is_ou(process: GaussianProcess) -> bool:
    """Whether a process is Ornstein-Uhlenbeck: Exponential(lengthscale, 1), or the Matern of smoothness 1/2."""
    kernel = process.temporal
    return (isinstance(kernel, Exponential) and kernel.power == 1) or (
        isinstance(kernel, Matern) and kernel.smoothness == 0.5
    )


def ou_lengthscale(process: GaussianProcess) -> float:
    """The lengthscale of an Ornstein-Uhlenbeck process.

    Raises:
        InputError: another kernel.
    """
    if not is_ou(process) or not isinstance(process.temporal, TemporalKernel):
        raise InputError(
            f"process: its temporal covariance {process.temporal} is not accepted; accepted for the closed form: an"
            " Ornstein-Uhlenbeck kernel, Exponential(lengthscale, 1)"
        )
    return process.temporal.lengthscale


def ou_inverse(process: GaussianProcess, t: Float[Tensor, " n"]) -> OuInverse:
    """The numbers that make B at times t (float64).

    Raises:
        InputError: a process that is not Ornstein-Uhlenbeck.
    """
    theta = 1 / ou_lengthscale(process)
    last = process.length - 1
    rho = math.exp(-theta)
    T, one_minus = math.tanh(theta / 2), 4 * rho / (1 + rho) ** 2  # 1 - T^2
    tau = torch.expm1(t)[:, None] / process.spatial_eigen[0]  # (n, d)
    P, Q = 1 + tau * T, 1 + tau / T
    R = (P / Q).sqrt()
    r = tau * one_minus / (T * Q * (1 + R) ** 2)
    # -log r loses digits where r is near 1, and 2 artanh R where it is near 0; e^-FAR is 0 for every purpose here.
    rate = torch.where(R < 0.5, 2 * torch.atanh(R), -torch.log(r)).clamp(max=FAR)
    c = r * one_minus / (Q * (R + T) ** 2)
    w = (P * Q).sqrt()
    excess = (tau * (T + 1 / T) + tau**2) / (w * (w + 1))
    mirrored = c / (w * (1 - c**2 * torch.exp(-2 * last * rate)))
    return OuInverse(rate, excess, 1 / w, mirrored, c * mirrored)
