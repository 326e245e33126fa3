"""Named subspaces of the residual stream: recipes read and write them by name, and only this file counts channels."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Stream", "Subspace", "connect"]


@dataclass(frozen=True)
class Subspace:
    """Consecutive channels of the residual stream.

    Attributes:
        name: what they hold.
        start: first channel.
        size: number of channels.
    """

    name: str
    start: int
    size: int

    @property
    def channels(self) -> slice:
        """The channels as a slice of the last dimension."""
        return slice(self.start, self.start + self.size)

    def __getitem__(self, index: int) -> "Subspace":
        """One channel of this subspace as a subspace of its own."""
        if not -self.size <= index < self.size:
            raise IndexError(f"{self.name}: channel {index} of {self.size}")
        return Subspace(f"{self.name}[{index}]", self.start + index % self.size, 1)

    def part(self, index: int, size: int) -> "Subspace":
        """The `index`-th run of `size` channels of this subspace."""
        if not 0 <= index * size <= self.size - size:
            raise IndexError(f"{self.name}: part {index} of size {size} in {self.size} channels")
        return Subspace(f"{self.name}[{index * size}:{(index + 1) * size}]", self.start + index * size, size)


class Stream:
    """An allocation of channels to names, in the order they are asked for."""

    def __init__(self, sizes: Mapping[str, int]):
        self.subspaces: dict[str, Subspace] = {}
        self.width = 0
        for name, size in sizes.items():
            self.subspaces[name] = Subspace(name, self.width, size)
            self.width += size

    def __getitem__(self, name: str) -> Subspace:
        return self.subspaces[name]


@torch.no_grad()
def connect(
    linear: nn.Linear,
    source: Subspace,
    target: Subspace,
    matrix: Float[Tensor, "target source"] | float,
) -> None:
    """Let `linear` add `matrix` times the channels of `source` to those of `target`; a number means that multiple of
    I."""
    if not isinstance(matrix, Tensor):
        matrix = matrix * torch.eye(target.size, source.size, dtype=linear.weight.dtype)
    linear.weight[target.channels, source.channels] += matrix.to(linear.weight.dtype)
