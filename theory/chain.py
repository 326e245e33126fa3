"""From sizes to total variation, link by link: what a hand-set model and a sampler guarantee for one process.

    TV(p_0, q_h) <= TV(p_0, p_t0) + TV(p_t0, q_h)                                    triangle inequality
    TV(p_0, p_t0) <= sqrt(KL(p_t0 || p_0)/2)                                         pinsker, early-stopping-kl
    TV(p_t0, q_h) <= sqrt(KL(p_t0 || q_h)/2)                                         pinsker
    KL(p_t0 || q_h) <= KL_T + sum over steps of int E|s(X_t, t) - s_hat(X_k, t_k)|^2 dt/2    girsanov-discretised
    |s(X_t, t) - s_hat(X_k, t_k)|^2 <= 2 |s(X_t, t) - s(X_k, t_k)|^2 + 2 |s(X_k, t_k) - s_hat(X_k, t_k)|^2
    int E|s(X_t, t) - s(X_k, t_k)|^2 dt, exact                                       frozen-score at A = -1/c_k
    E|s - s_hat|^2 <= eps^2 E|s|^2 at every t_k                                      score-error-budget

Each conclusion is the hypothesis of the line above it. Every link is a number for a Gaussian process, and the sizes are
chosen so that the two total variations take equal shares, and the parts of KL those of SHARES.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import sympy as sp

from theory.registry import find
from unrolled.checks import refuse, require_number
from unrolled.handset.truncation import TruncatedCovariance, truncate
from unrolled.process import GaussianProcess

__all__ = ["Chain", "chain", "discretisation"]

SMALLEST_TIME = 1e-9
LARGEST_TIME = 60.0
FIRST_STEPS = 64
MOST_STEPS = 3 * 10**7
SHARES = {"terminal": 0.1, "discretisation": 0.8, "score": 0.1}
"""Shares of the divergence of the samples. Steps cost most: their link falls like one over their number only."""
ROUNDS = 60
"""Halvings of an interval in which a time is looked for."""


class Chain(NamedTuple):
    """The sizes, and every link.

    Attributes:
        t0: time at which the sampler stops.
        T: time at which it starts from N(0, I).
        steps: of the sampler, even in log t.
        lags: J of the model's covariance.
        iterations: K of its Chebyshev iteration.
        score_error: relative score error, in exact arithmetic, at every t >= t0.
        early: bound on KL(p_t0 || p_0).
        terminal: bound on KL(p_T || N(0, I)).
        discretisation: sum over steps of int E|s(X_t, t) - s(X_k, t_k)|^2 dt.
        score: eps^2 sum over steps of h E|s(X_k, t_k)|^2.
    """

    t0: float
    T: float
    steps: int
    lags: int
    iterations: int
    score_error: float
    early: float
    terminal: float
    discretisation: float
    score: float

    @property
    def kl(self) -> float:
        """Bound on KL(p_t0 || q_h)."""
        return self.terminal + self.discretisation + self.score

    @property
    def total_variation(self) -> float:
        """Bound on TV(p_0, q_h)."""
        return math.sqrt(self.early / 2) + math.sqrt(self.kl / 2)


def chain(process: GaussianProcess, eta: float) -> Chain:
    """Sizes with TV(p_0, q_h) <= eta for a Chebyshev model and the sampler with its steps, derived.

    Raises:
        InputError: no sizes in reach, as for a covariance that is nearly singular, whose early stopping costs too much.
    """
    require_number("eta", eta, 0, 1)
    spectrum, means = _spectrum(process)
    half = eta**2 / 2  # sqrt(KL/2) is eta/2
    t0 = _last(lambda t: _early(spectrum, means, t) <= half, SMALLEST_TIME, 1.0)
    allowed = SHARES["terminal"] * half
    largest = _first(lambda t: _terminal(spectrum, means, t) <= allowed, 2 * t0, LARGEST_TIME)
    steps = _steps(spectrum, t0, largest, SHARES["discretisation"] * half)
    grid = np.geomspace(largest, t0, steps + 1)
    decayed, h = np.exp(-grid[:-1]), -np.diff(grid)
    energy = sum(float((h / (1 + decayed * (eigenvalue - 1))).sum()) for eigenvalue in spectrum)
    wanted = math.sqrt(SHARES["score"] * half / energy)
    covariance, iterations, error = _model(process, t0, wanted)
    return Chain(
        t0, largest, steps, covariance.lags, iterations, error, _early(spectrum, means, t0),
        _terminal(spectrum, means, largest), discretisation(spectrum, grid), error**2 * energy,
    )  # fmt: skip


def _spectrum(process: GaussianProcess) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of the data's covariance, and the mean along their eigenvectors."""
    (g, u), (s, v) = process.temporal_eigen, process.spatial_eigen
    spectrum = (g[:, None] * s).flatten().clamp(min=1e-15).numpy()
    return spectrum, (u.T @ process.mean @ v).flatten().numpy()


