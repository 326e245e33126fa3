# pyright: reportMissingTypeStubs=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The law of generated samples for affine score models: Gaussian, so that its distances carry no sampling noise.

A model is affine if model(x, t) = A_t x + b_t on the row-major vector x of n = N d values: the exact score, and
hand-set models whose step sizes do not depend on x. Everything is dense and float64, and costs one batch of n + 2
sequences for each model evaluation.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor, nn

from unrolled.checks import InputError, require_choice, require_t_grid, require_t_range
from unrolled.diffusion import ScoreModel, alpha
from unrolled.gaussian import GaussianLaw, kl_divergence
from unrolled.process import GaussianProcess
from unrolled.samplers import probability_flow

__all__ = [
    "affine_score",
    "discrete_girsanov_bound",
    "discrete_law",
    "generated_law",
    "girsanov_bound",
    "marginal_law",
    "relative_score_error",
    "score_error",
    "standard_law",
]

Kind = Literal["sde", "ode"]
"""The reverse SDE or the probability-flow ODE."""
AFFINE = 1e-6
"""Gap to an affine map, relative to the size of the score, up to which a model counts as affine."""


@torch.no_grad()
def _affine(
    function: Callable[[Tensor], Tensor], length: int, dim: int, rtol: float
) -> tuple[Float[Tensor, "n n"], Float[Tensor, " n"]]:
    """(A, b) of an affine function of (batch, N, d), from its values at 0 and the unit vectors, checked at another."""
    n = length * dim
    point = torch.randn(1, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs = torch.cat([torch.zeros(1, n, dtype=torch.float64), torch.eye(n, dtype=torch.float64), point])
    values = function(inputs.reshape(-1, length, dim)).double().reshape(-1, n)
    offset, matrix = values[0], (values[1:-1] - values[0]).T
    gap = float((values[-1] - matrix @ point[0] - offset).norm())
    size = float(matrix.norm() * point.norm() / math.sqrt(n) + offset.norm())
    if not gap <= rtol * size:
        raise InputError(
            f"model: off from an affine map by {gap / size if size else math.inf:.2g} of its size is not accepted;"
            f" accepted: a score that is affine in x to {rtol:g}"
        )
    return matrix, offset


def affine_score(
    model: ScoreModel, length: int, dim: int, t: float, rtol: float = AFFINE
) -> tuple[Float[Tensor, "n n"], Float[Tensor, " n"]]:
    """(A_t, b_t) with model(x, t) = A_t x + b_t in row-major order, float64, from n + 2 evaluations.

    Args:
        rtol: largest gap at a seeded standard normal point, relative to the root mean square of |A x| plus |b|.

    Raises:
        InputError: a model that is not affine there, such as conjugate gradient.
    """
    return _affine(lambda x: model(x, t), length, dim, rtol)


def standard_law(n: int) -> GaussianLaw:
    """N(0, I) on R^n, what the samplers start from."""
    return GaussianLaw(torch.zeros(n, dtype=torch.float64), torch.eye(n, dtype=torch.float64))


def marginal_law(process: GaussianProcess, t: float) -> GaussianLaw:
    """The law N(alpha_t mu, C_t) of X_t, row-major."""
    return GaussianLaw(alpha(t) * process.mean.flatten(), process.noisy_covariance(t))


def _check(t_range: tuple[float, float] = (1.0, 2.0), kind: str = "sde") -> None:
    require_t_range(t_range)
    require_choice("kind", kind, ("sde", "ode"))


def generated_law(
    model: ScoreModel,
    length: int,
    dim: int,
    t_range: tuple[float, float],
    kind: Kind = "sde",
    start: GaussianLaw | None = None,
    rtol: float = 1e-9,
) -> GaussianLaw:
    """The law at t_range[0] of what an affine model generates in continuous time from `start` at t_range[1].

    Backwards in t the state obeys dx = F x + g, plus dW for "sde": F = I/2 + A, g = b there, and F = (I + A)/2, g = b/2
    for "ode". Mean and covariance then obey m' = F m + g and P' = F P + P F' (+ I) (published: Sarkka and Solin,
    Applied Stochastic Differential Equations, sec. 6.1), solved in log t by DOP853.

    Args:
        kind: "sde" for the reverse SDE, "ode" for the probability-flow ODE.
        start: N(0, I) where not given.
        rtol: local tolerance of the solver in every entry, relative to it or to min(1, t_range[0]) where that is
            larger. It is at least 100 times the rounding of the model's weights, since a solver would follow rounding
            in ever smaller steps.

    Raises:
        InputError: a model that is not affine, or whose weights round to more than rtol/100; a range or kind that is
            not one; a solver that gave up.
    """
    _check(t_range, kind)
    weights = model.parameters() if isinstance(model, nn.Module) else ()
    rounding = max((torch.finfo(weight.dtype).eps for weight in weights), default=0.0)
    if rtol < 100 * rounding:
        raise InputError(
            f"model: weights that round to {rounding:.1g} are not accepted with rtol {rtol:g};"
            f" accepted: rtol >= {100 * rounding:.1g}, or model.double()"
        )
    n = length * dim
    share, noise = (1.0, np.eye(n)) if kind == "sde" else (0.5, np.zeros((n, n)))

    def slope(backwards: float, state: np.ndarray) -> np.ndarray:
        t = min(max(math.exp(-backwards), t_range[0]), t_range[1])
        matrix, offset = (part.numpy() for part in affine_score(model, length, dim, t))
        drift = np.eye(n) / 2 + share * matrix
        mean, covariance = state[:n], state[n:].reshape(n, n)
        spread = drift @ covariance
        return t * np.concatenate([drift @ mean + share * offset, (spread + spread.T + noise).ravel()])

    law = standard_law(n) if start is None else start
    initial = torch.cat([law.mean.double(), law.covariance.double().flatten()]).numpy()
    span = (-math.log(t_range[1]), -math.log(t_range[0]))
    solution = scipy.integrate.solve_ivp(
        slope, span, initial, method="DOP853", t_eval=[span[1]], rtol=rtol, atol=rtol * min(1.0, t_range[0])
    )
    if not solution.success:
        raise InputError(f"model: its law could not be integrated over {t_range!r}: {solution.message}")
    state = torch.from_numpy(solution.y[:, -1].copy())
    covariance = state[n:].reshape(n, n)
    return GaussianLaw(state[:n], (covariance + covariance.T) / 2)


def discrete_law(model: ScoreModel, length: int, dim: int, t_grid: Sequence[float], kind: Kind = "sde") -> GaussianLaw:
    """The law of what `reverse_sde` ("sde") or `probability_flow` ("ode") generates on `t_grid`, exact up to rounding.

    Every step of either is affine in x (derived); for "sde" with M = e^{h/2} I + 2 (e^{h/2} - 1) A the mean goes to
    M m + 2 (e^{h/2} - 1) b and the covariance to M P M' + (e^h - 1) I.

    Raises:
        InputError: a model that is not affine, another kind, or times that do not fall.
    """
    _check(kind=kind)
    times, n = require_t_grid(t_grid), length * dim
    if kind == "ode":

        def flow(x: Tensor) -> Tensor:
            *_, (_, last) = probability_flow(model, x, times)
            return last

        matrix, offset = _affine(flow, length, dim, AFFINE)
        return GaussianLaw(offset, matrix @ matrix.T)
    mean, covariance = standard_law(n)
    for t, t_next in itertools.pairwise(times):
        matrix, offset = affine_score(model, length, dim, t)
        half = math.expm1((t - t_next) / 2)
        step = (1 + half) * torch.eye(n, dtype=torch.float64) + 2 * half * matrix
        mean = step @ mean + 2 * half * offset
        covariance = step @ covariance @ step.T + math.expm1(t - t_next) * torch.eye(n, dtype=torch.float64)
    return GaussianLaw(mean, (covariance + covariance.T) / 2)


def relative_score_error(model: ScoreModel, process: GaussianProcess, t: float) -> float:
    """Root of E|s - s_hat|^2 over E|s|^2 at X_t of the process, exact: no samples.

    For an affine model with D = A + C_t^{-1} the first is tr(D C_t D') + |A m + b|^2 at m = alpha_t mu, where s is 0,
    the second tr C_t^{-1} (derived).

    Raises:
        InputError: a model that is not affine.
    """
    error, size = _mean_squares(model, process, t)
    return math.sqrt(error / size)


def _mean_squares(model: ScoreModel, process: GaussianProcess, t: float) -> tuple[float, float]:
    """(E|s - s_hat|^2, E|s|^2)."""
    matrix, offset = affine_score(model, process.length, process.dim, t)
    mean, covariance = marginal_law(process, t)
    root = torch.linalg.cholesky(covariance)
    exact = torch.cholesky_solve(torch.eye(len(mean), dtype=torch.float64), root)
    error = ((matrix + exact) @ root).square().sum() + (matrix @ mean + offset).square().sum()
    return float(error), float(exact.trace())


def score_error(
    model: ScoreModel, process: GaussianProcess, t_range: tuple[float, float], rtol: float = 1e-8
) -> tuple[float, float]:
    """(int E|s - s_hat|^2 dt over t_range, its estimated quadrature error), X_t of the process, s its exact score.

    The expectation is that of `relative_score_error`. Gauss-Kronrod in log t to rtol, and to 1e-13 absolutely.

    Raises:
        InputError: a model that is not affine, or a range that is not one.
    """
    _check(t_range)

    def density(log_t: float) -> float:
        t = min(max(math.exp(log_t), t_range[0]), t_range[1])
        return t * _mean_squares(model, process, t)[0]

    logs = (math.log(t_range[0]), math.log(t_range[1]))
    value, error, *_ = scipy.integrate.quad(density, *logs, epsrel=rtol, epsabs=1e-13, limit=200, full_output=1)
    return value, error


def girsanov_bound(
    model: ScoreModel, process: GaussianProcess, t_range: tuple[float, float], rtol: float = 1e-8
) -> float:
    """KL(p_T || N(0, I)) + 1/2 int E|s - s_hat|^2 dt, at least KL(p_t0 || q_t0) for the continuous-time reverse SDE.

    q_t0 is `generated_law` of kind "sde" over t_range = (t0, T); a sampler with steps, or the ODE, may lie further away
    (published: Girsanov's theorem; Chen et al., arXiv 2209.11215). The estimated error of the quadrature is added.

    Raises:
        InputError: a model that is not affine, or a range that is not one.
    """
    value, error = score_error(model, process, t_range, rtol)
    terminal = kl_divergence(marginal_law(process, t_range[1]), standard_law(process.length * process.dim))
    return terminal + (value + error) / 2


def discrete_girsanov_bound(model: ScoreModel, process: GaussianProcess, t_grid: Sequence[float]) -> float:
    """KL(p_T || N(0, I)) + 1/2 sum over steps of int E|s(X_t, t) - s_hat(X_k, t_k)|^2 dt, at least KL(p_t0 || q_t0).

    q_t0 is `discrete_law` of kind "sde" on t_grid, X the forward process: the score frozen during a step is compared
    with the exact one at every t in it. For an affine model a step of length h from t_k adds, with m = alpha_k mu,

        log det C_k - log det C_{k+1} + n h + 4 (1 - e^{-h/2}) tr A_k + h (tr(A_k C_k A_k') + |A_k m + b_k|^2)

    (derived; claim frozen-score). Terms of size n cancel, so that it is good to about 1e-14 n for each step.

    Raises:
        InputError: a model that is not affine.
    """
    times = require_t_grid(t_grid)
    n = process.length * process.dim
    laws = [marginal_law(process, t) for t in times]
    total = 0.0
    for (t, law), (t_next, after) in itertools.pairwise(zip(times, laws, strict=True)):
        matrix, offset = affine_score(model, process.length, process.dim, t)
        h = t - t_next
        size = (matrix @ law.covariance * matrix).sum() + (matrix @ law.mean + offset).square().sum()
        growth = torch.logdet(law.covariance) - torch.logdet(after.covariance)
        total += float(growth + n * h - 4 * math.expm1(-h / 2) * matrix.trace() + h * size)
    return kl_divergence(laws[0], standard_law(n)) + total / 2
