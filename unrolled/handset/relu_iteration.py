"""Gradient descent and Chebyshev on the truncated covariance as a ReluTransformer, and what every such model shares.

C_{t,J} = alpha_t^2 A with A = Gamma_J (x) Sigma + tau I, tau = exp(t) - 1, so the step s -= eta (C s + x - alpha mu) is

    s -= eta' (A s + r),   r = e^t x - e^(t/2) mu,   eta' = alpha_t^2 eta = 1/(a + tau)

where 1/eta = alpha_t^2 a + sigma_t^2 and a = (L+m)/2 + (L-m)/2 node for the extreme eigenvalues m, L of Gamma_J (x)
Sigma (derived). A is what attention holds exactly, and all that depends on t are the encoder's features tau, e^t,
e^(t/2), 1/(a+tau). Blocks:

    first:       r += e^t x - e^(t/2) mu          two product heads
    each step:   w += A s                         lag heads on Gamma_J, a product head on tau;   feed-forward: w += r
                 s -= eta' w                      one product head;                             feed-forward: w -= w

Proof: lag_heads, masked_products; w is 0 before each step. Every sum is one that the reference solver has too.

Cost: 1 + 2 K blocks; J + 1 heads (J + 2 for J = N); width 5 d + 7 + 2 log2 N (one step size; K - 1 more for Chebyshev).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.handset.lag_heads import lag_heads, lag_table
from unrolled.handset.masked_products import code_sizes, code_table, power_of_two, product
from unrolled.handset.relu_program import ReluHead, ReluProgram
from unrolled.handset.stream import Subspace
from unrolled.handset.truncation import TruncatedCovariance
from unrolled.models.relu import ReluTransformer

__all__ = ["X_LIMIT", "covariance_heads", "encode_residual", "finish", "program_with", "relu_iteration", "step_rates"]

X_LIMIT = 1e4
"""Largest root mean square of x that hand-set ReLU models accept; the radius R and the bounds B of the products
follow it."""


def step_rates(covariance: TruncatedCovariance, nodes: list[float]) -> list[float]:
    """The a of each step size 1/(a + tau), in the order of `nodes`; a node of 0 is gradient descent."""
    smallest, largest = (float(covariance.eigenvalues[k]) for k in (0, -1))
    return [(largest + smallest) / 2 + (largest - smallest) / 2 * node for node in nodes]


def program_with(covariance: TruncatedCovariance, rates: list[float], sizes: dict[str, int]) -> ReluProgram:
    """A program whose stream holds x, mean, iterate, time features, position, code and one, and `sizes` besides."""
    d = covariance.process.dim
    common = {
        "x": d, "mean": d, "iterate": d, "time": 3 + len(rates), "position": 1, "position_squared": 1, "one": 1,
        **code_sizes(covariance.process.length),
    }  # fmt: skip
    return ReluProgram({**common, **sizes})


def encode_residual(
    program: ReluProgram, t_range: tuple[float, float], targets: dict[Subspace, float]
) -> list[ReluHead]:
    """Heads that add e^t x - e^(t/2) mu, times a sign, to each target."""
    top = math.exp(t_range[1])
    of_x = [(program["x"], target, sign) for target, sign in targets.items()]
    of_mean = [(program["mean"], target, -sign) for target, sign in targets.items()]
    time = program["time"]
    return [product(program, time[1], top, *of_x), product(program, time[2], math.sqrt(top), *of_mean)]


def covariance_heads(
    program: ReluProgram,
    covariance: TruncatedCovariance,
    t_range: tuple[float, float],
    source: Subspace,
    target: Subspace,
) -> list[ReluHead]:
    """Heads that add A y[source] to y[target]."""
    heads = lag_heads(program, covariance, source, target)
    return [*heads, product(program, program["time"][0], math.expm1(t_range[1]), (source, target, 1.0))]


def finish(
    program: ReluProgram,
    covariance: TruncatedCovariance,
    rates: list[float],
    t_range: tuple[float, float],
    x_limit: float,
    tables: dict[str, Float[Tensor, "N channels"]] | None = None,
) -> ReluTransformer:
    """Build it. R is what |s| <= |x - alpha mu|/m_t allows at the largest x accepted."""
    process = covariance.process
    largest_input = x_limit * math.sqrt(process.length * process.dim) + float(process.mean.norm())
    # A solver's iterate may overshoot the solution, by less than twice its norm.
    radius = power_of_two(2 * largest_input / covariance.extreme_eigenvalues(t_range[0])[0])
    length = process.length
    position = {
        **lag_table(length), **code_table(length), "mean": process.mean,
        "one": torch.ones(length, 1, dtype=torch.float64), **(tables or {}),
    }  # fmt: skip
    return program.build(
        length,
        process.dim,
        rates,
        radius,
        x_limit,
        t_range,
        program["x"],
        position,
        program["time"],
        program["iterate"],
    )


def relu_iteration(
    covariance: TruncatedCovariance, nodes: list[float], t_range: tuple[float, float]
) -> tuple[ReluTransformer, ReluProgram, list[int]]:
    """A float64 model whose steps are richardson's with nodes; its program, and the block after which each iterate
    stands."""
    d = covariance.process.dim
    wanted = step_rates(covariance, nodes)
    rates = list(dict.fromkeys(wanted))  # gradient descent has one
    program = program_with(covariance, rates, {"r": d, "product": d})
    iterate, r, w, time = (program[name] for name in ("iterate", "r", "product", "time"))
    program.block()
    program.attend(*encode_residual(program, t_range, {r: 1.0}))
    blocks = []
    for rate in wanted:
        program.block()
        program.attend(*covariance_heads(program, covariance, t_range, iterate, w))
        program.linear([(r, 1.0)], w)
        largest_step = 1 / (rate + math.expm1(t_range[0]))
        blocks.append(program.block())
        program.attend(product(program, time[3 + rates.index(rate)], largest_step, (w, iterate, -1.0)))
        program.clear("product")
    return finish(program, covariance, rates, t_range, X_LIMIT), program, blocks
