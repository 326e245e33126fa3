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
from dataclasses import dataclass

import torch

from unrolled.handset.masked_products import inner_product, product, square_norm, token_sum
from unrolled.handset.reciprocal import guess, refinement
from unrolled.handset.relu_iteration import X_LIMIT, covariance_heads, encode_residual, finish, program_with
from unrolled.handset.relu_program import ReluProgram
from unrolled.handset.stream import Subspace
from unrolled.handset.truncation import TruncatedCovariance
from unrolled.models.relu import ReluTransformer

__all__ = ["SMALLEST", "relu_conjugate_gradient"]

SMALLEST = 1e-3
"""Root mean square of x from which conjugate gradient is the textbook's down to rounding."""


@dataclass(frozen=True)
class _Range:
    """Bounds of the numbers that the blocks compute with; see the module's docstring.

    Attributes:
        low: below rho and p'w, unless the sequence has converged.
        high: above p'w, |p_i' w_j| and rho.
    """

    low: float
    high: float

    @property
    def reciprocal(self) -> float:
        """Above every reciprocal."""
        return 4 / self.low


def _range(covariance: TruncatedCovariance, steps: int, t_range: tuple[float, float], dtype: torch.dtype) -> _Range:
    process = covariance.process
    size = process.length * process.dim
    smallest, largest = (
        float(covariance.eigenvalues[k]) + math.expm1(t) for k, t in zip((0, -1), t_range, strict=True)
    )
    kappa = max(covariance.extreme_eigenvalues(t)[1] / covariance.extreme_eigenvalues(t)[0] for t in t_range)
    low = min(1.0, smallest) * (SMALLEST * torch.finfo(dtype).eps) ** 2 * size
    start = math.exp(t_range[1]) * (X_LIMIT * math.sqrt(size) + float(process.mean.norm()))
    high_rho = kappa * start**2
    return _Range(low, largest * steps * kappa * high_rho)


class _Blocks:
    """The program, and the rows of the module's table as methods that write into it.

    Args:
        covariance: C_{t,J}.
        t_range: diffusion times.
        bounds: of the numbers.
    """

    def __init__(self, covariance: TruncatedCovariance, t_range: tuple[float, float], bounds: _Range):
        d = covariance.process.dim
        self.covariance, self.t_range, self.bounds = covariance, t_range, bounds
        self.program = program_with(
            covariance, [], {"q": d, "p": d, "w": d, "v": d, "local": 1, "rho": 1, "inverse": 1, "error": 3, "pw": 1,
            "guess": 1, "step": 1, "step_error": 3},
        )  # fmt: skip
        names = ("iterate", "q", "p", "w", "v", "local", "rho", "inverse", "pw", "guess", "step")
        (
            self.s, self.q, self.p, self.w, self.v, self.local, self.rho, self.inverse, self.pw, self.guess, self.step,
        ) = (self.program[name] for name in names)  # fmt: skip

    def start(self) -> None:
        """q = p = -r."""
        self.program.block()
        self.program.attend(*encode_residual(self.program, self.t_range, {self.q: -1.0, self.p: -1.0}))

    def norm_of_residual(self) -> None:
        """Blocks 9 and 10, and the two before the first step: l = |q_i|^2; rho = sum of l, and the guess of 1/rho."""
        program = self.program
        program.block()
        program.attend(square_norm(program, self.q, self.bounds.high, self.local))
        program.block()
        self._sum_and_guess(self.rho, self.inverse)

    def step_length(self, with_direction: bool) -> None:
        """Blocks 1 to 7: step = rho/p'w, and where the next direction is asked for v = p/rho, with 1/rho refined
        beside."""
        high, most = self.bounds.high, self.bounds.reciprocal
        inverting = refinement(self.program, self.rho, high, self.inverse, most, self.inverse, self.program["error"])
        self.apply_covariance()
        next(inverting)
        self.local_products()
        next(inverting)
        self.curvature()
        next(inverting)
        stepping = refinement(self.program, self.pw, high, self.guess, most, self.step, self.program["step_error"])
        self.first_step()
        next(stepping)
        next(inverting)
        self.program.clear("rho", "guess")
        self.program.block()
        next(stepping)
        self.scaled_direction(with_direction)
        for _ in range(2):
            self.program.block()
            next(stepping)

    def apply_covariance(self) -> None:
        """Block 1: w = A p."""
        self.program.block()
        self.program.attend(*covariance_heads(self.program, self.covariance, self.t_range, self.p, self.w))

    def local_products(self) -> None:
        """Block 2: l = <p_i, w_i> in each token."""
        self.program.block()
        self.program.attend(*inner_product(self.program, self.p, self.w, self.bounds.high, self.local))

    def curvature(self) -> None:
        """Block 3: p'w = sum of l, and the guess of its reciprocal."""
        self.program.block()
        self._sum_and_guess(self.pw, self.guess)

    def first_step(self) -> None:
        """Block 4: step = rho guess."""
        self.program.block()
        self.program.attend(product(self.program, self.rho, self.bounds.high, (self.guess, self.step, 1.0)))

    def scaled_direction(self, wanted: bool) -> None:
        """In block 5: v = p/rho if it is wanted; 1/rho and p'w are not needed any more."""
        if wanted:
            self.program.attend(product(self.program, self.inverse, self.bounds.reciprocal, (self.p, self.v, 1.0)))
        self.program.clear("inverse", "pw")

    def move(self) -> int:
        """Block 8: s += step p, q -= step w. Returns its index."""
        program = self.program
        block = program.block()
        values = (self.p, self.s, 1.0), (self.w, self.q, -1.0)
        program.attend(product(program, self.step, self.bounds.reciprocal, *values))
        program.clear("step", "w")
        return block

    def direction(self) -> None:
        """Block 11: p = q + rho v."""
        program = self.program
        program.block()
        program.attend(product(program, self.rho, self.bounds.high, (self.v, self.w, 1.0)))
        program.linear([(self.q, 1.0), (self.w, 1.0), (self.p, -1.0)], self.p)
        program.clear("w", "v")

    def _sum_and_guess(self, total: Subspace, reciprocal: Subspace) -> None:
        program = self.program
        program.attend(token_sum(program, self.local, total))
        program.clear("local")
        guess(program, total, self.bounds.low, self.bounds.high, reciprocal)


def relu_conjugate_gradient(
    covariance: TruncatedCovariance, steps: int, t_range: tuple[float, float], dtype: torch.dtype
) -> tuple[ReluTransformer, ReluProgram, list[int]]:
    """A float64 model of `steps` steps; its program, and the block after which each iterate stands.

    `dtype` is the one it will run in, whose rounding decides where a residual counts as 0.
    """
    rows = _Blocks(covariance, t_range, _range(covariance, steps, t_range, dtype))
    rows.start()
    rows.norm_of_residual()
    iterate_blocks = []
    for k in range(steps):
        last = k == steps - 1
        rows.step_length(with_direction=not last)
        iterate_blocks.append(rows.move())
        if not last:
            rows.norm_of_residual()
            rows.direction()
    return finish(rows.program, covariance, [], t_range, X_LIMIT), rows.program, iterate_blocks
