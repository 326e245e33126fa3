"""Spaces in which frames of a video are generated: the cells themselves, principal components, and an autoencoder.

Each is fitted to frames and has a map there and back. Values of the cells and the components are taken relative to the
mean frame and scaled by one number, so that their mean variance is 1; those of an autoencoder each have variance 1.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unrolled.checks import require_integer

__all__ = ["Autoencoder", "LinearSpace", "Space", "fit_autoencoder", "fit_cells", "fit_components"]

HIDDEN = 64
"""Width of the two hidden layers on either side of an autoencoder."""
BATCH = 256
"""Frames in a step of its training."""
RATE = 3e-3
"""Largest learning rate."""


@runtime_checkable
class Space(Protocol):
    """Maps frames to vectors and back."""

    @property
    def dim(self) -> int: ...

    def encode(self, frames: Float[Tensor, "*batch cells"]) -> Float[Tensor, "*batch dim"]:
        """The vectors of frames, float64."""
        ...

    def decode(self, vectors: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch cells"]:
        """The frames of vectors, float64."""
        ...


class LinearSpace:
    """Frames along orthonormal directions.

    Args:
        mean: the mean frame.
        basis: orthonormal columns.
        scale: standard deviation that becomes 1.
    """

    def __init__(self, mean: Float[Tensor, " cells"], basis: Float[Tensor, "cells dim"], scale: float):
        self.mean, self.basis, self.scale = mean, basis, scale
        self.dim = basis.shape[1]

    def encode(self, frames: Float[Tensor, "*batch cells"]) -> Float[Tensor, "*batch dim"]:
        return (frames.double() - self.mean) @ self.basis / self.scale

    def decode(self, vectors: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch cells"]:
        return self.mean + self.scale * vectors.double() @ self.basis.T


def fit_cells(frames: Float[Tensor, "n cells"]) -> LinearSpace:
    """The cells themselves."""
    return LinearSpace(frames.mean(dim=0), torch.eye(frames.shape[1]).double(), float(frames.var(dim=0).mean().sqrt()))


def fit_components(frames: Float[Tensor, "n cells"], dim: int) -> LinearSpace:
    """The `dim` leading principal components.

    Raises:
        InputError: dim is not an integer from 1 to the number of cells.
    """
    require_integer("dim", dim, most=frames.shape[1])
    variances, directions = torch.linalg.eigh(torch.cov(frames.double().T))
    return LinearSpace(frames.mean(dim=0), directions[:, -dim:].flip(1), float(variances[-dim:].mean().sqrt()))


class Autoencoder(nn.Module):
    """Two small networks, there and back; parameters in float32.

    Args:
        cells: values of a frame.
        dim: values of a vector.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, cells: int, dim: int):
        super().__init__()
        self.dim = dim
        self.encoder, self.decoder = _layers(cells, dim), _layers(dim, cells)
        self.register_buffer("shift", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    @torch.no_grad()
    def encode(self, frames: Float[Tensor, "*batch cells"]) -> Float[Tensor, "*batch dim"]:
        return ((self.encoder(frames.float()) - self.shift) / self.scale).double()

    @torch.no_grad()
    def decode(self, vectors: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch cells"]:
        return self.decoder(self.shift + self.scale * vectors.float()).double()


def _layers(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(before, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, after)
    )


def fit_autoencoder(frames: Float[Tensor, "n cells"], dim: int, steps: int, seed: int) -> Autoencoder:
    """An autoencoder of least squared error, by AdamW with a one-cycle learning rate.

    Raises:
        InputError: dim or steps are not integers >= 1.
    """
    require_integer("dim", dim)
    require_integer("steps", steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Autoencoder(frames.shape[1], dim)
    generator, known = torch.Generator().manual_seed(seed), frames.float()
    optimiser = torch.optim.AdamW(made.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps + 1)
    for _ in range(steps):
        batch = known[torch.randint(len(known), (BATCH,), generator=generator)]
        loss = (made.decoder(made.encoder(batch)) - batch).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    vectors = made.encode(frames)
    made.shift, made.scale = vectors.mean(dim=0).float(), vectors.std(dim=0).float()
    return made.eval()
