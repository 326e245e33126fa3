"""Reverse-time samplers, from N(0, I) at the largest time down to the smallest; they take any score model.

Each is a generator that yields (t, x) after every step, starting with the initial state, so that a caller can watch or
stop it. `t_grid` are decreasing times within the model's range, anything else is an InputError; x (batch, N, d).
"""

import itertools
from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import require_integer, require_t_grid, require_t_range
from unrolled.diffusion import ScoreModel, alpha, sigma

__all__ = ["log_time_grid", "probability_flow", "reverse_sde"]


def log_time_grid(t_range: tuple[float, float], steps: int) -> list[float]:
    """steps + 1 times from t_range[1] down to t_range[0], evenly spaced in log t."""
    low, high = require_t_range(t_range)
    require_integer("steps", steps)
    return [high * (low / high) ** (k / steps) for k in range(steps)] + [low]


@torch.no_grad()
def _score(model: ScoreModel, x: Float[Tensor, "batch N d"], t: float) -> Float[Tensor, "batch N d"]:
    """The model without gradients; inside the generators, since a decorator on them would end at their first yield."""
    return model(x, t)


def probability_flow(
    model: ScoreModel, x: Float[Tensor, "batch N d"], t_grid: Iterable[float]
) -> Iterator[tuple[float, Float[Tensor, "batch N d"]]]:
    """Heun steps of the probability-flow ODE dx/dt = -x/2 - score/2, second order in the step.

    In y = x/alpha_t and rho = sigma_t/alpha_t the ODE is dy/drho = -sigma_t score, without a linear part
    (published: Karras et al., arXiv 2206.00364, sec. 3); Heun steps are taken there. Deterministic given x.
    """
    times = require_t_grid(t_grid)
    yield times[0], x
    slope = -sigma(times[0]) * _score(model, x, times[0])
    for t, t_next in itertools.pairwise(times):
        step = sigma(t_next) / alpha(t_next) - sigma(t) / alpha(t)
        predicted = alpha(t_next) * (x / alpha(t) + step * slope)
        slope_next = -sigma(t_next) * _score(model, predicted, t_next)
        x = alpha(t_next) * (x / alpha(t) + step * (slope + slope_next) / 2)
        slope = -sigma(t_next) * _score(model, x, t_next)
        yield t_next, x


def reverse_sde(
    model: ScoreModel,
    x: Float[Tensor, "batch N d"],
    t_grid: Iterable[float],
    generator: torch.Generator | None = None,
) -> Iterator[tuple[float, Float[Tensor, "batch N d"]]]:
    """The reverse SDE dx = (x/2 + score) d(-t) + dW with the score frozen during a step h and the rest exact:

    x' = e^{h/2} x + 2 (e^{h/2} - 1) score + sqrt(e^h - 1) z (published: the exponential integrator of Chen et al.,
    arXiv 2209.11215); first order in the step.
    """
    times = torch.tensor(require_t_grid(t_grid), dtype=torch.float64)
    yield float(times[0]), x
    for t, t_next in itertools.pairwise(times):
        half = torch.expm1((t - t_next) / 2)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        x = (1 + half) * x + 2 * half * _score(model, x, float(t)) + torch.expm1(t - t_next).sqrt() * noise
        yield float(t_next), x
