"""Sequences that a function draws, with the interface of all data, so that a network trains on them."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import require_integer
from unrolled.process import GaussianProcess

__all__ = ["DrawnData"]

MOMENTS = 4000
"""Sequences behind the matrices of `DrawnData.gaussian`."""

Draw = Callable[[int, torch.Generator | None], Tensor]


class DrawnData:
    """Sequences of N frames of d values, from a function.

    Args:
        length: N.
        dim: d.
        draw: (n, generator) -> (n, N, d), float64 on the CPU: independent sequences, new ones at every call.
        gaussian: a process with their mean and covariance, where it is known; else it is estimated when asked for.
        description: plain values that say what they are.
    """

    kind = "drawn"
    exact = False

    def __init__(
        self,
        length: int,
        dim: int,
        draw: Draw,
        gaussian: GaussianProcess | None = None,
        description: dict[str, Any] | None = None,
    ):
        self.length, self.dim = require_integer("length", length), require_integer("dim", dim)
        self.draw, self.known, self.description = draw, gaussian, dict(description or {})

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n N d"]:
        """`n` new sequences."""
        return self.draw(n, generator)

    def training_set(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n N d"]:
        """`n` new sequences, drawn once."""
        return self.draw(n, generator)

    def sample_held_out(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n N d"]:
        """`n` new sequences: they never run out."""
        return self.draw(n, generator)

    @cached_property
    def _estimated(self) -> GaussianProcess:
        x = self.draw(MOMENTS, torch.Generator().manual_seed(0))
        mean = x.mean(dim=0)
        centred = x - mean
        temporal = torch.einsum("nia,nja->ij", centred, centred)
        frames = centred.flatten(0, 1)
        return GaussianProcess(
            self.length, temporal * (self.length / temporal.trace()), frames.T @ frames / len(frames), mean
        )

    def gaussian(self) -> GaussianProcess:
        """The Gaussian process with the known moments, or with those of 4000 sequences: their mean, and the covariances
        of frames and of values.

        Raises:
            InputError: values that depend on each other linearly.
        """
        return self.known or self._estimated

    def state(self) -> dict[str, Any]:
        """The description alone: a function is not written to a checkpoint."""
        return {"length": self.length, "dim": self.dim, "description": self.description}
