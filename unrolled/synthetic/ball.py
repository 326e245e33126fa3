"""Videos of a ball whose centre is a Gaussian process, and what of a video says where the ball is.

A frame is a square of grey cells, and the ball a Gaussian blob: at the cell with centre p its brightness is
exp(-|p - c|^2 / (2 r^2)). Places are measured in cells from the middle of the picture. Two readings of the centre:

- centroid: the first moment sum_p p f(p) over the mass 2 pi r^2 of a ball. It is linear in the frame, so its covariance
  is right in every model that has the covariance of the frames right, whatever the frames look like (derived).
- nearest: the centre of the ball that is nearest to the frame in least squares, with the distance that is left. This is
  not linear, and the distance says whether the frame shows a ball.

For a ball inside the picture both are c. The sums over cells are those of integrals up to 2 exp(-2 pi^2 r^2), 7e-6 for
r = 0.8 (Poisson summation; derived); what lies beyond the edges of the picture is missing from the first moment alone.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from unrolled.checks import require_integer, require_number
from unrolled.kernels import Matern
from unrolled.process import GaussianProcess

__all__ = ["BallVideos"]

GRID = 4
"""Places for a cell that `nearest` looks at first."""
STEPS = 20
"""Gauss-Newton steps from there."""


@dataclass(frozen=True)
class BallVideos:
    """Videos of one ball; the two coordinates of its centre are independent Matern processes."""

    length: int = 16
    """Frames in a video, N."""
    side: int = 8
    """Cells on a side of a frame."""
    lengthscale: float = 4.0
    """Lengthscale of the path of the centre, in frames."""
    smoothness: float = 1.5
    """Smoothness of the path."""
    radius: float = 0.8
    """Standard deviation r of the blob, in cells."""
    spread: float = 0.9
    """Standard deviation of either coordinate of the centre, in cells."""

    def __post_init__(self) -> None:
        require_integer("length", self.length)
        require_integer("side", self.side, 2)
        require_number("radius", self.radius, above=0)
        require_number("spread", self.spread, above=0)

    @property
    def kernel(self) -> Matern:
        """The correlation of a coordinate by lag."""
        return Matern(self.lengthscale, self.smoothness)

    @cached_property
    def process(self) -> GaussianProcess:
        """The centre: N frames of 2 values."""
        return GaussianProcess(self.length, self.kernel, self.spread**2 * torch.eye(2, dtype=torch.float64))

    @property
    def cells(self) -> int:
        """Values of a frame."""
        return self.side**2

    @property
    def places(self) -> Float[Tensor, " side"]:
        """Centres of the cells along a side, float64."""
        return torch.arange(self.side, dtype=torch.float64) - (self.side - 1) / 2

    def _profile(self, centre: Float[Tensor, "..."]) -> Float[Tensor, "... side"]:
        return torch.exp(-((self.places - centre[..., None]) ** 2) / (2 * self.radius**2))

    def render(self, centres: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch cells"]:
        """Frames of a ball at these places (row, column), cells row by row."""
        row, column = self._profile(centres[..., 0]), self._profile(centres[..., 1])
        return (row[..., :, None] * column[..., None, :]).flatten(-2)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n N cells"]:
        """`n` videos, float64."""
        return self.render(self.process.sample(n, generator))

    def centroid(self, frames: Float[Tensor, "*batch cells"]) -> Float[Tensor, "*batch 2"]:
        """The first moment of frames over the mass of a ball, in float64."""
        pictures = frames.double().unflatten(-1, (self.side, self.side))
        moments = [
            torch.einsum("...ij,i->...", pictures, self.places),
            torch.einsum("...ij,j->...", pictures, self.places),
        ]
        return torch.stack(moments, dim=-1) / (2 * torch.pi * self.radius**2)

    def nearest(
        self, frames: Float[Tensor, "*batch cells"]
    ) -> tuple[Float[Tensor, "*batch 2"], Float[Tensor, "*batch"]]:
        """(centre of the nearest ball, its distance from the frame over the norm r sqrt(pi) of a ball), in float64.

        Balls are those whose centre is inside the picture.

        The best place of a grid, then Gauss-Newton steps that are no longer than the spacing of the grid. For two balls
        of the same brightness far from each other the distance is 1, for a ball of half the brightness 0.5.
        """
        pictures = frames.double().reshape(-1, self.side, self.side)
        spacing, half = 1 / GRID, self.side / 2
        grid = torch.arange(-half, half + spacing / 2, spacing, dtype=torch.float64)
        profiles = self._profile(grid)
        norms = profiles.square().sum(dim=1)
        distance = norms[:, None] * norms - 2 * torch.einsum("ki,nij,lj->nkl", profiles, pictures, profiles)
        best = distance.flatten(1).argmin(dim=1)
        centre = torch.stack([grid[best // len(grid)], grid[best % len(grid)]], dim=1)
        for _ in range(STEPS):
            centre = (centre + self._step(pictures, centre).clamp(-spacing, spacing)).clamp(-half, half)
        residual = (pictures.flatten(1) - self.render(centre)).norm(dim=1) / (self.radius * torch.pi**0.5)
        shape = frames.shape[:-1]
        return centre.reshape(*shape, 2), residual.reshape(shape)

    def _step(self, pictures: Float[Tensor, "n side side"], centre: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
        """The Gauss-Newton step of the squared distance."""
        row, column = self._profile(centre[:, 0]), self._profile(centre[:, 1])
        offset = (self.places - centre[..., None]) / self.radius**2
        slopes = torch.stack([
            (row * offset[:, 0])[:, :, None] * column[:, None, :], row[:, :, None] * (column * offset[:, 1])[:, None, :]
        ], dim=1).flatten(2)  # (n, 2, cells)  # fmt: skip
        residual = pictures.flatten(1) - self.render(centre)
        return torch.linalg.solve(slopes @ slopes.mT, (slopes @ residual[..., None]))[..., 0]
