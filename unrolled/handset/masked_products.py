"""Products and inner products of what stands in one token, by ReLU attention masked to i = j, exact up to one rounding.

**Code.** Token i carries n = ceil(log2 N) bits of i and their complements, as 0 and 1. The logit

    c_i - B sum_b (bit_b(i) (1 - bit_b(j)) + (1 - bit_b(i)) bit_b(j)) = c_i - B hamming(i, j)

is c_i at j = i and at most c_i - B <= 0 elsewhere, for 0 <= c_i <= B. ReLU leaves c_i at i = j only, and the head
returns c_i v_i (derived). In floating point every term of the mask at j = i is a product with 0, so c_i stands there
without rounding, in whatever order the terms are added and however large B is: the product has the relative error of
one multiplication for c_i of any size. (A code of +-1 cancels n - n at j = i instead and loses n eps B/c_i.)

- **product**: c_i v_i for c_i >= 0, one head for any number of values. A c of either sign takes a second head with -c.
- **inner product** <a_i, b_i>: the logit is a_i'b_j - B hamming(i, j), |a_i'b_j| <= B; value 1; two heads, one for
  either sign.
- **token sum**: logit 1; adds sum_j v_j to every token.

Cost: 2 n channels of code; 1, 2 and 1 heads; largest weight B.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.handset.relu_program import Map, ReluHead, ReluProgram, Term
from unrolled.handset.stream import Subspace

__all__ = ["code_sizes", "code_table", "inner_product", "power_of_two", "product", "square_norm", "token_sum"]


def code_sizes(length: int) -> dict[str, int]:
    """Subspaces of the code: `bits` and `complements`."""
    bits = max(1, math.ceil(math.log2(length)))
    return {"bits": bits, "complements": bits}


def code_table(length: int) -> dict[str, Float[Tensor, "N channels"]]:
    """What the encoder must put there."""
    bits = (torch.arange(length)[:, None] >> torch.arange(code_sizes(length)["bits"])) & 1
    return {"bits": bits.double(), "complements": 1.0 - bits.double()}


def power_of_two(bound: float) -> float:
    """The smallest power of two that is at least `bound`."""
    mantissa, exponent = math.frexp(bound)
    return math.ldexp(1.0, exponent - 1 if mantissa == 0.5 else exponent)


def _mask(program: ReluProgram, bound: float) -> list[Term]:
    bits, complements, scale = program["bits"], program["complements"], -power_of_two(bound)
    return [(bits, complements, scale), (complements, bits, scale)]


def product(program: ReluProgram, factor: Subspace, bound: float, *values: Map) -> ReluHead:
    """Adds c_i times the mapped values of token i, for the one channel `factor` with 0 <= c_i <= `bound`; a negative
    c_i counts as 0."""
    return ReluHead([(factor, program["one"], 1.0), *_mask(program, bound)], values)


def inner_product(
    program: ReluProgram, a: Subspace, b: Subspace, bound: float, target: Subspace
) -> tuple[ReluHead, ReluHead]:
    """Adds <a_i, b_i> to the one channel `target`, where |<a_i, b_j>| <= `bound` for all pairs."""
    one = program["one"]
    mask = _mask(program, bound)
    return (
        ReluHead([(a, b, 1.0), *mask], [(one, target, 1.0)]),
        ReluHead([(a, b, -1.0), *mask], [(one, target, -1.0)]),
    )


def square_norm(program: ReluProgram, a: Subspace, bound: float, target: Subspace) -> ReluHead:
    """Adds |a_i|^2 to the one channel `target`: an inner product that is never negative takes one head."""
    return inner_product(program, a, a, bound, target)[0]


def token_sum(program: ReluProgram, source: Subspace, target: Subspace) -> ReluHead:
    """Adds the sum over all tokens of y[source] to y[target] of every token."""
    one = program["one"]
    return ReluHead([(one, one, 1.0)], [(source, target, 1.0)])
