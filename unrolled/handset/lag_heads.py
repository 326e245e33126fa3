"""A stationary kernel by ReLU attention, one head per lag, without rounding trouble.

**Ours** (derived). Positions p_i make -(i-j)^2 = 2 p_i p_j - p_i^2 - p_j^2 a logit, which takes one value per lag, in
integers. J heads with logit (m+1)^2 - (i-j)^2, m = 0..J-1, and value weights c_m sum to

    f(l) = sum_{m >= l} c_m ((m+1)^2 - l^2)   for l < J,   0 from lag J,

piecewise linear in l^2 with knots at the squares. With c_m = a_m - a_{m+1}, a_m = (g(m) - g(m+1))/(2m+1) and a_J =
g(J) = 0, f interpolates g: f(l) - f(l+1) = (2l+1) sum_{m >= l} c_m = (2l+1) a_l. For J < N, g = gamma: the covariance
truncated at J, exactly. For J = N, g = gamma - gamma(N), and one more head of logit 1 adds gamma(N) for every pair.

*No cancellation.* A mixture of Gaussians is completely monotone in l^2, hence convex, so its slopes -a_m increase and
c_m >= 0: every term of f is >= 0 and the sum keeps full relative precision. Only a truncation (J < N) makes one
coefficient negative, c_{J-2}, of size gamma(J-1)/(2J-1). And the logits are exact: all products and sums are
multiples of 1/4 below N^2, which float32 holds up to N = 2048. (Points on a circle, u_ij = cos(2 pi (i-j)/C), serve
the same interpolation, but neighbouring u differ by 2 pi^2/C^2 at lag 0, so c_m grows like C^2 and float32 loses 6e-6
at N = 32, 6e-3 at 1024.)

**Published** (arXiv 2510.02216: four ReLU heads for each lag). With e_i = (sin, cos)(2 pi i/C), C = 2N, and u_ij =
e_i'e_j, each lag has a trapezoid in u, 1 on [u(l)-h, u(l)+h] and 0 beyond 2h, h a third of the distance to the
nearest other lag:

    (ReLU(u-u(l)+2h) - ReLU(u-u(l)+h) - ReLU(u-u(l)-h) + ReLU(u-u(l)-2h))/h.

Each is 1 at its lag and 0 at the others up to rounding eps/h, h >= 2 sin^2(pi/C)/3: weights of size N^2.

Cost: ours J heads (J+1 for J = N), largest weight max(J^2, 2); published 4 J heads, largest weight gamma(l)/h.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.handset.gaussian_heads import positions
from unrolled.handset.relu_program import ReluHead, ReluProgram
from unrolled.handset.stream import Subspace
from unrolled.handset.truncation import TruncatedCovariance
from unrolled.kernels import TemporalKernel

__all__ = [
    "circle_table",
    "held_kernel_error",
    "lag_coefficients",
    "lag_heads",
    "lag_table",
    "published_held_kernel_error",
    "published_lag_heads",
]


def lag_coefficients(kernel: TemporalKernel, length: int, lags: int) -> tuple[Float[Tensor, " J"], float]:
    """(c, floor): the value weights c_m of J = `lags` heads, and what the extra head adds to every pair (0 unless J =
    N)."""
    gamma = kernel(torch.arange(lags + 1))
    floor = float(gamma[-1]) if lags == length else 0.0
    gamma = torch.cat([gamma[:-1] - floor, torch.zeros(1, dtype=torch.float64)])
    slope = torch.cat([(gamma[:-1] - gamma[1:]) / (2 * torch.arange(lags) + 1), torch.zeros(1, dtype=torch.float64)])
    return slope[:-1] - slope[1:], floor


def lag_table(length: int) -> dict[str, Float[Tensor, "N channels"]]:
    """What the encoder must put into `position` (p) and `position_squared` (p^2)."""
    p = positions(length)[:, None]
    return {"position": p, "position_squared": p**2}


def lag_heads(
    program: ReluProgram, covariance: TruncatedCovariance, source: Subspace, target: Subspace
) -> list[ReluHead]:
    """Heads that add (Gamma_J y[source] Sigma) to y[target]; they read `position`, `position_squared` and `one`."""
    p, square, one = (program[name] for name in ("position", "position_squared", "one"))
    weights, floor = lag_coefficients(covariance.kernel, covariance.process.length, covariance.lags)
    spatial = covariance.process.spatial_covariance
    heads = []
    for m, weight in enumerate(weights.tolist()):
        logit = [(p, p, 2.0), (square, one, -1.0), (one, square, -1.0), (one, one, float((m + 1) ** 2))]
        heads.append(ReluHead(logit, [(source, target, weight * spatial)]))
    if floor > 0:
        heads.append(ReluHead([(one, one, 1.0)], [(source, target, floor * spatial)]))
    return heads


def held_kernel_error(kernel: TemporalKernel, length: int, lags: int, eps: float) -> Float[Tensor, " J"]:
    """Bound on the error of the held gamma at each lag below J: what the float64 weights miss, and the rounding of
    weights and sum in a dtype of precision `eps`, J terms added in any order."""
    weights, floor = lag_coefficients(kernel, length, lags)
    lag = torch.arange(lags, dtype=torch.float64)
    terms = torch.relu((torch.arange(lags) + 1.0) ** 2 - lag[:, None] ** 2)  # (lag, head)
    missed = (terms @ weights + floor - kernel(lag)).abs()
    return missed + eps * (2 + math.log2(2 + lags)) * (terms @ weights.abs() + floor)


def circle_table(length: int) -> dict[str, Float[Tensor, "N channels"]]:
    """What the encoder must put into `circle`: e_i = (sin, cos)(2 pi i/C), C = 2N."""
    angle = math.pi * torch.arange(length, dtype=torch.float64) / length
    return {"circle": torch.stack([torch.sin(angle), torch.cos(angle)], dim=1)}


def _circle_lags(length: int, lags: int) -> tuple[list[float], list[float]]:
    """(u(l), h) of each lag; differences of cosines as products of sines, which keep their digits."""
    step = math.pi / (2 * length)

    def gap(lag: int) -> float:  # u(l) - u(l+1)
        return 2 * math.sin((2 * lag + 1) * step) * math.sin(step)

    return [math.cos(2 * lag * step) for lag in range(lags)], [
        min(gap(lag), gap(lag - 1) if lag else math.inf) / 3 for lag in range(lags)
    ]


def published_lag_heads(
    program: ReluProgram, covariance: TruncatedCovariance, source: Subspace, target: Subspace
) -> list[ReluHead]:
    """The published four heads per lag; they read `circle` and `one`."""
    circle, one = program["circle"], program["one"]
    spatial = covariance.process.spatial_covariance
    heads = []
    for lag, (u, h) in enumerate(zip(*_circle_lags(covariance.process.length, covariance.lags), strict=True)):
        for corner, sign in ((-2, 1.0), (-1, -1.0), (1, -1.0), (2, 1.0)):
            weight = sign * float(covariance.kernel(lag)) / h
            logit = [(circle, circle, 1.0), (one, one, -(u + corner * h))]
            heads.append(ReluHead(logit, [(source, target, weight * spatial)]))
    return heads


def published_held_kernel_error(kernel: TemporalKernel, length: int, lags: int, eps: float) -> Float[Tensor, " J"]:
    """Bound on the error of the published heads at each lag: four rounded u of size 1 over h, at every trapezoid below
    u."""
    _, widths = _circle_lags(length, lags)
    share = kernel(torch.arange(lags)) / torch.tensor(widths, dtype=torch.float64)
    # The trapezoids of longer lags lie below u: all their four terms are positive and cancel up to rounding.
    return 16 * eps * share.flip(0).cumsum(0).flip(0)
