# pyright: reportUnknownVariableType=false
"""How far a score model is from the truth: score error, denoising loss, and the covariance of what it generates."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import require_integer
from unrolled.diffusion import ScoreModel, alpha, check_time, denoising_loss, relative_error, sigma
from unrolled.process import GaussianProcess

__all__ = [
    "EVALUATION_TIMES",
    "chosen_times",
    "denoising_losses",
    "generated_covariance",
    "score_errors",
    "times_within",
]

EVALUATION_TIMES = (0.01, 0.05, 0.2, 1.0, 3.0)
"""Diffusion times of the table that every training run ends with."""


def times_within(t_range: tuple[float, float], times: Sequence[float] = EVALUATION_TIMES) -> list[float]:
    """Those of `times` that lie in `t_range`."""
    return [t for t in times if t_range[0] <= t <= t_range[1]]


def chosen_times(given: Sequence[float], t_range: tuple[float, float]) -> list[float]:
    """The times a command looks at, each once and ascending: those given, else the usual ones that the model accepts.

    Raises:
        InputError: a time outside `t_range`.
    """
    times = sorted(set(given)) or times_within(t_range) or [t_range[0]]
    for t in times:
        check_time(t, 1, t_range)
    return times


@torch.no_grad()
def score_errors(
    model: ScoreModel,
    process: GaussianProcess,
    times: Iterable[float],
    samples: int = 512,
    seed: int = 1,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> dict[float, float]:
    """Relative score error of `model` at each t: root of the mean squared error over the mean squared norm.

    Fresh noisy samples are drawn in float64 and rounded to `dtype`; the truth is the exact score of the rounded
    values, in float64. The relative standard error of each figure is about 1/sqrt(2 samples N d) when errors of
    different entries are independent.
    """
    require_integer("samples", samples)
    generator = torch.Generator().manual_seed(seed)
    errors: dict[float, float] = {}
    for t in times:
        x = process.noisy(samples, t, generator).to(device, dtype)
        errors[t] = relative_error(model(x, t), process.score(x.double(), t))
    return errors


@torch.no_grad()
def denoising_losses(
    model: ScoreModel,
    x0: Float[Tensor, "n N d"],
    times: Iterable[float],
    seed: int = 1,
    dtype: torch.dtype = torch.float32,
) -> dict[float, float]:
    """Mean denoising loss at each t on the clean sequences `x0`, with the same noise for every model and seed."""
    generator = torch.Generator().manual_seed(seed)
    losses = {}
    for t in times:
        noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64).to(x0.device, dtype)
        losses[t] = float(denoising_loss(model, x0.to(dtype), t, noise).double().mean())
    return losses


def generated_covariance(x: Float[Tensor, "n N d"], t: float) -> Float[Tensor, "Nd Nd"]:
    """Estimate of the clean covariance from samples of X_t: (cov(X_t) - sigma_t^2 I) / alpha_t^2, float64.

    Samplers stop at t > 0; this removes exactly what the noise left at that t adds. Centred on the sample mean and not
    clipped, so unbiased: it need not be positive semidefinite.
    """
    covariance = torch.cov(x.double().flatten(1).T)
    return (covariance - sigma(t) ** 2 * torch.eye(len(covariance)).to(covariance)) / alpha(t) ** 2
