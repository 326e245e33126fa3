"""Conjugate gradient inside the forward pass of a ReluTransformer, its step lengths computed from the data.

CG on A s = -r, A = C_{t,J}/alpha_t^2 (relu_iteration; the iterates are those of C_t s = -(x - alpha mu)), in the
textbook's letters:

    q = p = -r,  rho = |q|^2;   each step:   w = A p,  s += (rho/p'w) p,  q -= (rho/p'w) w,
                                             rho' = |q|^2,  p = q + (rho'/rho) p.

q is the residual, 1/p'w and 1/rho come from `reciprocal`, products and inner products from `masked_products`. Blocks
of a step, with 1/rho refined in the first five beside the rest:

    1  w = A p                               (e = rho y - 1, y the guess of 1/rho)
    2  l = <p_i, w_i> in each token          (y -= y e)
    3  p'w = sum of l; guess of 1/p'w        (y += y e^2)
    4  step = rho guess, e = p'w guess - 1   (y += y e^4: 1/rho)
    5-7  step refined                        (5: v = p/rho)
    8  s += step p, q -= step w
    9  l = |q_i|^2                           10  rho = sum of l; guess of 1/rho           11  p = q + rho v

Eleven blocks, and two before the first step for rho; the last step ends at its eighth.

**Range.** |q|^2 lies in [low, high]: the largest x accepted, times e^t at the largest t, times the largest growth of
a residual, kappa; and low = (SMALLEST eps)^2 N d, where a sequence of root mean square SMALLEST has converged to the
rounding eps of the dtype. p'w lies in [m rho, L rho], as 1/L <= step <= 1/m, and |p_k|^2 = rho_k^2 sum_j 1/rho_j <=
(k+1) kappa rho_k. Below `low` the reciprocals saturate: steps and directions become shorter than the textbook's and
end at 0, so x = 0 gives 0 and a converged sequence stays where it is. Masked products are exact for factors of any
size, which is what makes a range of a hundred octaves harmless; it costs four hidden units per octave, and weights of
1/low, whose logarithm is all that counts in T(D,L,M,B,R).

Cost: 11 K blocks; J + 2 heads (J + 3 for J = N); width 7 d + 18 + 2 log2 N.
"""

import math

import torch

from unrolled.handset.masked_products import inner_product, product, square_norm, token_sum
from unrolled.handset.reciprocal import guess, refinement
from unrolled.handset.relu_iteration import X_LIMIT, covariance_heads, encode_residual, finish, program_with
from unrolled.handset.relu_program import ReluProgram
from unrolled.handset.truncation import TruncatedCovariance
from unrolled.models.relu import ReluTransformer

__all__ = ["SMALLEST", "relu_conjugate_gradient"]

SMALLEST = 1e-3
"""Root mean square of x from which conjugate gradient is the textbook's down to rounding."""


def relu_conjugate_gradient(
    covariance: TruncatedCovariance, steps: int, t_range: tuple[float, float], dtype: torch.dtype
) -> tuple[ReluTransformer, ReluProgram, list[int]]:
    """A float64 model of `steps` steps; its program, and the block after which each iterate stands.

    `dtype` is the one it will run in, whose rounding decides where a residual counts as 0.
    """
    process = covariance.process
    d, size = process.dim, process.length * process.dim
    smallest, largest = (
        float(covariance.eigenvalues[k]) + math.expm1(t) for k, t in zip((0, -1), t_range, strict=True)
    )
    kappa = max(covariance.extreme_eigenvalues(t)[1] / covariance.extreme_eigenvalues(t)[0] for t in t_range)
    low = min(1.0, smallest) * (SMALLEST * torch.finfo(dtype).eps) ** 2 * size
    start = math.exp(t_range[1]) * (X_LIMIT * math.sqrt(size) + float(process.mean.norm()))
    high_rho = kappa * start**2
    high = largest * steps * kappa * high_rho  # above p'w, |p_i' w_j| and rho
    program = program_with(
        covariance, [], {"q": d, "p": d, "w": d, "v": d, "local": 1, "rho": 1, "inverse": 1, "error": 3, "pw": 1, "guess": 1,
        "step": 1, "step_error": 3},
    )  # fmt: skip
    names = ("iterate", "q", "p", "w", "v", "local", "rho", "inverse", "pw", "guess", "step")
    s, q, p, w, v, local, rho, inverse, pw, first, step = (program[name] for name in names)
    most = 4 / low  # of a reciprocal

    program.block()
    program.attend(*encode_residual(program, t_range, {q: -1.0, p: -1.0}))

    def measure() -> None:
        """Two blocks: rho = |q|^2, and the guess of its reciprocal."""
        program.block()
        program.attend(square_norm(program, q, high, local))
        program.block()
        program.attend(token_sum(program, local, rho))
        program.clear("local")
        guess(program, rho, low, high, inverse)

    measure()
    blocks = []
    for k in range(steps):
        inverting = refinement(program, rho, high, inverse, most, inverse, program["error"])
        last = k == steps - 1

        program.block()
        program.attend(*covariance_heads(program, covariance, t_range, p, w))
        next(inverting)

        program.block()
        program.attend(*inner_product(program, p, w, high, local))
        next(inverting)

        program.block()
        program.attend(token_sum(program, local, pw))
        program.clear("local")
        guess(program, pw, low, high, first)
        next(inverting)

        stepping = refinement(program, pw, high, first, most, step, program["step_error"])
        program.block()
        program.attend(product(program, rho, high, (first, step, 1.0)))
        next(stepping)
        next(inverting)
        program.clear("rho", "guess")

        program.block()
        next(stepping)
        if not last:
            program.attend(product(program, inverse, most, (p, v, 1.0)))
        program.clear("inverse", "pw")
        for _ in range(2):
            program.block()
            next(stepping)

        blocks.append(program.block())
        program.attend(product(program, step, most, (p, s, 1.0), (w, q, -1.0)))
        program.clear("step", "w")
        if last:
            break
        measure()
        program.block()
        program.attend(product(program, rho, high, (v, w, 1.0)))
        program.linear([(q, 1.0), (w, 1.0), (p, -1.0)], p)
        program.clear("w", "v")
    return finish(program, covariance, [], t_range, X_LIMIT), program, blocks
