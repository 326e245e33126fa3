"""What the project asks of data, so that a class of your own fits without inheriting from ours."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import require_integer
from unrolled.process import GaussianProcess

__all__ = ["SequenceData", "draw_training_set"]

TRAINING_SET = 1
"""Key of the stream of random numbers that draws training sets."""


@runtime_checkable
class SequenceData(Protocol):
    """Where clean sequences come from: a `GaussianProcess`, or the windows of a series (`SeriesData`).

    Attributes:
        length: N, frames in a sequence.
        dim: d, values in a frame.
        kind: "gaussian" or "series", which names the class in a checkpoint.
        description: plain values that say what the data is; empty for a Gaussian process.
        exact: whether `gaussian()` is the true law of the data, so that its score is the exact one.
    """

    @property
    def length(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def exact(self) -> bool: ...
    @property
    def description(self) -> Mapping[str, Any]: ...

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n N d"]:
        """`n` clean sequences to train on, float64, on the device of `generator` (CPU without one)."""
        ...

    def training_set(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n N d"]:
        """`n` different sequences to train on, drawn once, float64, on the device of `generator`."""
        ...

    def sample_held_out(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n N d"]:
        """`n` clean sequences to judge a model on, which no training sees."""
        ...

    def gaussian(self) -> GaussianProcess:
        """The Gaussian process with the covariance of the data."""
        ...

    def state(self) -> dict[str, Any]:
        """Plain values and tensors from which the class's `from_state` makes the same data."""
        ...


def draw_training_set(data: SequenceData, n: int, seed: int) -> Float[Tensor, "n N d"]:
    """The `n` sequences that a model on finite data is trained on or fitted to; float64, on the CPU.

    They are a function of the data, n and the seed, the same for every kind of model. The random numbers are a stream
    of their own: those of a generator with the same seed, which batches and evaluations use, would be the same draws,
    so that a model would be judged on what it was trained on.

    Raises:
        InputError: n < 1, a negative seed, or more than the different windows of a series.
    """
    require_integer("samples", n)
    require_integer("seed", seed, 0)
    state = np.random.SeedSequence(seed, spawn_key=(TRAINING_SET,)).generate_state(1, np.uint64)
    return data.training_set(n, torch.Generator().manual_seed(int(state[0] >> 1)))
