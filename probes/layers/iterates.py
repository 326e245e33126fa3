"""Iterates of the reference solvers of C_t s = -(x - alpha_t mu), to hold the layers of a network against.

`candidate_iterates` runs the solvers themselves, step by step, with the operator C_t (or C_{t,J}): what a hand-set
model is named by. `Spectral` works in the eigenbasis of C_t, where any step of gradient descent and of Chebyshev is a
product with a polynomial of the eigenvalues, s_k = (1 - p_k(c)) s (published: Saad, Iterative Methods, sec. 4.2 and
12.3), so that thousands of steps cost no more than one.

Two sequences go by the name of Chebyshev. `chebyshev` is the run of one method, tuned to K steps: its iterates before
the last are no good approximations. `chebyshev_final` has as its k-th member the last iterate of the method tuned to k
steps.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import InputError
from unrolled.diffusion import alpha
from unrolled.handset.construct import RIDGE
from unrolled.handset.dense_inverses import precondition, solved_preconditioners
from unrolled.handset.ou_inverse import is_ou
from unrolled.handset.truncation import TruncatedCovariance
from unrolled.process import GaussianProcess
from unrolled.solvers import (
    chebyshev,
    chebyshev_bound,
    chebyshev_steps,
    conjugate_gradient,
    gradient_descent,
    preconditioned,
)

__all__ = [
    "APPLICATIONS",
    "Name",
    "Spectral",
    "candidate_iterates",
    "ladder",
    "polynomial",
    "preconditioner_fits",
    "solver_states",
]

Name = tuple[str, int]
"""(algorithm, step)."""
APPLICATIONS = 6
"""Most applications of the preconditioner: each is fitted anew, and three are at a relative error below 1e-3."""
PRECONDITIONER_ENTRIES = 2**26
"""Entries of the responses d H N^2 that a fit of the preconditioner may hold: 0.5 GB."""


def preconditioner_fits(process: GaussianProcess) -> bool:
    """Whether the dictionary of the preconditioner can be fitted in memory; long sequences go without it."""
    heads = 2 * (process.length**2 * 32).bit_length() + 1
    return process.dim * heads * process.length**2 <= PRECONDITIONER_ENTRIES


def candidate_iterates(
    process: GaussianProcess,
    x: Float[Tensor, "batch N d"],
    t: float,
    steps: int,
    most: int,
    preconditioners: Float[Tensor, "applications d N N"] | None = None,
    truncation: int | None = None,
) -> dict[Name, Float[Tensor, "batch N d"]]:
    """Iterates of every solver by (algorithm, step), float64; the closed form, which some processes have, is the exact
    score.

    Args:
        process: gives the covariance.
        x: noisy sequences.
        t: diffusion time.
        steps: K that Chebyshev is tuned to.
        most: steps of gradient descent and of conjugate gradient.
        preconditioners: P_j in the eigenbasis of Sigma, see `unrolled.handset.dense_inverses`.
        truncation: J, where the solvers run on C_{t,J}; None for C_t.
    """
    covariance = TruncatedCovariance(process, truncation or process.length)
    r = x.double() - alpha(t) * process.mean
    extremes = covariance.extreme_eigenvalues(t) if truncation else process.extreme_eigenvalues(t)

    def operator(v: Tensor) -> Tensor:
        return covariance.operator(v, t)

    runs = {
        "gradient_descent": gradient_descent(operator, r, *extremes, most),
        "chebyshev": chebyshev(operator, r, *extremes, steps),
        "conjugate_gradient": conjugate_gradient(operator, r, most),
    }
    if preconditioners is not None:
        runs["preconditioned"] = preconditioned(operator, r, precondition(process, preconditioners))
    if truncation is None and is_ou(process):
        runs["closed_form"] = iter([process.score(x.double(), t)])
    return {(name, k): s for name, run in runs.items() for k, s in enumerate(run, start=1)}


def polynomial(solver: str, c: Float[Tensor, " n"], steps: Sequence[int]) -> Float[Tensor, "steps n"]:
    """p_k(c), by which the error of step k is that of s = 0 multiplied, for eigenvalues c with their extremes among
    them.

    Gradient descent: (1 - 2 c/(L+m))^k. `chebyshev_final`: T_k((L+m-2c)/(L-m)) / T_k((L+m)/(L-m)).

    Raises:
        InputError: a solver that is neither.
    """
    k = torch.tensor(list(steps), dtype=torch.float64)[:, None]
    low, high = float(c.min()), float(c.max())
    if solver == "gradient_descent":
        return (1 - 2 * c / (low + high)) ** k
    if solver != "chebyshev_final":
        raise InputError(f"solver: {solver!r} is not accepted; accepted: 'gradient_descent' and 'chebyshev_final'")
    if low == high:
        return (k == 0).double().expand(-1, len(c))
    scale = torch.tensor([chebyshev_bound(high / low, step) for step in steps], dtype=torch.float64)[:, None]
    return scale * torch.cos(k * torch.arccos(((low + high - 2 * c) / (high - low)).clamp(-1, 1)))


class Spectral:
    """The system of a batch at one t in the eigenbasis of C_t.

    Args:
        process: gives the covariance and the mean.
        x: (batch, N, d) noisy sequences.
        t: diffusion time.

    Attributes:
        c: (N d,) eigenvalues.
        r: (batch, N d) coordinates of x - alpha_t mu.
        s: (batch, N d) coordinates of the exact score.
    """

    def __init__(self, process: GaussianProcess, x: Float[Tensor, "batch N d"], t: float):
        self._u, self._v = process.temporal_eigen[1], process.spatial_eigen[1]
        self.c = process.eigenvalues(t).flatten()
        centred = x.detach().cpu().double() - alpha(t) * process.mean
        self.r = (self._u.T @ centred @ self._v).flatten(1)
        self.s = -self.r / self.c

    def sequences(self, z: Float[Tensor, "batch Nd"]) -> Float[Tensor, "batch N d"]:
        """Coordinates as sequences."""
        return self._u @ z.reshape(len(z), len(self._u), len(self._v)) @ self._v.T

    def coordinates(self, s: Float[Tensor, "batch N d"]) -> Float[Tensor, "batch Nd"]:
        """Sequences as coordinates."""
        return (self._u.T @ s @ self._v).flatten(1)

    def product(self, v: Float[Tensor, "batch N d"]) -> Float[Tensor, "batch N d"]:
        """C_t v."""
        return self.sequences(self.c * self.coordinates(v))

    def conjugate_gradient(self, steps: int) -> Iterator[Float[Tensor, "batch Nd"]]:
        """Its iterates 1, 2, .. as coordinates."""
        return conjugate_gradient(lambda v: self.c * v, self.r, steps)


def ladder(most: int) -> list[int]:
    """Steps 0..24, then pairs k, k + 1 a quarter of an octave apart, to `most`.

    Pairs, because the error of gradient descent at the largest eigenvalue changes its sign with every step.
    """
    steps = set(range(min(most, 24) + 1)) | {most}
    k = 24.0
    while (k := k * 2**0.25) <= most:
        steps |= {round(k), min(most, round(k) + 1)}
    return sorted(steps)


def solver_states(
    process: GaussianProcess, x: Float[Tensor, "batch N d"], t: float, blocks: int, most: int
) -> Iterator[tuple[str, int, Float[Tensor, "batch N d"]]]:
    """(solver, step, iterate) for the solvers a layer is matched against, on the steps of `ladder`, float64.

    Gradient descent and `chebyshev_final` up to `most` steps; conjugate gradient until no iterate changes any more;
    `chebyshev` tuned to `blocks` steps, all of them; the preconditioned iteration, its weights solved at this t alone.
    """
    system = Spectral(process, x, t)
    zero = torch.zeros_like(system.s)
    steps = ladder(most)
    for solver in ("gradient_descent", "chebyshev_final"):
        for k, p in zip(steps, polynomial(solver, system.c, steps), strict=True):
            yield solver, k, system.sequences((1 - p) * system.s)
    yield "chebyshev", 0, system.sequences(zero)
    s = zero
    for k, eta in enumerate(chebyshev_steps(float(system.c.min()), float(system.c.max()), blocks), start=1):
        s = s - eta * (system.c * s + system.r)
        yield "chebyshev", k, system.sequences(s)
    yield "conjugate_gradient", 0, system.sequences(zero)
    for k, s in enumerate(system.conjugate_gradient(min(most, len(system.c))), start=1):
        if k in steps:
            yield "conjugate_gradient", k, system.sequences(s)
            if float((s - system.s).norm()) <= 1e-9 * float(system.s.norm()):
                break
    if preconditioner_fits(process):
        yield "preconditioned", 0, system.sequences(zero)
        matrices = solved_preconditioners(process, t, min(most, APPLICATIONS), RIDGE)
        r = system.sequences(system.r)
        run = preconditioned(system.product, r, precondition(process, matrices))
        for k, s in enumerate(run, start=1):
            yield "preconditioned", k, s
