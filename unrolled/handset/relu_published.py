"""Gradient descent with the published modules: four heads per lag and multiplication by feed-forward layers.

The iteration of `relu_iteration`, with its heads on Gamma replaced by `published_lag_heads` and every product c v by
`multiplication`, whose m + 1 layers each take a block. A model of the same class, there to be compared.

**Error** (derived). Entries are bounded by |x| <= X_LIMIT sqrt(N d) and |s_k| <= 2 |s|, |s| <= |r|/m for the smallest
eigenvalue m of A. A step makes errors R_eta R_w 4^-(m+1) in the last product and eta R_tau R_s 4^-(m+1) in that of
tau s, in each of N d entries: at most xi = sqrt(N d) (R_eta R_w + R_eta R_tau R_s) 4^-(m+1) in the 2-norm, which
leaves at most xi (kappa+1)/2 on any iterate; r itself is off by sqrt(N d) (e^t R_x + e^(t/2) R_mu) 4^-(m+1), which
moves the solution by that over m.

Cost: (m + 1)(1 + 2 K) blocks, 4 J heads, width 9 d + 9 (and the code, unused), 8 d hidden units.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.handset.lag_heads import circle_table, published_held_kernel_error, published_lag_heads
from unrolled.handset.multiplication import multiplication, multiplication_error
from unrolled.handset.relu_iteration import finish, program_with, step_rates
from unrolled.handset.relu_program import ReluProgram
from unrolled.handset.truncation import TruncatedCovariance
from unrolled.models.relu import ReluTransformer

__all__ = ["PUBLISHED_X_LIMIT", "published_bounds", "published_error", "relu_published"]

PUBLISHED_X_LIMIT = 8.0
"""Largest root mean square of x: the module's error grows with it."""


@dataclass(frozen=True)
class _Bounds:
    """Bounds on the factors and on the entries of what they multiply, over the whole t range."""

    tau: float
    growth: float
    step: float
    x: float
    mean: float
    s: float
    w: float


def published_bounds(covariance: TruncatedCovariance, t_range: tuple[float, float]) -> _Bounds:
    """What the modules are scaled by."""
    process = covariance.process
    low, tau, growth = math.expm1(t_range[0]), math.expm1(t_range[1]), math.exp(t_range[1])
    smallest, largest = (float(covariance.eigenvalues[k]) for k in (0, -1))
    x = PUBLISHED_X_LIMIT * math.sqrt(process.length * process.dim)
    mean = max(1.0, float(process.mean.norm()))
    # |s| = |A^{-1} r| <= e^t |x - alpha mu|/(smallest + tau), and e^t/(smallest + e^t - 1) is monotone in t.
    s = 2 * (x + mean) * max(math.exp(t) / (smallest + math.expm1(t)) for t in t_range)
    r = growth * x + math.sqrt(growth) * mean
    return _Bounds(tau, growth, 2 / (smallest + largest + 2 * low), x, mean, s, (largest + tau) * s + r)


def published_error(
    covariance: TruncatedCovariance, t_range: tuple[float, float], t: float, layers: int, dtype: torch.dtype
) -> float:
    """The bound of the module's docstring on the error of any iterate at t, over the root mean square of |s|; with
    what rounding in `dtype` leaves of the heads, whose error D moves an iterate by |D|/m at most, and of every
    module, a few eps of its bound."""
    bounds, process = published_bounds(covariance, t_range), covariance.process
    tau, eps = math.expm1(t), torch.finfo(dtype).eps
    eigenvalues = covariance.eigenvalues + tau
    smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])
    step = 2 / (smallest + largest)
    size = math.sqrt(process.length * process.dim)

    def module(factor: float, value: float) -> float:
        return multiplication_error(factor, value, layers) + 8 * eps * factor * value

    per_step = module(bounds.step, bounds.w) + step * module(bounds.tau, bounds.s)
    right = module(bounds.growth, bounds.x) + module(math.sqrt(bounds.growth), bounds.mean)
    kernel = covariance.kernel
    held = published_held_kernel_error(kernel, process.length, covariance.lags, eps)
    deviation = float(held[0] + 2 * held[1:].sum()) * float(process.spatial_eigen[0][-1])
    solution = math.exp(t / 2) * float(eigenvalues.reciprocal().sum().sqrt())  # E|s|^2 = e^t sum of 1/eigenvalues of A
    return size * (per_step * (largest / smallest + 1) / 2 + right / smallest) / solution + deviation / smallest


def relu_published(
    covariance: TruncatedCovariance, steps: int, t_range: tuple[float, float], layers: int
) -> tuple[ReluTransformer, ReluProgram, list[int]]:
    """A float64 model of `steps` gradient descent steps; its program, and the block after which each iterate stands."""
    process = covariance.process
    d = process.dim
    rates = step_rates(covariance, [0.0])
    program = program_with(covariance, rates, {"r": d, "product": d, "circle": 2, "squares": 4 * d})
    x, mean, iterate, r, w, time = (program[name] for name in ("x", "mean", "iterate", "r", "product", "time"))
    pairs = [program["squares"].part(k, 2 * d) for k in range(2)]
    bound = published_bounds(covariance, t_range)
    of_x = multiplication(program, time[1], bound.growth, x, bound.x, pairs[0], r, 1.0, layers)
    of_mean = multiplication(program, time[2], math.sqrt(bound.growth), mean, bound.mean, pairs[1], r, -1.0, layers)
    for _ in range(layers + 1):
        program.block()
        next(of_x)
        next(of_mean)
    blocks = []
    for _ in range(steps):
        tau = multiplication(program, time[0], bound.tau, iterate, bound.s, pairs[0], w, 1.0, layers)
        for k in range(layers + 1):
            program.block()
            if k == 0:
                program.attend(*published_lag_heads(program, covariance, iterate, w))
                program.linear([(r, 1.0)], w)
            next(tau)
        move = multiplication(program, time[3], bound.step, w, bound.w, pairs[0], iterate, -1.0, layers)
        for k in range(layers + 1):
            program.block()
            next(move)
            if k == layers:
                program.clear("product")
        blocks.append(len(program.plans) - 1)
    tables: dict[str, Float[Tensor, "N channels"]] = circle_table(process.length)
    return finish(program, covariance, rates, t_range, PUBLISHED_X_LIMIT, tables), program, blocks