@cache
def _of_arrays(claim: str, *letters: str) -> Callable[..., np.ndarray]:
    """The bound of a claim as a function of arrays; every value here satisfies its assumptions."""
    bound = find(claim).expression
    named = {str(symbol): symbol for symbol in bound.free_symbols}
    return sp.lambdify([named[letter] for letter in letters], bound, modules="numpy")


def _early(spectrum: np.ndarray, means: np.ndarray, t: float) -> float:
    return float(_of_arrays("early-stopping-kl", "c_0", "mu_0", "t")(spectrum, means, t).sum())


def _terminal(spectrum: np.ndarray, means: np.ndarray, t: float) -> float:
    return float(_of_arrays("terminal-kl-bound", "lambda_0", "mu_0", "T")(spectrum, means, t).sum())


def discretisation(spectrum: np.ndarray, grid: np.ndarray) -> float:
    """int E|s(X_t, t) - s(X_k, t_k)|^2 dt over a grid of falling times, summed over eigenvalues of the data.

    frozen-score with A = -1/c_k: log(c_k/c_{k+1}) + h - 4 (1 - e^(-h/2))/c_k + h/c_k for each step. The terms cancel to
    h^2/(2 c^2), so they are written as differences from their first order.
    """
    h, decayed = -np.diff(grid), np.exp(-grid[:-1])
    grown = np.expm1(h)
    exponential = 2 * (h + 2 * np.expm1(-h / 2))
    total = 0.0
    for eigenvalue in spectrum:  # one at a time: there may be millions of steps
        inverse = 1 / (1 + decayed * (eigenvalue - 1))
        growth = grown * (1 - inverse)  # c_{k+1}/c_k - 1, whose first order leaves the logarithm
        total += float((growth - np.log1p(growth) - (grown - h) * (1 - inverse) + exponential * inverse).sum())
    return total


def _steps(spectrum: np.ndarray, t0: float, largest: float, allowed: float) -> int:
    """Steps whose discretisation is allowed, hardly more than needed: it falls like one over their number."""
    steps = FIRST_STEPS
    while (cost := discretisation(spectrum, np.geomspace(largest, t0, steps + 1))) > allowed:
        steps = min(8 * steps, math.ceil(1.02 * steps * cost / allowed))
        if steps > MOST_STEPS:
            refuse("eta", allowed, f"a larger one; {MOST_STEPS} steps from t = {largest:g} to {t0:g} are not enough")
    return steps


def _model(process: GaussianProcess, t0: float, wanted: float) -> tuple[TruncatedCovariance, int, float]:
    """(truncated covariance, steps K, relative score error) of a Chebyshev model, by claim score-error-budget."""
    first = truncate(process, None, t0).lags
    candidates = (TruncatedCovariance(process, lags) for lags in range(first, process.length + 1))
    covariance = next(c for c in candidates if c.lags == process.length or c.relative_error(t0) <= wanted / 2)
    tail = covariance.relative_error(t0)
    low, high = covariance.extreme_eigenvalues(t0)
    depth = find("chebyshev-depth").evaluate(kappa=max(high / low, 1 + 1e-9), epsilon=(wanted - tail) / (1 + tail))
    iterations = max(1, math.ceil(depth))
    budget = find("score-error-budget").evaluate(
        {"r_J": tail, "kappa_J": max(high / low, 1.0), "K": iterations, "predicted": 0.0}
    )
    return covariance, iterations, budget


def _last(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The largest time up to which something holds, by halving in log t."""
    if not holds(low):
        refuse("t_0", low, "a larger eta, or a covariance that is not nearly singular")
    return _bisected(holds, low, high)


def _first(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The smallest time from which something holds, by halving in log t."""
    if not holds(high):
        refuse("T", high, "a larger eta")
    return _bisected(lambda t: not holds(t), low, high, upper=True)


def _bisected(holds: Callable[[float], bool], low: float, high: float, upper: bool = False) -> float:
    if holds(high):
        return high
    for _ in range(ROUNDS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high if upper else low
