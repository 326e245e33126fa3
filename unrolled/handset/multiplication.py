"""Multiplication by feed-forward layers alone, as the theory has it, beside which `masked_products` is to be seen.

Published (Yarotsky 2017, arXiv 1610.01145, prop. 2; in the theory as a module of O(log 1/eps) layers). With the hat
g(z) = 2 ReLU(z) - 4 ReLU(z - 1/2) on [0, 1], iterated k times g_k,

    f_m(z) = z - sum_{k=1}^{m} g_k(z) 4^-k   interpolates z^2 at the multiples of 2^-m, so 0 <= f_m(z) - z^2 <=
    4^-(m+1).

A product of c in [0, R_c] and v in [-R_v, R_v] is the difference of two squares of a, b = |c/R_c +- v/R_v|/2 in [0, 1]:

    c v = R_c R_v (a^2 - b^2),   computed to within R_c R_v 4^-(m+1)   (the two errors have opposite signs; derived).

Cost: m + 1 feed-forward layers, 2 channels and 4 hidden units for each product; largest weight max(R_c R_v, 4).
"""

from collections.abc import Iterator

import torch

from unrolled.handset.relu_program import ReluProgram
from unrolled.handset.stream import Subspace

__all__ = ["multiplication", "multiplication_error"]


def multiplication_error(factor_bound: float, value_bound: float, layers: int) -> float:
    """R_c R_v 4^-(m+1), m = `layers`."""
    return factor_bound * value_bound * 4.0 ** -(layers + 1)


def multiplication(
    program: ReluProgram,
    factor: Subspace,
    factor_bound: float,
    value: Subspace,
    value_bound: float,
    squares: Subspace,
    target: Subspace,
    sign: float,
    layers: int,
) -> Iterator[None]:
    """Add sign c v to `target`; advance once in each of `layers` + 1 blocks that follow one another.

    Args:
        program: the current block is the first of them when the first step is taken.
        factor, factor_bound: the channel c, 0 <= c <= factor_bound.
        value, value_bound: the channels v, each at most value_bound in size; read in the first block only.
        squares: 2 channels for each of v, which are 0 before and after.
        target: as many channels as v.
        sign: +-1.
        layers: m >= 1.
    """
    n = value.size
    zero, identity = torch.zeros(n, dtype=torch.float64), torch.eye(n, dtype=torch.float64)
    scale = sign * factor_bound * value_bound
    for part, side in ((0, 1.0), (1, -1.0)):  # a, then b
        z = squares.part(part, n)
        spread = torch.full((1, n), 0.5 / factor_bound, dtype=torch.float64)
        for direction in (1.0, -1.0):  # absolute value
            reads = [(factor, direction * spread), (value, direction * side * 0.5 / value_bound * identity)]
            program.rectify(reads, zero, [(z, identity), (target, side * scale * identity)])
    yield
    for k in range(1, layers + 1):
        for part, side in ((0, 1.0), (1, -1.0)):
            z = squares.part(part, n)
            # In the last layer z becomes 0 and not g(z): z is >= 0, so ReLU(z) = z.
            keep = 0.0 if k == layers else 1.0
            add = -side * scale * 4.0**-k
            program.rectify([(z, identity)], zero, [(z, (2 * keep - 1) * identity), (target, 2 * add * identity)])
            program.rectify([(z, identity)], zero - 0.5, [(z, -4 * keep * identity), (target, -4 * add * identity)])
        yield
