"""Effective depth: how many steps a solver needs for the score error that a network has, at one t.

Network and solver are judged on the same noisy sequences, error = (sum |s_hat - s|^2 / sum |s|^2)^(1/2) over them. The
depth is where the solver's error first falls to the network's, between whole steps by interpolation of log error: a
network that is step k of the solver has depth k. Step 0 is s = 0, of error 1: a network with a larger error has depth
0. A solver that does not get there within the steps that were looked at has depth inf, printed as "> steps", never cut
off in silence.

Solvers: gradient descent with the best fixed step; `chebyshev_final`, each k by the method tuned to k steps; conjugate
gradient; applications of the preconditioner, its weights solved at this t alone. Intervals are 95 % bootstrap intervals
over sequences, resampled for network and solver together.
"""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from probes.layers.iterates import APPLICATIONS, Spectral, polynomial, preconditioner_fits
from unrolled.handset.construct import RIDGE
from unrolled.handset.dense_inverses import precondition, solved_preconditioners
from unrolled.process import GaussianProcess
from unrolled.solvers import preconditioned

__all__ = ["effective_depth", "fractional_depth", "solver_errors"]

LEVEL = 0.95
"""Nominal coverage of the intervals."""
CONVERGED = 1e-10
"""Relative error at which conjugate gradient is stopped: no network of float32 is better, and float64 ones are at depth
inf there, beyond the steps that were run."""
SMALLEST = torch.finfo(torch.float64).eps
"""Relative errors below this are this: the logarithm of an exact 0 would bend the interpolation."""


def solver_errors(
    process: GaussianProcess, x: Float[Tensor, "n N d"], t: float, most: int
) -> Iterator[tuple[str, Float[Tensor, "steps n"]]]:
    """(solver, squared errors of each sequence after 0, 1, 2, .. steps), float64.

    Args:
        process: whose exact score is the truth.
        x: noisy sequences.
        t: diffusion time.
        most: most steps; the preconditioner makes at most APPLICATIONS, conjugate gradient stops when converged.
    """
    system = Spectral(process, x, t)
    squares = system.s.square().T  # (N d, n)
    steps = range(most + 1)
    for solver in ("gradient_descent", "chebyshev_final"):
        yield solver, polynomial(solver, system.c, steps).square() @ squares
    size = system.s.square().sum(dim=1)
    errors = [size]
    for s in system.conjugate_gradient(most):
        errors.append((s - system.s).square().sum(dim=1))
        if float(errors[-1].sum()) <= CONVERGED**2 * float(size.sum()):
            break
    yield "conjugate_gradient", torch.stack(errors)
    if not preconditioner_fits(process):
        return
    exact, r = system.sequences(system.s), system.sequences(system.r)
    maps = precondition(process, solved_preconditioners(process, t, min(most, APPLICATIONS), RIDGE))
    run = [(s - exact).square().sum(dim=(1, 2)) for s in preconditioned(system.product, r, maps)]
    yield "preconditioned", torch.stack([size, *run])


def fractional_depth(errors: Float[np.ndarray, "steps n"], level: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The first k, by log-linear interpolation, at which each column of relative `errors` is down to `level`; inf where
    it never is."""
    log_errors, log_level = (np.log(np.maximum(values, SMALLEST)) for values in (errors, level))
    reached = log_errors <= log_level
    k = reached.argmax(axis=0)
    column = np.arange(len(level))
    after, before = log_errors[k, column], log_errors[np.maximum(k - 1, 0), column]
    gap = before - after  # > 0 where k > 0: before is above the level and after is not
    depth = np.where(k > 0, k - 1 + np.divide(before - log_level, gap, out=np.ones_like(gap), where=gap > 0), 0.0)
    return np.where(reached.any(axis=0), depth, math.inf)


def effective_depth(
    score: Float[Tensor, "n N d"],
    process: GaussianProcess,
    x: Float[Tensor, "n N d"],
    t: float,
    most: int,
    counts: Float[Tensor, "resamples n"],
) -> pd.DataFrame:
    """Depth of a network by each solver at one t.

    Args:
        score: what the network gives for x.
        process: whose exact score is the truth.
        x: noisy sequences.
        t: diffusion time.
        most: most steps of a solver.
        counts: how often each sequence is in each resample, see `probes.resampling.bootstrap_counts`.

    Returns:
        Columns t, solver, depth with its interval low..high, each inf where it is beyond `steps`, the number of steps
        looked at; error of the network with its interval.
    """
    exact = process.score(x.detach().cpu().double(), t)
    size = exact.square().sum(dim=(1, 2))
    own = (score.detach().cpu().double() - exact).square().sum(dim=(1, 2))
    tail = (1 - LEVEL) / 2

    def relative(
        squares: Float[Tensor, "rows n"], weights: Float[Tensor, "draws n"]
    ) -> Float[np.ndarray, "rows draws"]:
        return (squares @ weights.T / (weights @ size)).sqrt().numpy()

    whole = torch.ones(1, len(size), dtype=torch.float64)
    error, drawn = relative(own[None], whole)[0], relative(own[None], counts)[0]
    error_low, error_high = np.quantile(drawn, [tail, 1 - tail])
    rows = []
    for solver, squares in solver_errors(process, x, t, most):
        depth = float(fractional_depth(relative(squares, whole), error)[0])
        draws = fractional_depth(relative(squares, counts), drawn)
        # Order statistics: interpolating between a number and inf has no meaning.
        low, high = np.quantile(draws, [tail, 1 - tail], method="inverted_cdf")
        rows.append({
            "t": t, "solver": solver, "depth": depth, "low": float(low), "high": float(high), "steps": len(squares) - 1,
            "error": float(error[0]), "error_low": float(error_low), "error_high": float(error_high),
        })  # fmt: skip
    return pd.DataFrame(rows)
