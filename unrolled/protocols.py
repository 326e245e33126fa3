"""What the project asks of a score model and of data, so that classes of your own fit without inheriting from ours."""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from unrolled.process import GaussianProcess

__all__ = ["ScoreModel", "SequenceData"]


@runtime_checkable
class ScoreModel(Protocol):
    """Anything called as model(x, t) -> score: x (batch, N, d), t scalar or (batch,), score like x."""

    def __call__(self, x: Float[Tensor, "batch N d"], t: Tensor | float, /) -> Float[Tensor, "batch N d"]: ...


@runtime_checkable
class SequenceData(Protocol):
    """Where clean sequences come from: a `GaussianProcess`, or the windows of a series (`SeriesData`).

    Attributes:
        length: N, frames in a sequence.
        dim: d, values in a frame.
        kind: "gaussian" or "series", which names the class in a checkpoint.
        exact: whether `gaussian()` is the true law of the data, so that its score is the exact one.
    """

    length: int
    dim: int
    kind: str
    exact: bool

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n N d"]:
        """`n` clean sequences to train on, float64, on the device of `generator` (CPU without one)."""
        ...

    def sample_held_out(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n N d"]:
        """`n` clean sequences to judge a model on, which no training sees."""
        ...

    def gaussian(self) -> "GaussianProcess":
        """The Gaussian process with the covariance of the data."""
        ...

    def state(self) -> dict[str, Any]:
        """Plain values and tensors from which the class's `from_state` makes the same data."""
        ...
