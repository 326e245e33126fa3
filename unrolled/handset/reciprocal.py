"""1/c inside the forward pass: a guess by one feed-forward layer, then products that square its error.

**Guess.** On knots k_0 < .. < k_n in ratio h the piecewise linear interpolant of 1/c is

    y(c) = 1/k_n + sum_{j=1}^{n} a_j k_j ReLU(1 - c/k_j),   a_n = 1/(k_{n-1} k_n),   a_j = 1/(k_{j-1} k_j) - 1/(k_j
    k_{j+1}),

since the slope on (k_{j-1}, k_j) is -sum_{i>=j} a_i = -1/(k_{j-1} k_j). The function is convex, so every a_j > 0,
every term is >= 0 and full relative precision is kept from one end of the range to the other: with the ramps turned
this way one layer does, where sums of ReLU(c - k_j) cancel (hi/lo)^2-fold. Its relative error e = c y - 1 lies in [0,
(h-1)^2/(4h)] on the range (the largest value of (k h + k - c) c/(k^2 h) - 1, at c = k (1+h)/2); four knots per octave
give 0.0076 (derived).

**Refinement.** 1/c = y/(1+e) and (1-e)(1+e^2)(1+e^4) = (1-e^8)/(1+e): three products, while e is squared beside,
leave e^8 < 2e-17. The products need no sign, since e >= 0. (Newton's iteration takes two blocks for each doubling of
digits, this takes one.)

Outside the range: above k_n the guess stays at 1/k_n; below k_0 it goes on along its first piece and stays below 2/k_0,
so a vanishing c gives a large number and never a division by 0; e is then negative and its products are 0 but the
first, which leaves y (1 - e) < 4/k_0.

Cost: n hidden units, one block of guess and four of refinement; largest weight 1/k_0.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.handset.masked_products import product
from unrolled.handset.relu_program import ReluProgram
from unrolled.handset.stream import Subspace

__all__ = ["KNOTS_PER_OCTAVE", "guess", "knots", "refinement"]

KNOTS_PER_OCTAVE = 4


def knots(low: float, high: float) -> Float[Tensor, " n"]:
    """Geometric knots from `low` to at least `high`, float64."""
    count = math.ceil(KNOTS_PER_OCTAVE * math.log2(high / low)) + 1
    return low * 2.0 ** (torch.arange(count, dtype=torch.float64) / KNOTS_PER_OCTAVE)


def guess(program: ReluProgram, c: Subspace, low: float, high: float, target: Subspace) -> None:
    """Let the feed-forward layer of the current block add y(c) to the channel `target`."""
    k = knots(low, high)
    steep = 1 / (k[:-1] * k[1:])  # minus the slope between neighbours
    weights = (steep - torch.cat([steep[1:], torch.zeros(1, dtype=torch.float64)])) * k[1:]
    program.rectify([(c, -1 / k[None, 1:])], torch.ones(len(k) - 1, dtype=torch.float64), [(target, weights[:, None])])
    program.linear([(program["one"], 1 / float(k[-1]))], target)


def refinement(
    program: ReluProgram, c: Subspace, high: float, y: Subspace, y_bound: float, scaled: Subspace, error: Subspace
) -> Iterator[None]:
    """Turn `scaled` = b y, with y the guess of 1/c, into b/c; advance once in each of four blocks that follow one
    another.

    Args:
        program: the current block is the first of the four when the first step is taken.
        c: the channel c, 0 <= c <= `high`; read in the first block only.
        high: bound on c.
        y: the guess; read in the first block only.
        y_bound: bound on `scaled`.
        scaled: a channel that holds b y from the end of the first block on; y itself for b = 1.
        error: three channels for e, e^2, e^4, which are 0 before and after.
    """
    program.attend(product(program, c, high, (y, error[0], 1.0)))
    program.linear([(program["one"], -1.0)], error[0])
    yield
    for power, sign in ((0, -1.0), (1, 1.0), (2, 1.0)):
        program.attend(product(program, scaled, y_bound, (error[power], scaled, sign)))
        if power < 2:
            program.attend(product(program, error[power], 1.0, (error[power], error[power + 1], 1.0)))
        program.linear([(error[power], -1.0)], error[power])
        yield
