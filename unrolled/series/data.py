"""What the project asks of data, so that a class of your own fits without inheriting from ours."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.process import GaussianProcess

__all__ = ["SequenceData"]


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
