"""How far an affine score and its law are from the truth, without samples, and a two-sample statistic for any law."""

import torch
from jaxtyping import Float
from torch import Tensor

from probes.modes.operator import Coordinates
from unrolled.process import GaussianProcess

__all__ = ["affine_errors", "energy_distance"]


def affine_errors(
    process: GaussianProcess, matrix: Float[Tensor, "p p"], offset: Float[Tensor, " p"], t: float
) -> tuple[float, float]:
    """Relative error of the score A x + b at X_t of the process, and the same in its longest temporal eigenmode.

    In the eigenbasis of C_t the squared error of output k is sum_j D_kj^2 c_j + m_k^2, with D that of A + C_t^{-1} and
    m that of A alpha_t mu + b; the square of the exact score is 1/c_k (derived).

    Args:
        process: of the data.
        matrix: A, row-major in (N, d), float64.
        offset: b.
        t: diffusion time.
    """
    coordinates = Coordinates(process, t)
    q, c = torch.kron(coordinates.u, coordinates.v), coordinates.eigenvalues.flatten()
    difference = (q.T @ matrix @ q) * c.sqrt() + torch.diag(c.rsqrt())
    mean = q.T @ (matrix @ coordinates.shift.flatten() + offset)
    square = (difference.square().sum(dim=1) + mean**2).reshape(coordinates.eigenvalues.shape)
    size = 1 / coordinates.eigenvalues
    return float((square.sum() / size.sum()).sqrt()), float((square[-1].sum() / size[-1].sum()).sqrt())


def energy_distance(x: Float[Tensor, "n p"], y: Float[Tensor, "m p"]) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| from two samples, without bias: on average 0 for equal laws only.

    Published: Szekely and Rizzo, J. Stat. Plan. Inference 143, 2013. An estimate may be negative.
    """

    def within(z: Tensor) -> Tensor:
        return torch.cdist(z, z).sum() / (len(z) * (len(z) - 1))

    return float(2 * torch.cdist(x, y).mean() - within(x) - within(y))
