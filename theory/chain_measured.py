"""The chain of theory/chain.py beside the exact law of the model that it asks for."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from theory.chain import Chain
from unrolled.gaussian import GaussianLaw, kl_divergence, total_variation_bound
from unrolled.generated import affine_score, discrete_girsanov_bound, discrete_law, marginal_law, standard_law
from unrolled.handset import construct
from unrolled.process import GaussianProcess
from unrolled.samplers import log_time_grid

__all__ = ["Measured", "measured"]


class Measured(NamedTuple):
    """What the chain bounds, computed from laws: no sampling noise.

    Attributes:
        early: KL(p_t0 || p_0).
        terminal: KL(p_T || N(0, I)).
        paths: KL of the paths of the data and of the sampler, which is the sum of the chain's other three links.
        kl: KL(p_t0 || q_h).
        total_variation: upper bound on TV(p_0, q_h), from the two laws themselves.
    """

    early: float
    terminal: float
    paths: float
    kl: float
    total_variation: float


def measured(process: GaussianProcess, links: Chain) -> Measured:
    """Build the ReLU transformer of the chain and run its sampler, as maps of Gaussian laws, in float64.

    Raises:
        InputError: a process without a temporal kernel.
    """
    model = construct(
        process, "chebyshev", links.iterations, model="relu", truncation=links.lags, t_range=(links.t0, links.T)
    )
    grid, shape = log_time_grid((links.t0, links.T), links.steps), (process.length, process.dim)
    maps = {t: affine_score(model, *shape, t) for t in grid[:-1]}

    def score(x: Tensor, t: Any) -> Tensor:
        """The model by its affine maps: it is asked twice at every step."""
        matrix, offset = maps[t]
        return (x.flatten(1) @ matrix.T + offset).reshape(x.shape)

    samples = discrete_law(score, *shape, grid)
    stopped = marginal_law(process, links.t0)
    data = GaussianLaw(process.mean.flatten(), torch.kron(process.temporal_covariance, process.spatial_covariance))
    return Measured(
        early=kl_divergence(stopped, data),
        terminal=kl_divergence(marginal_law(process, links.T), standard_law(len(data.mean))),
        paths=discrete_girsanov_bound(score, process, grid),
        kl=kl_divergence(stopped, samples),
        total_variation=total_variation_bound(data, samples),
    )
