"""The law of the samples of affine stand-ins, and the best affine map of a network.

The sampler is the probability-flow ODE in `STEPS` Heun steps, evenly spaced in log t. For a score that is affine in x
its law is Gaussian and exact (`unrolled.generated`), so that its distance from the law of the data has no sampling
noise. What the steps themselves leave is what the exact score has in the same sampler.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from probes.modes.operator import Coordinates, RegressionFit
from unrolled.diffusion import ScoreModel
from unrolled.gaussian import kl_divergence
from unrolled.generated import discrete_law, marginal_law
from unrolled.process import GaussianProcess
from unrolled.samplers import log_time_grid

__all__ = ["STEPS", "AffineScore", "best_affine", "kl_by_time", "sampler_grid"]

STEPS = 32
"""Steps of the sampler, at least: the times that are looked at are on its grid too."""


class AffineScore:
    """A score model that is A_t x + b_t at the times it knows.

    Args:
        maps: t -> (A_t, b_t) on row-major x, float64.
    """

    def __init__(self, maps: Mapping[float, tuple[Float[Tensor, "n n"], Float[Tensor, " n"]]]):
        self.maps = maps

    def __call__(self, x: Float[Tensor, "batch N d"], t: Tensor | float) -> Float[Tensor, "batch N d"]:
        matrix, offset = self.maps[float(t)]
        return (x.double().flatten(1) @ matrix.T + offset).reshape(x.shape)


def best_affine(
    process: GaussianProcess, x: Float[Tensor, "n N d"], score: Float[Tensor, "n N d"], t: float
) -> tuple[Float[Tensor, "p p"], Float[Tensor, " p"]]:
    """(W, w) for which W x + w is nearest to `score` over the sequences in least squares, row-major, float64.

    With n sequences of p values the squared error exceeds that of the best affine map by about p/(n - p) of what the
    network computes that is not affine, see `probes.modes.operator`.

    Raises:
        InputError: fewer sequences than a regression needs.
    """
    coordinates = Coordinates(process, t)
    residuals = coordinates.rotated(score.double() - process.score(x.double(), t))
    fit = RegressionFit(coordinates.whitened(x), residuals)()
    q, values = torch.kron(coordinates.u, coordinates.v), coordinates.eigenvalues.flatten()
    matrix = q @ (fit.matrix * values.rsqrt() - torch.diag(1 / values)) @ q.T
    return matrix, q @ fit.offset - matrix @ coordinates.shift.flatten()


def sampler_grid(t_range: tuple[float, float], times: Sequence[float]) -> list[float]:
    """Decreasing times from t_range[1] to the least of `times`, which are all among them."""
    grid = log_time_grid((min(times), t_range[1]), STEPS)
    far = [t for t in grid if min(abs(t / known - 1) for known in times) > 1e-3]
    return sorted({*far, *times}, reverse=True)


def kl_by_time(
    model: ScoreModel, process: GaussianProcess, grid: Sequence[float], times: Sequence[float]
) -> dict[float, float]:
    """t -> KL from the law of X_t to that of the samples when the sampler on `grid` is at t, for each of `times`."""
    divergence = {}
    for t in times:
        law = discrete_law(model, process.length, process.dim, grid[: grid.index(t) + 1], "ode")
        divergence[t] = kl_divergence(marginal_law(process, t), law)
    return divergence
