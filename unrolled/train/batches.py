"""What a training step sees: clean sequences, each with a noise and with its negative, at stratified times."""

import math
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.options import TrainConfig

__all__ = ["Batch", "Source", "generator_of", "noisy_pairs", "training_batch"]

Batch = tuple[Float[Tensor, "batch N d"], Float[Tensor, " batch"], Float[Tensor, "batch N d"]]
"""(clean sequences, diffusion times, noise)."""


@runtime_checkable
class Source(Protocol):
    """Where clean sequences are drawn from: the data of a run, or its finite training set."""

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n N d"]: ...


def training_batch(source: Source, config: TrainConfig, step: int, device: torch.device) -> Batch:
    """(clean sequences, diffusion times, noise) of one step; float32, float64, float32: a function of (seed, step)."""
    generator = generator_of((config.seed, step), device)
    return noisy_pairs(source.sample(config.batch // 2, generator).float(), config.t_range, generator)


def generator_of(entropy: tuple[int, ...], device: torch.device) -> torch.Generator:
    """A generator of its own for every tuple of integers, such as (seed, step).

    torch seeds the generator of a CPU by the lower 32 bits alone, so that seed and seed + 2^32 would be the same.
    """
    return torch.Generator(device).manual_seed(
        int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
    )


def noisy_pairs(x0: Float[Tensor, "n N d"], t_range: tuple[float, float], generator: torch.Generator) -> Batch:
    """Every sequence twice, with a noise and with its negative, at neighbouring times.

    At small t the part of the gradient's variance that is linear in the noise dominates, and the pair all but cancels
    it. Times are stratified over log t, one uniform draw in each of 2n equal cells. Neither biases the loss (measured:
    the pairs take 12 % off the score error at t = 0.01 after 600 steps, 5 % at t = 0.05, nothing from t = 1).
    """
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    batch = 2 * len(x0)
    cell = torch.arange(batch, device=x0.device)
    place = torch.rand(batch, generator=generator, dtype=torch.float64, device=x0.device)
    low, high = (math.log(t) for t in t_range)
    t = (low + (high - low) * (cell + place) / batch).exp().clamp(*t_range)
    return x0.repeat_interleave(2, dim=0), t, torch.stack([noise, -noise], dim=1).flatten(0, 1)
